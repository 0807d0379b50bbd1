//! The life of a running gateway: what happens, and what is done about it.
//!
//! Owns the loop of the datapath process from the first start of the proxy to the last packet.
//! Every decision is made where it belongs; here they meet.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::actions::Actions;
use super::carrier::{Order, Word};
use super::listener::{self, ControlSocket, Listener};
use super::pid_file::PidFile;
use super::source::Source;
use super::steer::{Carried, Steering};
use super::supervise::{Event, Proxy};
use super::takeover::binary::Own;
use super::takeover::elders::{Elder, Elders};
use super::takeover::predecessor::Predecessor;
use super::takeover::successor::Successor;
use super::unsettled::Unsettled;
use super::{Error, chain};
use crate::clock;
use crate::config::file::Origin;
use crate::ipc::flow::FlowReport;
use crate::ipc::{self, DatapathStatus, ToDatapath, ToProxy, memfile};
use crate::telemetry::log::Logging;

mod answer;
mod drain;
mod notify;
mod reload;
mod signals;
mod upgrade;

pub(super) use signals::Signals;

use notify::{notify, notify_starting};
use reload::Reload;
use signals::Request;
use upgrade::{Upgrade, upgraded};

/// How often the small duties are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often the proxy is told how the kernel side is.
const STATUS: Duration = Duration::from_secs(1);
/// How often interfaces are looked at without word of a change.
const LOOK: Duration = Duration::from_secs(30);

/// Everything a running gateway holds.
pub(super) struct Datapath {
    source: Source,
    logging: Logging,
    listeners: Vec<Listener>,
    control: Option<ControlSocket>,
    steering: Option<Steering>,
    proxy: Proxy,
    actions: Actions,
    /// Whether a proxy was ready once.
    serving: bool,
    reload: Option<Reload>,
    tickets: u64,
    own: Option<Own>,
    upgrade: Option<Upgrade>,
    /// The process that serves until this one does.
    predecessor: Option<Predecessor>,
    predecessor_process: Option<OwnedFd>,
    elders: Elders,
    pid_file: Option<PidFile>,
    /// What becomes of flows that the kernel carries when the gateway stops.
    carried: Carried,
    /// Flows that are over, until the proxy has their records.
    unsettled: Unsettled,
    /// Answers for which the proxy had no room.
    late: VecDeque<ToProxy>,
    /// An operator has asked for the state file.
    state_wanted: bool,
    /// An operator has asked for the end.
    stopping: bool,
}

/// Why a gateway runs no longer.
pub(super) enum End {
    /// It was told to stop.
    Stopped,
    /// Another process serves.
    Succeeded(Successor),
}

impl Datapath {
    /// A gateway whose proxy is due to be started.
    pub(super) fn new(
        source: Source,
        logging: Logging,
        listeners: Vec<Listener>,
        control: Option<ControlSocket>,
        steering: Option<Steering>,
        proxy: Proxy,
    ) -> Self {
        Self {
            source,
            logging,
            listeners,
            control,
            steering,
            proxy,
            actions: Actions::default(),
            serving: false,
            reload: None,
            tickets: 0,
            own: Own::find(),
            upgrade: None,
            predecessor: None,
            predecessor_process: None,
            elders: Elders::default(),
            pid_file: None,
            carried: Carried::Keep,
            unsettled: Unsettled::default(),
            late: VecDeque::new(),
            state_wanted: false,
            stopping: false,
        }
    }

