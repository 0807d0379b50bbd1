//! The Sender Policy Framework: `spf`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Network, dns};
use crate::config::units::Span;

/// The Sender Policy Framework (RFC 7208): whether a sender's domain lets an address send its mail.
///
/// Asked at MAIL, about the domain of the reverse path, or about the HELO name where that is empty.
/// Only `fail` refuses mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Spf {
    /// Which address is checked.
    pub check: SpfCheck,
    /// With `check: fixed`, that address.
    pub fixed_address: Option<IpAddr>,
    /// Nothing is refused; results stand in the log.
    pub log_only: bool,
    /// What happens to mail when the DNS has no answer.
    pub on_temperror: OnTempError,
    /// Until the result is there; later than that is no answer. RFC 7208 section 4.6.4 asks for at
    /// least 20 seconds, which `timeouts.checks` must leave room for.
    pub deadline: Span,
    /// Addresses that are not checked, such as those of your own clients, which send mail of any
    /// domain.
    pub exempt: Vec<Network>,
}

impl Default for Spf {
    fn default() -> Self {
        Self {
            check: SpfCheck::None,
            fixed_address: None,
            log_only: false,
            on_temperror: OnTempError::Pass,
            deadline: Span::seconds(8),
            exempt: dns::local_networks(),
        }
    }
}

/// Which address is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpfCheck {
    /// None.
    #[default]
    None,
    /// The client's.
    Incoming,
    /// The one that the server sees, see `source-address`.
    Outgoing,
    /// `fixed-address`, such as that of a NAT router behind the gateway.
    Fixed,
}

/// What happens to mail when the DNS has no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnTempError {
    /// It goes on.
    #[default]
    Pass,
    /// It is refused with a temporary error: the client tries again.
    Tempfail,
}
