//! The header that names the client behind the gateway: `nat-header`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A header on top of each message that tells the server who the client is, for servers that see
/// the gateway's address. Scanners do not see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct NatHeader {
    /// What it says.
    #[serde(rename = "type")]
    pub kind: NatHeaderKind,
    /// Its field name.
    pub name: String,
    /// With `type: generic`, whom to write to about abuse. Empty: nobody.
    pub abuse: String,
}

impl Default for NatHeader {
    fn default() -> Self {
        Self { kind: NatHeaderKind::None, name: "X-Nat-Received".to_owned(), abuse: String::new() }
    }
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NatHeaderKind {
    /// There is none.
    None,
    /// The client's address.
    IpOnly,
    /// The client's address and port, the gateway's name, the session and whom to write to about
    /// abuse.
    Generic,
}
