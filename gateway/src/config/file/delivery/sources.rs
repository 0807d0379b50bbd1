//! Addresses that connections to servers come from: `delivery.sources`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::domain::DomainPattern;

/// A pool of addresses that connections to SMTP servers come from, each with its name.
///
/// A server of a family that the pool has no address of is passed over: mail never leaves from an address outside of its pool. An
/// address that this machine does not have is passed over as well; where it has none of them, the mail waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SourcePool {
    /// Domains of envelope senders whose mail it is for: `example.net`, `.example.net` for all below it. Left out: any, also
    /// mail with an empty sender.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub senders: Vec<DomainPattern>,
    /// Where the mail goes: domains of recipients, or the relay host's name or address. Left out: anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<DomainPattern>,
    /// Which of the addresses a connection comes from.
    #[serde(default)]
    pub choose: SourceChoice,
    /// The addresses.
    pub addresses: Vec<SourceAddress>,
}

/// An address, and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SourceAddress {
    /// One of this machine's.
    pub address: IpAddr,
    /// What is said in EHLO: the name that the address has in the DNS.
    pub helo_name: String,
}

/// Which address of a pool a connection comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceChoice {
    /// Always the same for the domain of the sender, as long as the machine has it.
    #[default]
    SenderDomain,
    /// One after the other.
    RoundRobin,
}
