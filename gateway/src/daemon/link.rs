//! The proxy's end of the channel to the datapath process.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::threads::Pulse;
use crate::config::Config;
use crate::handoff::kernel;
use crate::hooks::Hooks;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::facts::{Asked, Question};
use crate::ipc::client::{COUNTS, ClientList};
use crate::ipc::flow::{CarriedFlow, FlowReport, Refusal};
use crate::ipc::lock::{Hits, LockOrder};
use crate::ipc::offender::Offender;
use crate::ipc::{Channel, DatapathStatus, ToDatapath, ToProxy, Upgraded, memfile};
use crate::locks::{self, Locks};
use crate::session::direct::FlowName;
use crate::session::table::SessionTable;
use crate::under_way::UnderWay;

mod heard;
mod operator;

pub(super) use operator::Operator;

use operator::{Answer, Wish};

/// How often the proxy says that it is alive.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(500);
/// How often the datapath process is told what clients have open.
const COUNT: Duration = Duration::from_secs(2);
/// Messages with questions about flows that are remembered until they are answered.
const UNANSWERED: usize = 64;

/// Handoffs under way at once: so few that neither process waits for room to answer.
const HANDING_OFF: usize = 64;

/// How the two processes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parted {
    /// The gateway stops.
    Drain,
    /// The datapath process is gone: nothing steers the open flows any more.
    Lost,
}

/// The channel and what waits for its answers.
pub(super) struct Link {
    channel: Channel,
    questions: mpsc::Receiver<Question>,
    wishes: mpsc::Receiver<Wish>,
    status: watch::Sender<DatapathStatus>,
    unanswered: HashMap<u64, Vec<Asked>>,
    listing: HashMap<u64, oneshot::Sender<ClientList>>,
    reloading: Vec<Answer<()>>,
    upgrading: Vec<Answer<Upgraded>>,
    retired: watch::Sender<bool>,
    under_way: UnderWay,
    kernel: KernelRequests,
    handing_off: HashMap<u64, oneshot::Sender<Option<Refusal>>>,
    counting: HashMap<u64, oneshot::Sender<Vec<Hits>>>,
    direct: Box<dyn Fn(FlowNews) + Send>,
    table: Arc<SessionTable>,
    ticket: u64,
    /// The last one before the last sign of life.
    overdue: u64,
    /// The last ticket of flows whose records are written, of which the datapath process is not told yet.
    noted: Option<u64>,
}

/// What is asked of the kernel program's side.
pub(super) struct KernelRequests {
    /// Sessions to be handed off.
    pub(super) sessions: mpsc::Receiver<kernel::Question>,
    /// Flows to be ended.
    pub(super) ends: mpsc::Receiver<FlowName>,
    /// Changes of locks, and questions about them.
    pub(super) locks: mpsc::Receiver<locks::Request>,
    /// All locks, which are told at the start.
    pub(super) held: Arc<Locks>,
    /// Clients that were locked, for the operator's script.
    pub(super) offenders: mpsc::Receiver<Box<Offender>>,
    /// Who hears how the script has ended.
    pub(super) hooks: Arc<Hooks>,
}

/// What is heard of flows that have no task here.
pub(super) enum FlowNews {
    /// They go on.
    Carried(Vec<CarriedFlow>),
    /// They are over.
    Ended(Vec<FlowReport>),
    /// One was not let in, for its client would have gone beyond its limit of destinations.
    FannedOut {
        /// The client.
        client: ClientAddr,
        /// The destination.
        destination: OriginalDst,
        /// About how many it had reached.
        servers: u32,
    },
}

/// Makes the link, which tells `direct` of flows that the kernel carries, counts the sessions
/// `under_way` for a successor, and tells `retired` when there is one; the view of the datapath
/// process, and the way to ask it.
pub(super) fn make(
    channel: Channel,
    questions: mpsc::Receiver<Question>,
    kernel: KernelRequests,
    direct: Box<dyn Fn(FlowNews) + Send>,
    table: Arc<SessionTable>,
    retired: watch::Sender<bool>,
    under_way: UnderWay,
) -> (Link, watch::Receiver<DatapathStatus>, Operator) {
    let (status, seen) = watch::channel(DatapathStatus::default());
    let (wishes, asked) = mpsc::channel(8);
    let link = Link {
        channel,
        questions,
        wishes: asked,
        status,
        unanswered: HashMap::new(),
        listing: HashMap::new(),
        table,
        reloading: Vec::new(),
        upgrading: Vec::new(),
        retired,
        under_way,
        kernel,
        handing_off: HashMap::new(),
        counting: HashMap::new(),
        direct,
        ticket: 0,
        overdue: 0,
        noted: None,
    };
    (link, seen, Operator { wishes })
}

