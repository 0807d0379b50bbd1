//! What the two processes say about clients.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Clients of whom the proxy tells in one message.
pub const COUNTS: usize = 1_000;
/// Clients that one list holds at most, so that it fits into a message.
pub const LISTED: usize = 200;

/// What the proxy knows of a client's address, and the kernel cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCount {
    /// The address.
    pub client: IpAddr,
    /// Open sessions.
    pub open: u32,
    /// Connections to servers that failed since the last time.
    pub failed: u32,
}

/// By what a list of clients is ordered: the largest number first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClientSort {
    /// Open sessions.
    Open,
    /// Sessions of both periods.
    #[default]
    Sessions,
    /// Octets of both periods.
    Bytes,
    /// Distinct destinations in one period.
    FanOut,
    /// SYNs of both periods.
    Syns,
    /// Failed connections of both periods.
    Failed,
}

impl ClientSort {
    /// All of them, in the order of columns.
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Sessions, Self::Bytes, Self::FanOut, Self::Syns, Self::Failed];

    /// The name in requests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sessions => "sessions",
            Self::Bytes => "bytes",
            Self::FanOut => "fan-out",
            Self::Syns => "syns",
            Self::Failed => "failed",
        }
    }

    /// The number by which a client is placed.
    #[must_use]
    pub fn of(self, client: &ClientView) -> u64 {
        let (now, before) = (&client.current, &client.previous);
        let sum = |of: fn(&PeriodView) -> u32| u64::from(of(now)) + u64::from(of(before));
        match self {
            Self::Open => client.open.into(),
            Self::Sessions => sum(|period| period.sessions),
            Self::Bytes => now.octets().saturating_add(before.octets()),
            Self::FanOut => now.destinations.max(before.destinations).into(),
            Self::Syns => sum(|period| period.syns),
            Self::Failed => sum(|period| period.failed),
        }
    }
}

/// What was counted in one period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodView {
    /// SYNs, those that were sent again and those that were refused counted.
    pub syns: u32,
    /// Handshakes completed.
    pub sessions: u32,
    /// About how many distinct destinations.
    pub destinations: u32,
    /// Connections of the proxy to servers that failed.
    pub failed: u32,
    /// Octets of text in packets from the client.
    pub from_client: u64,
    /// Octets of text in packets to it.
    pub from_server: u64,
    /// The limits that the client wanted to go beyond.
    pub excess: Vec<String>,
}

impl PeriodView {
    /// Octets both ways.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.from_client.saturating_add(self.from_server)
    }
}

/// A client as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// Its address, or its network.
    pub client: IpNet,
    /// Open sessions.
    pub open: u32,
    /// The current period.
    pub current: PeriodView,
    /// The one before.
    pub previous: PeriodView,
    /// SYNs since it was first seen.
    pub syns: u64,
    /// Sessions since then.
    pub sessions: u64,
    /// Octets since then, both ways.
    pub octets: u64,
    /// Since its last packet.
    pub idle: Duration,
}

impl ClientView {
    /// Its address, or its network where that is more than one address.
    #[must_use]
    pub fn name(&self) -> String {
        if self.client.prefix_len() == self.client.max_prefix_len() {
            self.client.addr().to_string()
        } else {
            self.client.to_string()
        }
    }
}

/// A list of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientList {
    /// How many the kernel has in mind; more than are listed when there are many.
    pub known: usize,
    /// Length of a period.
    pub period: Duration,
    /// The first ones in the order that was asked for.
    pub clients: Vec<ClientView>,
}

/// What is known of all clients together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTotals {
    /// How many the kernel has in mind; `None`: not counted yet.
    pub known: Option<u64>,
    /// How often a client wanted to go beyond a limit, counted once in a period: limit, what becomes
    /// of such clients, and number.
    pub over_limit: Vec<(String, String, u64)>,
}

/// What is known of a flow's client when the flow begins: of the current period or the one before,
/// whichever is more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientFacts {
    /// Open sessions.
    pub open: u32,
    /// SYNs in a period.
    pub syns: u32,
    /// Sessions in a period.
    pub sessions: u32,
    /// Distinct destinations in a period, about.
    pub fan_out: u32,
    /// Connections to servers that failed in a period.
    pub failed: u32,
    /// It is over a limit, and the flow is to be refused.
    pub refused: bool,
}
