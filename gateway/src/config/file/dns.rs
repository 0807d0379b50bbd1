//! Lookups in the DNS: `dns`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Network;
use crate::config::units::Span;

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Dns {
    /// Resolvers that are asked, such as `127.0.0.1:53`. Empty: those of `/etc/resolv.conf`, which
    /// is read at start and at each reload.
    pub servers: Vec<SocketAddr>,
    /// How long one attempt at one server may take.
    pub timeout: Span,
    /// Attempts before a lookup has failed.
    pub attempts: usize,
    /// Answers that are remembered as long as their TTL allows, negative ones too. 0: none.
    pub cache: u64,
    /// Lookups at the same time; further ones wait.
    pub concurrency: usize,
}

impl Default for Dns {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Span::seconds(2), attempts: 2, cache: 10_000, concurrency: 256 }
    }
}

/// Networks of which nobody outside can know anything (RFC 6890).
pub(super) fn local_networks() -> Vec<Network> {
    let networks = [
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    ];
    networks.into_iter().filter_map(|network| network.parse().ok()).map(Network).collect()
}
