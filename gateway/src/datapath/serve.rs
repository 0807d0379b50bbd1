//! The life of a running gateway: what happens, and what is done about it.
//!
//! Owns the loop of the datapath process from the first start of the proxy to the last packet.
//! Every decision is made where it belongs; here they meet.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::carrier::{Order, Word};
use super::handoff::Refusal;
use super::listener::{self, ControlSocket, Listener};
use super::source::Source;
use super::steer::Steering;
use super::supervise::{Event, Proxy};
use super::{Error, chain};
use crate::clock;
use crate::config::file::Origin;
use crate::ipc::{self, DatapathStatus, ToDatapath, ToProxy, memfile};
use crate::telemetry::log::Logging;

/// How often the small duties are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often the proxy is told how the kernel side is.
const STATUS: Duration = Duration::from_secs(1);
/// How often interfaces are looked at without word of a change.
const LOOK: Duration = Duration::from_secs(30);
/// How long the proxy may take to let open sessions end when the gateway stops.
const DRAIN: Duration = Duration::from_secs(20);
/// How long the proxy may take to answer a reload.
const RELOAD: Duration = Duration::from_secs(10);
/// Octets of a list of problems that fit into a message whatever they are.
const PROBLEMS: usize = 16 * 1024;

/// The signals an operator or a service manager sends.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Catches them from here on.
    pub(super) fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hang_up.recv() => Request::Reload,
        }
    }
}

/// What a signal asks for.
enum Request {
    Stop,
    Reload,
}

/// A reload that the proxy has not answered.
struct Reload {
    ticket: u64,
    source: Source,
    deadline: Instant,
}

/// Everything a running gateway holds.
pub(super) struct Datapath {
    source: Source,
    logging: Logging,
    listeners: Vec<Listener>,
    control: Option<ControlSocket>,
    steering: Option<Steering>,
    proxy: Proxy,
    /// Whether a proxy was ready once.
    serving: bool,
    reload: Option<Reload>,
    tickets: u64,
}

