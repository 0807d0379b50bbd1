//! The relay lane: `relay`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::condition::Network;
use crate::config::units::Span;

/// The relay lane: the gateway takes mail as a server and delivers it later from its queue.
///
/// What `inspect` says of bare line ends, NUL octets and early talkers holds here too, and so do `filters`,
/// `limits`, `timeouts`, `quotas`, `dnsbl`, `spf` and `scan`. AUTH is not offered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Relay {
    /// Where mail of lanes with `target: relay-host` goes, in Postfix's notation: `[mx.example.net]`,
    /// `[mx.example.net]:587`, or a domain whose mail exchangers are looked up.
    pub relay_host: String,
    /// Received fields above which a message is refused with 554: it loops (RFC 5321 section 6.3).
    pub hopcount_limit: u32,
    /// The same for those with this gateway's own `name`: a message may well pass it twice.
    pub own_hopcount_limit: u32,
    /// How long a client is watched before it is greeted, for `inspect.early-talk`.
    pub greeting_delay: Span,
    /// Clients that may say by XCLIENT and XFORWARD whom they speak for, such as a load balancer or
    /// another relay of yours: addresses or networks.
    pub trusted: Vec<Network>,
    /// Name of a header field on top of each message that says what the scanners found, such as
    /// `X-Gateway-Scan`. Empty: none. A field of that name further down is not the gateway's.
    pub scan_header: String,
    /// STARTTLS with clients.
    pub tls: RelayTls,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            relay_host: String::new(),
            hopcount_limit: 50,
            own_hopcount_limit: 3,
            greeting_delay: Span::seconds(0),
            trusted: Vec::new(),
            scan_header: String::new(),
            tls: RelayTls::default(),
        }
    }
}

/// STARTTLS with clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RelayTls {
    /// Certificates; a client is shown the first that holds for the name it asks for, or else the first.
    /// They are read again at each reload. Empty: STARTTLS is not offered.
    pub certificates: Vec<Certificate>,
    /// Whether nothing else is taken before STARTTLS: other commands are refused with 530.
    pub required: bool,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Certificate {
    /// File with the certificate, followed by those between it and its root, in PEM form.
    pub chain: PathBuf,
    /// File with its private key in PEM form; the account `user` must be able to read it.
    pub key: PathBuf,
}
