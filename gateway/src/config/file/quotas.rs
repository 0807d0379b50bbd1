//! What clients may use up in a period: `quotas`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Network;
use crate::config::units::{ByteCount, Span};

/// Distinct servers that are remembered of one client at most.
pub const MOST_DESTINATIONS: u64 = 1_000;

/// What each client may use up in a period in the inspect lane. A client beyond is refused with a
/// temporary error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Quotas {
    /// Length of the period, which slides: what was used in the last so many minutes counts.
    pub period: Span,
    /// All IPv4 addresses with the same first so many bits are one client.
    pub ipv4_prefix: u8,
    /// All IPv6 addresses with the same first so many bits are one client.
    pub ipv6_prefix: u8,
    /// Clients that are kept in mind at most, of about 500 bytes each, and 60 for each server with
    /// `destinations`; those unseen for longest are forgotten.
    pub table_size: usize,
    /// What each client may use. Who has limits of his own, set with `gateway quota set`, keeps them
    /// until `generation` is raised.
    pub limits: QuotaLimits,
    /// Other limits for some: the first entry with a client's network counts, and `limits` not at
    /// all. An entry without limits exempts its clients.
    pub networks: Vec<QuotaNetworks>,
    /// Above 0, each client keeps the limits that were configured when it was first seen, until this
    /// number is raised: then it has those that are configured, and so has who was given limits of
    /// his own. Write for example the date, as 20261121. 0: changed limits hold for all at once.
    pub generation: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            period: Span::minutes(60),
            ipv4_prefix: 32,
            ipv6_prefix: 64,
            table_size: 65_536,
            limits: QuotaLimits::default(),
            networks: Vec::new(),
            generation: 0,
        }
    }
}

impl Quotas {
    /// Whether anything is limited.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.limits.is_none() || self.networks.iter().any(|networks| !networks.limits.is_none())
    }
}

/// What a client may use in a period; 0: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct QuotaLimits {
    /// Connections.
    pub connections: u64,
    /// MAIL commands, whether the server accepts them or not.
    pub messages: u64,
    /// RCPT commands, whether the server accepts them or not.
    pub recipients: u64,
    /// Octets of messages. The message that goes beyond is the last one; one that announces its
    /// size (RFC 1870) is refused before.
    pub bytes: ByteCount,
    /// MAIL commands that the server refuses for good.
    pub mail_rejects: u64,
    /// RCPT commands that the server refuses for good, as to those who guess addresses.
    pub rcpt_rejects: u64,
    /// AUTH commands that the server refuses for good, as to those who guess passwords.
    pub auth_rejects: u64,
    /// Distinct server addresses; at most 1,000.
    pub destinations: u64,
}

impl QuotaLimits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits of the clients in some networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct QuotaNetworks {
    /// Networks of clients.
    pub client: Vec<Network>,
    /// What each client in them may use.
    #[serde(default)]
    pub limits: QuotaLimits,
}
