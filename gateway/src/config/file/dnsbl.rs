//! Block lists in the DNS: `dnsbl`.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Network;
use crate::config::units::Span;

/// Block lists in the DNS (RFC 5782), which are asked about the client's address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Dnsbl {
    /// The lists, all asked at the same time. Empty: none is asked.
    pub zones: Vec<DnsblZone>,
    /// Sum of the weights of the lists that have the client, from which on it is refused.
    pub reject_at: i32,
    /// How a listed client is refused: when it connects, or at MAIL with `auth.skip: [dnsbl]`.
    pub on_listed: OnListed,
    /// Until a list has answered; one that has not counts as not having the client.
    pub deadline: Span,
    /// Clients about which no list is asked.
    pub exempt: Vec<Network>,
}

impl Default for Dnsbl {
    fn default() -> Self {
        Self {
            zones: Vec::new(),
            reject_at: 1,
            on_listed: OnListed::Reject,
            deadline: Span::seconds(4),
            exempt: super::dns::local_networks(),
        }
    }
}

/// A block list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DnsblZone {
    /// Its domain, such as `bl.example.org`.
    pub zone: String,
    /// What it counts. Below 0: a list of those who are welcome.
    #[serde(default = "DnsblZone::default_weight")]
    pub weight: i32,
    /// Answers that mean that the client is listed. Those outside 127.0.0.0/8 never do, nor do
    /// 127.0.0.1 and 127.255.255.0/24, with which lists refuse to answer.
    #[serde(default = "DnsblZone::default_answers")]
    pub answers: Vec<Network>,
    /// The families of clients that it knows about.
    #[serde(default)]
    pub families: Families,
}

impl DnsblZone {
    const fn default_weight() -> i32 {
        1
    }

    fn default_answers() -> Vec<Network> {
        vec![Network(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)))]
    }
}

/// Families of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Families {
    /// IPv4 and IPv6.
    #[default]
    Both,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// How a listed client is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnListed {
    /// For good.
    #[default]
    Reject,
    /// With a temporary error: the client tries again.
    Tempfail,
    /// Not at all; what the lists say is logged.
    Log,
}