impl Link {
    /// Speaks with the datapath process until it lets go; `reload` puts a configuration in force,
    /// or hears why there is none; `state` is the text of the state file. It gives signs of life while the
    /// `pulse` beats.
    pub(super) async fn serve(
        mut self,
        config_path: &str,
        reload: impl Fn(Result<Config, String>) -> Result<(), String>,
        state: impl Fn() -> String,
        mut pulse: Pulse,
    ) -> Parted {
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = interval(COUNT);
        count.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Locks first: whoever is held off must not find an open door.
        let mut sent = self.enforce(self.kernel.held.snapshot()).await;
        sent = sent && self.send(&ToDatapath::Ready).await;
        while sent {
            sent = tokio::select! {
                received = self.channel.receive::<ToProxy>() => match received {
                    Ok(Some((ToProxy::Drain, _))) => return Parted::Drain,
                    Ok(Some((ToProxy::StateWanted, _))) => self.tell_state(&state()).await,
                    Ok(Some((message, descriptors))) => {
                        self.heard(message, descriptors, config_path, &reload).await
                    }
                    Ok(None) => false,
                    Err(error) => {
                        tracing::warn!(%error, "the datapath process cannot be understood");
                        true
                    }
                },
                Some(question) = self.questions.recv() => self.ask(question).await,
                Some(question) = self.kernel.sessions.recv(), if self.handing_off.len() < HANDING_OFF => self.hand_off(question).await,
                Some((client, destination)) = self.kernel.ends.recv() => {
                    self.send(&ToDatapath::EndFlow { client, destination }).await
                }
                Some(request) = self.kernel.locks.recv() => self.lock(request).await,
                Some(offender) = self.kernel.offenders.recv() => self.send(&ToDatapath::Offender(offender)).await,
                Some(wish) = self.wishes.recv() => self.wish(wish).await,
                _ = count.tick() => self.count().await,
                _ = beat.tick() => {
                    self.give_up();
                    self.tell_noted();
                    if pulse.beats() { self.send(&self.sign_of_life()).await } else { true }
                }
            };
        }
        Parted::Lost
    }

    async fn wish(&mut self, wish: Wish) -> bool {
        match wish {
            Wish::Reload(done) => {
                self.reloading.push(done);
                self.send(&ToDatapath::ReloadRequest).await
            }
            Wish::Upgrade(binary, done) => {
                self.upgrading.push(done);
                self.send(&ToDatapath::UpgradeRequest { binary }).await
            }
            Wish::Stop { drop_flows } => self.send(&ToDatapath::Stop { drop_flows }).await,
        }
    }

    fn sign_of_life(&self) -> ToDatapath {
        if *self.retired.borrow() {
            ToDatapath::Draining { sessions: self.under_way.count() }
        } else {
            ToDatapath::Heartbeat
        }
    }

    async fn ask(&mut self, question: Question) -> bool {
        self.ticket = self.ticket.wrapping_add(1);
        let ticket = self.ticket;
        let message = match question {
            Question::Flows { asked, with_clients } => {
                if self.unanswered.len() >= UNANSWERED {
                    return true;
                }
                let flows = asked.iter().map(Asked::flow).collect();
                self.unanswered.insert(ticket, asked);
                ToDatapath::LookUp { ticket, flows, without_clients: !with_clients }
            }
            Question::Unread { client, destination } => ToDatapath::Unread { client, destination },
            Question::Clients { sort, most, answer } => {
                self.listing.retain(|_, answer| !answer.is_closed());
                self.listing.insert(ticket, answer);
                ToDatapath::ListClients { ticket, sort, most }
            }
        };
        self.send(&message).await
    }

    /// Answers what the datapath process has not answered for one to two beats: records wait for it, and where one
    /// process is far behind answers may be lost.
    fn give_up(&mut self) {
        let overdue = std::mem::replace(&mut self.overdue, self.ticket);
        self.unanswered.retain(|ticket, _| *ticket > overdue);
    }

    /// Tells what this process alone knows of clients.
    async fn count(&self) -> bool {
        let counts = self.table.counts();
        let mut parts = counts.chunks(COUNTS).peekable();
        loop {
            let clients = parts.next().unwrap_or_default().to_vec();
            let last = parts.peek().is_none();
            if !self.send(&ToDatapath::Counted { clients, last }).await {
                return false;
            }
            if last {
                return true;
            }
        }
    }

    async fn lock(&mut self, request: locks::Request) -> bool {
        match request {
            locks::Request::Order(order) => self.send(&ToDatapath::Lock(order)).await,
            locks::Request::Bequeath { changes, whole } => {
                self.send(&ToDatapath::LockChanges { changes, whole }).await
            }
            locks::Request::Hits { nets, answer } => {
                self.counting.retain(|_, answer| !answer.is_closed());
                self.ticket = self.ticket.wrapping_add(1);
                self.counting.insert(self.ticket, answer);
                self.send(&ToDatapath::LockHits { ticket: self.ticket, nets }).await
            }
        }
    }

    async fn enforce(&self, orders: Vec<LockOrder>) -> bool {
        for order in orders {
            if !self.send(&ToDatapath::Lock(order)).await {
                return false;
            }
        }
        true
    }

    async fn hand_off(&mut self, question: kernel::Question) -> bool {
        self.ticket = self.ticket.wrapping_add(1);
        let ticket = self.ticket;
        let kernel::Question { client, server, answer } = question;
        self.handing_off.insert(ticket, answer);
        let descriptors = [client.as_fd(), server.as_fd()];
        self.channel.send(&ToDatapath::HandOff { ticket }, &descriptors).await.is_ok()
    }

    async fn tell_state(&self, text: &str) -> bool {
        match memfile::seal(text) {
            Ok(file) => self.channel.send(&ToDatapath::State, &[file.as_fd()]).await.is_ok(),
            Err(error) => {
                tracing::warn!(%error, "cannot tell the state");
                true
            }
        }
    }

    /// Says which records are written, unless the datapath process is behind: it may be telling of more
    /// flows, and read nothing until they are told.
    fn tell_noted(&mut self) {
        if let Some(ticket) = self.noted
            && matches!(self.channel.try_send(&ToDatapath::FlowsNoted { ticket }), Ok(true))
        {
            self.noted = None;
        }
    }

    /// False when nobody is there any more.
    async fn send(&self, message: &ToDatapath) -> bool {
        self.channel.send(message, &[]).await.is_ok()
    }
}
