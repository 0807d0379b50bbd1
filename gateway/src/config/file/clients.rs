//! What clients may have: `clients`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::condition::Network;
use crate::config::units::{ByteCount, Span};

/// What the kernel counts of each client, and what a client may have. Needs `origin: assign`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Clients {
    /// All IPv4 addresses with the same first so many bits are one client.
    pub ipv4_prefix: u8,
    /// All IPv6 addresses with the same first so many bits are one client.
    pub ipv6_prefix: u8,
    /// Length of the periods in which is counted. All begin at the same time for all clients.
    pub period: Span,
    /// How many clients the kernel keeps in mind; those unseen for longest are forgotten. Each
    /// takes about 350 bytes. Takes effect at start.
    pub table_size: u32,
    /// What each client may have.
    pub limits: ClientLimits,
    /// What becomes of a client that is over a limit.
    pub on_excess: OnExcess,
    /// Other limits for some: the first entry with a client's network counts, and `limits` not at
    /// all. An entry without limits exempts its clients.
    pub networks: Vec<ClientNetworks>,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            ipv4_prefix: 32,
            ipv6_prefix: 64,
            period: Span::minutes(10),
            table_size: 65_536,
            limits: ClientLimits::default(),
            on_excess: OnExcess::Drop,
            networks: Vec::new(),
        }
    }
}

impl Clients {
    /// What this client may have.
    #[must_use]
    pub fn limits_of(&self, client: IpAddr) -> &ClientLimits {
        let theirs = |entry: &&ClientNetworks| entry.client.iter().any(|network| network.0.contains(&client));
        self.networks.iter().find(theirs).map_or(&self.limits, |entry| &entry.limits)
    }
}

/// What a client may have; 0: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ClientLimits {
    /// Sessions open at the same time.
    pub open_sessions: u32,
    /// Sessions opened in a period.
    pub sessions: u32,
    /// Octets in a period, both ways together. A client beyond opens no session, and its sessions
    /// that pass unread are stopped; what is inspected goes on to the end of its session.
    pub bytes: ByteCount,
    /// Distinct server addresses in a period, right to about 5% at 100; at most 1,000.
    pub destinations: u32,
}

impl ClientLimits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits of the clients in some networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClientNetworks {
    /// Networks of clients.
    pub client: Vec<Network>,
    /// What each client in them may have.
    #[serde(default)]
    pub limits: ClientLimits,
}

/// What becomes of a client that is over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnExcess {
    /// Its new sessions go unanswered. Over `bytes`, the packets of its sessions that pass unread
    /// are dropped until the period is over, and then these go on.
    Drop,
    /// Its new sessions are refused with a TCP reset. Over `bytes`, its sessions that pass unread
    /// are reset towards both ends.
    Reset,
    /// Its new sessions are answered with 421. Over `bytes`, the same as `reset`.
    Refuse,
}

impl OnExcess {
    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reset => "reset",
            Self::Refuse => "refuse",
        }
    }
}
