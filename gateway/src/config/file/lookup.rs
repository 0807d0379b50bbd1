//! The sections `lookup` and `helper`: asking the router that redirects flows, and being it.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spam::Secret;
use crate::config::condition::Network;
use crate::config::units::Span;

/// Asking another machine where flows were meant to go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Lookup {
    /// The machine that is asked: the router that redirects the flows. Empty: the address that the flow
    /// comes from, which is the router's where it hides the clients behind its own.
    pub server: Option<IpAddr>,
    /// With an empty `server`, the addresses that may be asked; empty: all. Where answers are not
    /// sealed, whoever may be asked can name any server.
    pub routers: Vec<Network>,
    /// The port there, of UDP or, with `origin: remote`, of TCP.
    pub port: u16,
    /// What datagrams look like.
    pub format: LookupFormat,
    /// What both sides know. With `format: sealed` a text of 16 characters or more, best at random;
    /// with `format: smtp-gated` a number of 32 bits, which is sent in clear.
    pub secret: Option<Secret>,
    /// How often a datagram is sent until there is an answer.
    pub tries: u32,
    /// Until the answer to each of them; with `origin: remote`, to the only question.
    pub deadline: Span,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            server: None,
            routers: Vec::new(),
            port: 114,
            format: LookupFormat::Sealed,
            secret: None,
            tries: 3,
            deadline: Span::seconds(3),
        }
    }
}

impl Lookup {
    /// The secret as it is.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.secret.as_ref().map(Secret::reveal).unwrap_or_default()
    }

    /// The secret as the number that `format: smtp-gated` takes, decimal or hexadecimal behind `0x`;
    /// without one, 0.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        match (self.secret(), self.secret().strip_prefix("0x")) {
            ("", _) => Some(0),
            (_, Some(digits)) => u32::from_str_radix(digits, 16).ok(),
            (digits, None) => digits.parse().ok(),
        }
    }
}

/// What datagrams of a lookup look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LookupFormat {
    /// The gateway's own: sealed with HMAC-SHA-256, each question answered once.
    Sealed,
    /// That of smtp-gated and its proxy-helper: in clear, IPv4 only.
    SmtpGated,
}

/// `gateway helper` on a router: answering gateways. Format and secret are those of `lookup`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Helper {
    /// Addresses and ports of this machine at which gateways ask.
    pub listen: Vec<SocketAddr>,
    /// The gateways that may ask: addresses and networks.
    pub allow: Vec<Network>,
    /// Whether the line of smtp-gated's `remote` mode is answered over TCP too, at the same addresses.
    pub ident: bool,
}