impl Datapath {
    /// A gateway whose proxy is due to be started.
    pub(super) const fn new(
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
            serving: false,
            reload: None,
            tickets: 0,
        }
    }

    /// Runs until a signal says stop, or the proxy does not start at all. Then [`Self::stop`] is due.
    pub(super) async fn run(&mut self, signals: &mut Signals) -> Result<(), Error> {
        let mut tick = ticking(TICK);
        let mut status = ticking(STATUS);
        let mut look = ticking(LOOK);
        let watchdog = sd_notify::watchdog_enabled();
        let mut fed = clock::now();
        loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Stop => return Ok(()),
                    Request::Reload => self.reload(false).await,
                },
                event = self.proxy.event() => self.handle(event).await?,
                event = kernel_event(self.steering.as_mut()) => match event {
                    None => self.follow().await,
                    Some(word) => self.pass_on(word).await,
                },
                _ = look.tick() => self.follow().await,
                _ = status.tick() => self.report(),
                _ = tick.tick() => {
                    if let Some(steering) = &mut self.steering {
                        steering.tell(clock::now());
                    }
                    self.give_up_reload();
                    if watchdog.is_some_and(|limit| clock::now().saturating_duration_since(fed) >= limit / 3) {
                        fed = clock::now();
                        notify(&[NotifyState::Watchdog]);
                    }
                }
            }
        }
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
                if !self.serving {
                    return Err(Error::NotReady(reason));
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
            Event::Said(ToDatapath::Heartbeat) => Ok(()),
            Event::Said(ToDatapath::LookUp { ticket, client, destination }) => {
                let facts = self.steering.as_ref().and_then(|steering| steering.facts(client, destination));
                self.proxy.mention(&ToProxy::Facts { ticket, facts });
                Ok(())
            }
            Event::Brought(ToDatapath::HandOff { ticket }, descriptors) => {
                self.hand_off(ticket, descriptors);
                Ok(())
            }
            // Without its sockets, or with descriptors that nobody asked for.
            Event::Said(ToDatapath::HandOff { ticket }) => {
                self.hand_off(ticket, Vec::new());
                Ok(())
            }
            Event::Brought(..) => Ok(()),
            Event::Said(ToDatapath::EndFlow { client, destination }) => {
                if let Some(steering) = &self.steering {
                    steering.order(Order::End { client, destination });
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
        }
    }

    /// A proxy that sends other descriptors than it says only harms itself.
    fn hand_off(&self, ticket: u64, descriptors: Vec<OwnedFd>) {
        let pair: Result<[OwnedFd; 2], _> = descriptors.try_into();
        match (&self.steering, pair) {
            (Some(steering), Ok([client, server])) => {
                steering.order(Order::HandOff { ticket, client, server });
            }
            _ => {
                let refusal = Some(Refusal::Unavailable);
                self.proxy.mention(&ToProxy::HandOff { ticket, refusal });
            }
        }
    }

    /// Tells the proxy what the thread that carries flows has said. A session waits for each
    /// answer, and each report is a session's record: both must arrive.
    async fn pass_on(&self, word: Word) {
        let message = match word {
            Word::Answer { ticket, refusal } => ToProxy::HandOff { ticket, refusal },
            Word::Ended(flows) => ToProxy::FlowsEnded { flows },
        };
        if let Err(error) = self.proxy.tell(&message, &[]).await {
            debug!(error = chain(&error), "flows without a proxy");
        }
    }

    async fn start(&mut self) -> Result<(), Error> {
        let text = memfile::seal(&self.source.text)?;
        let first = ToProxy::Start {
            version: ipc::VERSION,
            config_path: self.source.path.display().to_string(),
            listeners: self.listeners.len(),
            control: self.control.is_some(),
        };
        let mut descriptors = vec![text.as_fd()];
        descriptors.extend(listener::descriptors(&self.listeners, self.control.as_ref()));
        Ok(self.proxy.start(&first, &descriptors).await?)
    }

    /// A proxy serves the listeners: flows may come. Interfaces come last of all.
    async fn ready(&mut self) -> Result<(), Error> {
        if let Some(steering) = &mut self.steering {
            steering.open(&self.listeners)?;
            steering.follow(&self.source.config).await?;
        }
        self.serving = true;
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

    fn report(&self) {
        let mut status = DatapathStatus {
            origin: origin_name(self.source.config.origin).to_owned(),
            proxy_restarts: self.proxy.restarts(),
            ..DatapathStatus::default()
        };
        if let Some(steering) = &self.steering {
            steering.report(&mut status);
        }
        self.proxy.mention(&ToProxy::Status(status));
    }

    /// Reads the configuration again and hands a good one to the proxy; what is wrong with a bad
    /// one goes to the log, and to the operator who `asked` over the control socket.
    async fn reload(&mut self, asked: bool) {
        let new = match self.source.reread() {
            Ok(new) => new,
            Err(error) => {
                let problems = shorten(chain(&error));
                error!(problems, "the configuration is refused; the old one stays in force");
                if asked {
                    self.proxy.mention(&ToProxy::ReloadRefused { problems });
                }
                return;
            }
        };
        if !self.proxy.is_ready() {
            // The next proxy starts with it.
            self.adopt(new).await;
            return;
        }
        notify_reloading();
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        if let Err(error) = self.hand_over(ticket, &new).await {
            error!(error = chain(&error), "the new configuration does not reach the proxy process");
            notify(&[NotifyState::Ready]);
            return;
        }
        self.reload = Some(Reload { ticket, source: new, deadline: clock::now() + RELOAD });
    }

    async fn hand_over(&self, ticket: u64, source: &Source) -> Result<(), Error> {
        let text = memfile::seal(&source.text)?;
        let descriptors = [text.as_fd()];
        Ok(self.proxy.tell(&ToProxy::Reload { ticket }, &descriptors).await?)
    }

    async fn reloaded(&mut self, ticket: u64, problem: Option<String>) {
        let Some(reload) = self.reload.take_if(|reload| reload.ticket == ticket) else { return };
        match problem {
            None => self.adopt(reload.source).await,
            Some(problem) => {
                error!(problem, "the proxy process refuses the configuration; the old one stays in force");
            }
        }
        notify(&[NotifyState::Ready]);
    }

    /// Puts this process's part of a configuration in force.
    async fn adopt(&mut self, new: Source) {
        if let Some(steering) = &mut self.steering
            && let Err(error) = steering.configure(&new.config)
        {
            error!(error = chain(&error), "the kernel refuses a part of the configuration");
        }
        if let Err(error) = self.logging.reload(&new.config.log) {
            warn!(%error, "cannot change the log level");
        }
        for warning in &new.warnings.list {
            warn!(line = warning.line, message = warning.message, "configuration");
        }
        self.source = new;
        self.follow().await;
        info!(path = %self.source.path.display(), "the configuration is in force");
    }

    fn give_up_reload(&mut self) {
        if self.reload.take_if(|reload| reload.deadline <= clock::now()).is_some() {
            error!("the proxy process does not answer to the new configuration; the old one stays in force");
            notify(&[NotifyState::Ready]);
        }
    }

    /// Lets open sessions end, for a while and unless a second request to stop comes; then takes
    /// everything away.
    pub(super) async fn stop(mut self, signals: &mut Signals) {
        notify(&[NotifyState::Stopping]);
        self.close();
        if self.proxy.is_ready() {
            info!("stopping: open sessions may end");
            self.drain(signals).await;
        }
        self.proxy.kill().await;
        if let Some(steering) = self.steering.take() {
            steering.stop().await;
        }
        drop(self.control.take());
        info!("stopped");
    }

    async fn drain(&mut self, signals: &mut Signals) {
        if self.proxy.tell(&ToProxy::Drain, &[]).await.is_err() {
            return;
        }
        let mut deadline = std::pin::pin!(tokio::time::sleep(DRAIN));
        let mut tick = ticking(TICK);
        loop {
            tokio::select! {
                Request::Stop = signals.next() => {
                    info!("stopping at once");
                    return;
                }
                () = &mut deadline => {
                    warn!("some sessions did not end in time");
                    return;
                }
                _ = tick.tick() => notify(&[NotifyState::Watchdog]),
                () = self.proxy.ended() => return,
            }
        }
    }
}

/// The word of an origin in the configuration.
const fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Assign => "assign",
        Origin::Netfilter => "netfilter",
        Origin::Fixed => "fixed",
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

/// Tells systemd, where it wants to know (`sd_notify(3)`).
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "cannot notify systemd");
    }
}

fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "cannot notify systemd"),
    }
}

/// A text that fits into a message.
fn shorten(mut text: String) -> String {
    if text.len() > PROBLEMS {
        text.truncate(text.floor_char_boundary(PROBLEMS));
        text.push_str("\n…");
    }
    text
}