    /// Writes its process number where the configuration wants it.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    fn write_pid_file(&mut self) -> Result<(), Error> {
        let path = &self.source.config.process.pid_file;
        let failed = |source| Error::PidFile { path: path.display().to_string(), source };
        self.pid_file = PidFile::write(path).map_err(failed)?;
        Ok(())
    }

    /// The same, with processes that drain and the one that is to.
    pub(super) fn with_elders(mut self, elders: Vec<Elder>, process: OwnedFd) -> Self {
        elders.into_iter().for_each(|elder| self.elders.add(elder));
        self.predecessor_process = Some(process);
        self
    }

    /// The same, for a process that takes over from another one.
    pub(super) fn heir_of(mut self, predecessor: Predecessor) -> Self {
        self.predecessor = Some(predecessor);
        self
    }

    /// Whether another process serves until this one does.
    pub(super) const fn is_heir(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Runs until a signal says stop, another process serves, or the proxy does not start at all.
    pub(super) async fn run(&mut self, signals: &mut Signals) -> Result<End, Error> {
        if !self.is_heir() {
            self.write_pid_file()?;
        }
        let mut tick = ticking(TICK);
        let mut status = ticking(STATUS);
        let mut look = ticking(LOOK);
        let watchdog = sd_notify::watchdog_enabled();
        let mut fed = clock::now();
        while !self.stopping {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Stop => return Ok(End::Stopped),
                    Request::Reload if self.is_replaced() => self.upgrade(None, false).await,
                    Request::Reload => self.reload(false).await,
                    Request::Upgrade => self.upgrade(None, false).await,
                    Request::State => self.ask_state(),
                },
                result = upgraded(self.upgrade.as_mut()) => {
                    if let Some(successor) = self.upgraded(result).await {
                        return Ok(End::Succeeded(successor));
                    }
                }
                event = self.proxy.event() => self.handle(event).await?,
                event = kernel_event(self.steering.as_mut()) => match event {
                    None => self.follow().await,
                    Some(word) => self.pass_on(word).await,
                },
                report = self.actions.report() => {
                    self.proxy.mention(&ToProxy::Acted(report));
                }
                news = self.elders.news() => self.heard_of_elder(news).await,
                _ = look.tick() => self.follow().await,
                _ = status.tick() => self.report(),
                _ = tick.tick() => {
                    if let Some(steering) = &mut self.steering {
                        steering.tell(clock::now());
                    }
                    self.tell_late();
                    self.give_up_reload();
                    if watchdog.is_some_and(|limit| clock::now().saturating_duration_since(fed) >= limit / 3) {
                        fed = clock::now();
                        notify(&[NotifyState::Watchdog]);
                    }
                }
            }
        }
        Ok(End::Stopped)
    }

    async fn handle(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Due => match self.start().await {
                Err(error) if self.serving => {
                    error!(error = chain(&error), "cannot start the proxy process");
                    Ok(())
                }
                started => started,
            },
            Event::Dead(reason) => {
                // Flows first: nobody may wait for a dead process.
                self.close();
                self.late.clear();
                if !self.serving {
                    return Err(Error::NotReady(reason));
                }
                if let Some(steering) = &self.steering {
                    steering.order(Order::Pause);
                }
                let to_flows = if self.steering.is_some() { "pass or drop" } else { "wait" };
                error!(reason, to_flows, "the proxy process died");
                self.proxy.bury().await;
                Ok(())
            }
            Event::Said(ToDatapath::Ready) => match self.ready().await {
                Err(error) if self.serving => {
                    error!(error = chain(&error), "flows cannot be steered to the new proxy process");
                    Ok(())
                }
                ready => ready,
            },
            Event::Said(ToDatapath::Stop { drop_flows }) => {
                self.carried = if drop_flows { Carried::Drop } else { Carried::Keep };
                self.stopping = true;
                Ok(())
            }
            Event::Said(ToDatapath::Counted { clients, last }) => {
                if let Some(steering) = &mut self.steering {
                    steering.counted(&clients, last);
                }
                Ok(())
            }
            Event::Said(ToDatapath::ReloadRequest) => {
                self.reload(true).await;
                Ok(())
            }
            Event::Said(ToDatapath::Reloaded { ticket, problem }) => {
                self.reloaded(ticket, problem).await;
                Ok(())
            }
            Event::Said(ToDatapath::FlowsNoted { ticket }) => {
                self.unsettled.settle(ticket);
                Ok(())
            }
            Event::Said(ToDatapath::UpgradeRequest { binary }) => {
                self.upgrade(binary, true).await;
                Ok(())
            }
            Event::Said(ToDatapath::Heartbeat) if !self.serving => {
                notify_starting();
                Ok(())
            }
            Event::Said(message) => {
                self.answer(message, Vec::new());
                Ok(())
            }
            Event::Brought(message, descriptors) => {
                self.answer(message, descriptors);
                Ok(())
            }
        }
    }

    /// Tells the proxy what the thread that carries flows has said. A session waits for each
    /// answer, and each report is a session's record: both must arrive.
    async fn pass_on(&mut self, word: Word) {
        let message = match word {
            Word::Answer { ticket, refusal } => ToProxy::HandOff { ticket, refusal },
            Word::Ended(flows) => return self.tell_ended(flows).await,
            Word::Carried(flows) => ToProxy::FlowsCarried { flows },
            Word::Changed(flows) => {
                self.proxy.mention(&ToProxy::FlowsCarried { flows });
                return;
            }
            Word::Ports { number, ports } => {
                if let Some(steering) = &mut self.steering
                    && steering.hold(&self.source.config, number, ports)
                {
                    self.follow().await;
                }
                return;
            }
            Word::Settled(_) => return,
            Word::FannedOut { client, destination, servers } => {
                ToProxy::FannedOut { client, destination, servers }
            }
            Word::Clients { ticket, list } => ToProxy::Clients { ticket, list },
            Word::Over { client } => ToProxy::EndUnread { client },
        };
        if let Err(error) = self.proxy.tell(&message, &[]).await {
            debug!(error = chain(&error), "flows without a proxy");
            // A session waits for it, and its place with it.
            if matches!(message, ToProxy::HandOff { .. }) && self.proxy.is_ready() {
                self.late.push_back(message);
            }
        }
    }

    /// Tells the proxy of flows that are over; without one that serves, the next proxy.
    async fn tell_ended(&mut self, flows: Vec<FlowReport>) {
        let lost = self.unsettled.keep(flows);
        if lost > 0 {
            error!(lost, "flows are over, and no proxy process writes their records");
        }
        if self.proxy.is_ready() {
            self.tell_unsettled().await;
        }
    }

    /// Tells the proxy what it was not told yet of flows that are over, as far as it has room.
    async fn tell_unsettled(&mut self) {
        while let Some((ticket, flows)) = self.unsettled.next() {
            if let Err(error) = self.proxy.tell(&ToProxy::FlowsEnded { ticket, flows }, &[]).await {
                return debug!(error = chain(&error), "flows that are over are told later");
            }
            self.unsettled.tell(ticket);
        }
    }

    /// Tells a proxy that was behind what it must hear, as far as it has room by now.
    fn tell_late(&mut self) {
        while let Some(answer) = self.late.pop_front() {
            if !self.proxy.mention(&answer) {
                return self.late.push_front(answer);
            }
        }
        while let Some((ticket, flows)) = self.unsettled.next().filter(|_| self.proxy.is_ready()) {
            if !self.proxy.mention(&ToProxy::FlowsEnded { ticket, flows }) {
                return;
            }
            self.unsettled.tell(ticket);
        }
    }

    async fn start(&mut self) -> Result<(), Error> {
        let text = memfile::seal(&self.source.text)?;
        let first = ToProxy::Start {
            version: ipc::VERSION,
            config_path: self.source.path.display().to_string(),
            listeners: self.listeners.len(),
            control: self.control.is_some(),
            heir: self.is_heir(),
        };
        let mut descriptors = vec![text.as_fd()];
        descriptors.extend(listener::descriptors(&self.listeners, self.control.as_ref()));
        Ok(self.proxy.start(&first, &descriptors).await?)
    }

    /// A proxy serves the listeners: flows may come. Interfaces come last of all.
    async fn ready(&mut self) -> Result<(), Error> {
        self.unsettled.begin();
        self.tell_unsettled().await;
        if let Some(steering) = &mut self.steering {
            steering.open(&self.listeners)?;
            steering.order(Order::Announce);
            steering.follow(&self.source.config).await?;
        }
        self.serving = true;
        self.inherit().await;
        let origin = origin_name(self.source.config.origin);
        let restarts = self.proxy.restarts();
        info!(origin, listeners = self.listeners.len(), restarts, "intercepting");
        notify(&[NotifyState::Ready]);
        Ok(())
    }

    fn close(&mut self) {
        let Some(steering) = &mut self.steering else { return };
        if let Err(error) = steering.close() {
            error!(error = chain(&error), "cannot take the listeners from the kernel");
        }
    }

    async fn follow(&mut self) {
        if !self.serving {
            return;
        }
        let Some(steering) = &mut self.steering else { return };
        if let Err(error) = steering.follow(&self.source.config).await {
            warn!(error = chain(&error), "cannot follow the interfaces");
        }
    }

    fn report(&mut self) {
        let (draining_processes, draining_sessions) = self.elders.count();
        let mut status = DatapathStatus {
            origin: origin_name(self.source.config.origin).to_owned(),
            proxy_restarts: self.proxy.restarts(),
            draining_processes,
            draining_sessions,
            ..DatapathStatus::default()
        };
        if let Some(steering) = &mut self.steering {
            steering.report(&mut status);
        }
        self.proxy.mention(&ToProxy::Status(status));
    }
}

/// The word of an origin in the configuration.
const fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Assign => "assign",
        Origin::Netfilter => "netfilter",
        Origin::Fixed => "fixed",
        Origin::Proxy => "proxy",
        Origin::RemoteUdp => "remote-udp",
        Origin::Remote => "remote",
    }
}

fn ticking(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn kernel_event(steering: Option<&mut Steering>) -> Option<Word> {
    match steering {
        Some(steering) => steering.event().await,
        None => std::future::pending().await,
    }
}
