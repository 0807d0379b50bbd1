//! What the two processes say about sessions that the kernel carries alone.

use serde::{Deserialize, Serialize};

use crate::intercept::address::{ClientAddr, LocalAddr, OriginalDst, UpstreamAddr};

/// Why a session stays with its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The program has not seen packets of both directions. It is looked again.
    Unseen,
    /// Octets are under way.
    Busy,
    /// A side has ended.
    Ended,
    /// One side uses timestamps, the other does not.
    Timestamps,
    /// One side uses selective acknowledgements, the other does not.
    Sack,
    /// One side uses congestion notification, the other does not.
    Ecn,
    /// One side may send larger segments than the other takes.
    Segment,
    /// The sides are of different IP versions.
    Family,
    /// The table of flows is full, or the kernel refuses a step.
    Kernel,
    /// Nothing in the kernel can take it: no program, or an older one.
    Unavailable,
    /// The server is another than the one the client meant: an entry has room for one end that changes.
    Server,
    /// The kernel wraps its packets, or stops them: IPsec, or a route with encapsulation.
    Wrapped,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Unseen,
        Self::Busy,
        Self::Ended,
        Self::Timestamps,
        Self::Sack,
        Self::Ecn,
        Self::Segment,
        Self::Family,
        Self::Kernel,
        Self::Unavailable,
        Self::Server,
        Self::Wrapped,
    ];

    /// One word, as shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Busy => "busy",
            Self::Ended => "ended",
            Self::Timestamps => "timestamps",
            Self::Sack => "sack",
            Self::Ecn => "ecn",
            Self::Segment => "segment",
            Self::Family => "family",
            Self::Kernel => "kernel",
            Self::Unavailable => "unavailable",
            Self::Server => "server",
            Self::Wrapped => "wrapped",
        }
    }

    /// Whether another attempt may succeed.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Unseen | Self::Busy)
    }
}

/// What passed in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Octets of text, those that were sent again counted again.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
}

/// How a flow ended that the kernel carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowEnd {
    /// Both sides closed in good order.
    Closed,
    /// The client reset it.
    ClientReset,
    /// The server reset it.
    ServerReset,
    /// Nothing passed for as long as the idle limit.
    Idle,
    /// An operator ended it.
    Ended,
    /// The gateway stopped, and was told to end it.
    Shutdown,
    /// A limit of its client's was reached.
    Limit,
    /// Its client was locked.
    Locked,
}

impl FlowEnd {
    /// One word, as in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClientReset => "client-reset",
            Self::ServerReset => "server-reset",
            Self::Idle => "idle",
            Self::Ended => "ended",
            Self::Shutdown => "shutdown",
            Self::Limit => "limit",
            Self::Locked => "locked",
        }
    }
}

/// The ends of the two connections that were.
///
/// No two flows are the same in all of them at the same time. A client that comes again with the same port, while the kernel still has its flow from
/// before, is another by the gateway's own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FlowEnds {
    /// Its client.
    pub client: ClientAddr,
    /// Where the client meant it to go.
    pub destination: OriginalDst,
    /// The local and the remote end of the connection with the server.
    pub upstream: Upstream,
}

/// The local and the remote end of a connection with a server.
pub type Upstream = (LocalAddr, UpstreamAddr);

/// A flow that the kernel carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedFlow {
    /// Which.
    pub ends: FlowEnds,
    /// What the client has sent since the handoff.
    pub from_client: Traffic,
    /// What the server has sent.
    pub from_server: Traffic,
}

/// What became of a flow that the kernel carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowReport {
    /// Which.
    pub ends: FlowEnds,
    /// What the client sent since the handoff.
    pub from_client: Traffic,
    /// What the server sent.
    pub from_server: Traffic,
    /// How it ended.
    pub end: FlowEnd,
}
