//! What the two processes say to each other.
//!
//! The datapath process (privileged, reads no mail) and the proxy process (unprivileged) share a
//! `SOCK_SEQPACKET` pair: one packet, one JSON message, descriptors by `SCM_RIGHTS`. The proxy is
//! the less trusted side: the datapath checks all it says.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::flow::FlowFacts;

pub mod channel;
pub mod client;
pub mod flow;
pub mod lock;
pub mod memfile;
pub mod offender;

pub use channel::{Channel, Error};

/// Version of these messages; both processes are of one binary, but an upgrade may mix two.
pub const VERSION: u32 = 9;

/// Flows that one [`ToDatapath::LookUp`] asks about: the answer fits into a message.
pub const LOOK_UPS: usize = 64;

/// From the datapath process to the proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToProxy {
    /// First message. Descriptors: the configuration as a memory file, the listeners in order of
    /// `listeners`, then the control socket's listener if `control`.
    Start {
        /// [`VERSION`].
        version: u32,
        /// Path of the configuration, for messages.
        config_path: String,
        /// How many listeners come along.
        listeners: usize,
        /// Whether the control socket's listener comes along.
        control: bool,
        /// Whether another proxy serves until this one does, and tells of the locks it has changed.
        heir: bool,
    },
    /// A changed configuration that the datapath process found good. Descriptor: the
    /// configuration as a memory file.
    Reload {
        /// Answered by [`ToDatapath::Reloaded`].
        ticket: u64,
    },
    /// Why [`ToDatapath::ReloadRequest`] was not followed by [`Self::Reload`]: the file is bad.
    ReloadRefused {
        /// All problems, as `gateway check` prints them.
        problems: String,
    },
    /// Answer to [`ToDatapath::LookUp`].
    Facts {
        /// The question's ticket.
        ticket: u64,
        /// What the kernel noted of each, in the order of the question, unless it was lost.
        facts: Vec<Option<FlowFacts>>,
    },
    /// Answer to [`ToDatapath::HandOff`].
    HandOff {
        /// The question's ticket.
        ticket: u64,
        /// Why the sockets are as they were; `None`: they are connected no more.
        refusal: Option<flow::Refusal>,
    },
    /// Flows that the kernel carried and that are over.
    FlowsEnded {
        /// Comes back in [`ToDatapath::FlowsNoted`].
        ticket: u64,
        /// A few at a time.
        flows: Vec<flow::FlowReport>,
    },
    /// Answer to [`ToDatapath::LockHits`].
    LockHits {
        /// The question's ticket.
        ticket: u64,
        /// In the order of the question.
        hits: Vec<lock::Hits>,
    },
    /// What became of [`ToDatapath::UpgradeRequest`].
    Upgraded {
        /// Who serves from here on, or why this process goes on.
        outcome: Result<Upgraded, String>,
    },
    /// Take no more flows and requests; serve open sessions to their end, however long that takes,
    /// then leave. Sessions that the kernel carries are another proxy's.
    Retire,
    /// Answer to [`ToDatapath::ListClients`].
    Clients {
        /// The question's ticket.
        ticket: u64,
        /// The list.
        list: client::ClientList,
    },
    /// A client wanted to go beyond its limit of destinations, and was not let in: it may be locked.
    FannedOut {
        /// The client.
        client: ClientAddr,
        /// The destination that was one too many.
        destination: OriginalDst,
        /// About how many it had reached in the period.
        servers: u32,
    },
    /// End the sessions of a client that pass unread and have sockets: it is over its limit.
    EndUnread {
        /// Its addresses.
        client: IpNet,
    },
    /// Flows that the kernel carries: all of them to a proxy that is new, and from then on those that
    /// have changed. The proxy makes a place for those it does not know.
    FlowsCarried {
        /// A few at a time.
        flows: Vec<flow::CarriedFlow>,
    },
    /// What a proxy that retires has changed of the locks: the table is this one's.
    LockChanges {
        /// At most [`lock::CHANGES`].
        changes: Vec<lock::LockChange>,
        /// Whether these were the last of those before it retired.
        whole: bool,
    },
    /// What became of the script for [`ToDatapath::Offender`].
    Acted(offender::Report),
    /// How the kernel side is, every second.
    Status(DatapathStatus),
    /// Say how the gateway is, for the state file.
    StateWanted,
    /// Take no more flows, let open sessions end, then leave. Flows that are still carried go on.
    Drain,
}

