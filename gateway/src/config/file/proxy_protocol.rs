//! The section `proxy-protocol`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::condition::Network;
use crate::config::units::Span;

/// Load balancers that say in a header of the PROXY protocol whom they speak for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ProxyProtocol {
    /// Addresses and networks of the load balancers. Each of their connections has to begin with a
    /// header, of version 1 or 2; nobody else's may.
    pub trusted: Vec<Network>,
    /// Until the header is complete.
    pub deadline: Span,
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        Self { trusted: Vec::new(), deadline: Span::seconds(5) }
    }
}
