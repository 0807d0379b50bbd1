//! The rules of `lanes`.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inspect::StartTls;
use crate::config::condition::{DayTimes, InterfacePattern, Network};

/// One rule of the lane list. Every condition given must hold; one left out always holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LaneRule {
    /// Client addresses or networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client: Vec<Network>,
    /// Server addresses or networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server: Vec<Network>,
    /// Server ports; each must be among the intercepted ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port: Vec<u16>,
    /// Interfaces the flow came in on: names, or patterns such as `vnet*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interface: Vec<InterfacePattern>,
    /// Times of day in local time, such as `08:00-18:00`; may wrap around midnight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<DayTimes>,
    /// Numbers that the flow's client has reached, of those that the kernel counts (`clients`).
    /// Needs `origin: assign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_reached: Option<ClientReached>,
    /// The lane of a flow that matches.
    pub lane: Lane,
    /// With `lane: inspect`, what is done with STARTTLS. Left out: as `inspect.starttls` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starttls: Option<StartTls>,
    /// With `lane: relay`, where the mail goes from the queue. Left out: `original`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RelayTarget>,
    /// With `lane: relay`, whether the mail is signed by those entries of `delivery.dkim` that name the domain that it is from.
    /// Whoever matches the rule can write in your name: name your clients in `client` or `interface`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sign: bool,
}

/// The two networks that hold every address.
pub(crate) const EVERYTHING: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who opened it.
    Client,
    /// Whom it was opened to.
    Server,
}

impl LaneRule {
    /// The networks of one side by which alone the rule holds, as the kernel can tell; those that hold every address where
    /// it has no condition. `None` when it asks for more.
    #[must_use]
    pub fn by_networks(&self) -> Option<(Side, Vec<IpNet>)> {
        let more = !(self.port.is_empty() && self.interface.is_empty() && self.time.is_empty())
            || self.client_reached.is_some();
        let some = |networks: &[Network]| networks.iter().map(|network| network.0).collect();
        match (self.client.is_empty(), self.server.is_empty()) {
            _ if more => None,
            (true, true) => Some((Side::Client, EVERYTHING.to_vec())),
            (false, true) => Some((Side::Client, some(&self.client))),
            (true, false) => Some((Side::Server, some(&self.server))),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
impl LaneRule {
    /// A rule without conditions, for tests to add some.
    pub(crate) const fn of(lane: Lane) -> Self {
        Self {
            client: Vec::new(),
            server: Vec::new(),
            port: Vec::new(),
            interface: Vec::new(),
            time: Vec::new(),
            client_reached: None,
            lane,
            starttls: None,
            target: None,
            sign: false,
        }
    }
}

/// Where mail of the relay lane goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RelayTarget {
    /// To the server that the client meant to speak with.
    #[default]
    Original,
    /// To `relay.relay-host`. Whoever matches the rule can send mail to everybody through it: name your
    /// clients in `client` or `interface`.
    RelayHost,
    /// To the mail exchangers of each recipient's domain; as for `relay-host`, name your clients.
    Mx,
}

/// Numbers of a client; each one given must be reached, in the current period or the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ClientReached {
    /// Sessions open at the same time.
    #[serde(skip_serializing_if = "is_zero")]
    pub open_sessions: u32,
    /// SYNs, those that were sent again and those that were refused counted.
    #[serde(skip_serializing_if = "is_zero")]
    pub syns: u32,
    /// Sessions.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions: u32,
    /// Distinct server addresses, right to about 5% at 100.
    #[serde(skip_serializing_if = "is_zero")]
    pub destinations: u32,
    /// Connections to servers that failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed_connects: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl ClientReached {
    /// The numbers, in the order of the fields; 0: any.
    #[must_use]
    pub const fn numbers(self) -> [u32; 5] {
        [self.open_sessions, self.syns, self.sessions, self.destinations, self.failed_connects]
    }
}

/// What is done with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// The kernel forwards it as if there were no gateway.
    Bypass,
    /// It is dropped.
    Block,
    /// It is answered with one SMTP reply and closed.
    Reject,
    /// It is relayed command by command and its messages are scanned.
    Inspect,
    /// The gateway is the server: mail is scanned, queued, answered, and delivered later. Needs
    /// `queue.directory`.
    Relay,
}

impl Lane {
    /// The name in `gateway.yaml`, in records and in the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Block => "block",
            Self::Reject => "reject",
            Self::Inspect => "inspect",
            Self::Relay => "relay",
        }
    }
}