/// From the proxy to the datapath process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToDatapath {
    /// Privileges are dropped, listeners are served.
    Ready,
    /// Alive; every second. Two seconds without one count as dead.
    Heartbeat,
    /// What did the kernel note of these flows? At most [`LOOK_UPS`].
    LookUp {
        /// Comes back in [`ToProxy::Facts`].
        ticket: u64,
        /// The client and the original destination of each.
        flows: Vec<(ClientAddr, OriginalDst)>,
        /// Nobody wants to know what is counted of their clients.
        #[serde(default)]
        without_clients: bool,
    },
    /// Carry this session in the kernel. Descriptors: the connection with the client, and the one
    /// with the server; the proxy touches neither before it has the answer.
    HandOff {
        /// Comes back in [`ToProxy::HandOff`].
        ticket: u64,
    },
    /// The records of the flows in [`ToProxy::FlowsEnded`] with this ticket are written, and those of
    /// all before: whoever comes after this proxy need not hear of them.
    FlowsNoted {
        /// The last ticket.
        ticket: u64,
    },
    /// End a flow that the kernel carries, at once: both ends are reset.
    EndFlow {
        /// The flow's client.
        client: ClientAddr,
        /// The flow's original destination.
        destination: OriginalDst,
    },
    /// Change what is locked.
    Lock(lock::LockOrder),
    /// A client was locked: run the configured script. Comes back in [`ToProxy::Acted`].
    Offender(Box<offender::Offender>),
    /// An operator asks the gateway to stop.
    Stop {
        /// Whether flows that the kernel carries are ended.
        drop_flows: bool,
    },
    /// What was counted of the locks of these networks? At most [`lock::BATCH`] of them.
    LockHits {
        /// Comes back in [`ToProxy::LockHits`].
        ticket: u64,
        /// The networks.
        nets: Vec<IpNet>,
    },
    /// What the proxy knows of clients, a few at a time, every other second.
    Counted {
        /// Clients with open sessions or failed connections.
        clients: Vec<client::ClientCount>,
        /// Whether these were the last ones.
        last: bool,
    },
    /// From here on the octets of this flow pass unread.
    Unread {
        /// The flow's client.
        client: ClientAddr,
        /// The flow's original destination.
        destination: OriginalDst,
    },
    /// What did the kernel count of clients?
    ListClients {
        /// Comes back in [`ToProxy::Clients`].
        ticket: u64,
        /// The order of the list.
        sort: client::ClientSort,
        /// How many are wanted.
        most: usize,
    },
    /// An operator asks for a reload.
    ReloadRequest,
    /// An operator asks for an upgrade.
    UpgradeRequest {
        /// The file to start; absent: the one this release was started from.
        binary: Option<PathBuf>,
    },
    /// What this proxy, which retires, has changed of the locks.
    LockChanges {
        /// At most [`lock::CHANGES`].
        changes: Vec<lock::LockChange>,
        /// Whether these were the last of those before it retired.
        whole: bool,
    },
    /// Sessions that are open in a proxy that retires, every second.
    Draining {
        /// Those with sockets.
        sessions: u64,
    },
    /// Answer to [`ToProxy::StateWanted`]. Descriptor: the text as a memory file.
    State,
    /// The reload with this ticket is in force, or why not.
    Reloaded {
        /// The reload's ticket.
        ticket: u64,
        /// Why not.
        problem: Option<String>,
    },
}

/// The process that took over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// Its number.
    pub pid: u32,
    /// Its release.
    pub release: String,
}

/// How the kernel side is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatapathStatus {
    /// `assign`, `netfilter` or `fixed`.
    pub origin: String,
    /// How the program is attached: `tcx`, `clsact`, or empty.
    pub attach: String,
    /// Interfaces the program is attached to.
    pub interfaces: Vec<String>,
    /// Packets by reason since start, in the order of the reasons.
    pub packets: Vec<(String, u64)>,
    /// How often the proxy process was restarted.
    pub proxy_restarts: u64,
    /// Older datapath processes that let their sessions end.
    #[serde(default)]
    pub draining_processes: u64,
    /// The sessions of those.
    #[serde(default)]
    pub draining_sessions: u64,
    /// What the kernel knows of clients; none where it counts nothing of them.
    #[serde(default)]
    pub clients: Option<client::ClientTotals>,
}
