//! Who looks at the copies of messages: `scan`.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spam::{Rspamd, Spamd};
use crate::config::decimal::Decimal;
use crate::config::units::{ByteCount, Span};
use crate::outcome::Scanner;

/// The scanners. All that are named here look at each message, side by side, and the first that
/// refuses it decides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Scan {
    /// Load average of the last minute above which messages are not scanned for spam. 0: they
    /// always are.
    pub max_load: Decimal,
    /// The virus scanner clamd. Left out: messages are not scanned for viruses.
    pub clamd: Option<Clamd>,
    /// The spam scanner spamd of SpamAssassin. Left out: it is not asked. The gateway does not look
    /// up the client's name, so SpamAssassin's rule `RDNS_NONE` counts for each message unless you
    /// write `score RDNS_NONE 0` into its `local.cf`.
    pub spamd: Option<Spamd>,
    /// The spam scanner rspamd. Left out: it is not asked.
    pub rspamd: Option<Rspamd>,
}

impl Scan {
    /// What all scanners of this configuration have in common.
    #[must_use]
    pub fn scanners(&self) -> Vec<(Scanner, Common<'_>)> {
        let clamd = self.clamd.as_ref().map(|clamd| (Scanner::Clamd, clamd.common()));
        let spamd = self.spamd.as_ref().map(|spamd| (Scanner::Spamd, spamd.common()));
        let rspamd = self.rspamd.as_ref().map(|rspamd| (Scanner::Rspamd, rspamd.common()));
        [clamd, spamd, rspamd].into_iter().flatten().collect()
    }
}

/// What every scanner has.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// Where it listens.
    pub address: &'a ScannerAddress,
    /// Largest message that is scanned.
    pub max_size: ByteCount,
    /// What happens to a larger one.
    pub on_too_large: Treatment,
    /// What happens to one that could not be scanned.
    pub on_failure: Treatment,
    /// Scans at the same time.
    pub concurrency: usize,
    /// Until its answer, from the end of the message on.
    pub deadline: Span,
    /// Pause between two checks of its health.
    pub health_interval: Span,
    /// When it is left alone.
    pub circuit_breaker: CircuitBreaker,
}

/// The [`Common`] part of a scanner's section, which has a field of each name.
macro_rules! common {
    ($section:ty) => {
        impl $section {
            pub(super) const fn common(&self) -> $crate::config::file::scan::Common<'_> {
                $crate::config::file::scan::Common {
                    address: &self.address,
                    max_size: self.max_size,
                    on_too_large: self.on_too_large,
                    on_failure: self.on_failure,
                    concurrency: self.concurrency,
                    deadline: self.deadline,
                    health_interval: self.health_interval,
                    circuit_breaker: self.circuit_breaker,
                }
            }
        }
    };
}
pub(super) use common;

/// The virus scanner clamd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Clamd {
    /// Where clamd listens: `unix:/run/clamav/clamd.ctl` or `tcp:127.0.0.1:3310`.
    pub address: ScannerAddress,
    /// Largest message that is scanned; not more than `StreamMaxLength` of clamd.conf.
    #[serde(default = "Clamd::default_max_size")]
    pub max_size: ByteCount,
    /// What happens to a larger message. `tempfail` makes clients try again in vain.
    #[serde(default = "Clamd::default_on_too_large")]
    pub on_too_large: Treatment,
    /// What happens to a message that clamd could not scan.
    #[serde(default = "Treatment::tempfail")]
    pub on_failure: Treatment,
    /// Scans at the same time; not more than `MaxThreads` of clamd.conf.
    #[serde(default = "Clamd::default_concurrency")]
    pub concurrency: usize,
    /// Until its answer, from the end of the message on; `timeouts.scan` ends all scans.
    #[serde(default = "Clamd::default_deadline")]
    pub deadline: Span,
    /// Pause between two checks of clamd's health.
    #[serde(default = "default_health_interval")]
    pub health_interval: Span,
    /// When clamd does not answer, it is left alone for a while: meanwhile `on-failure` holds for each
    /// message at once, without any wait. Then one message tries it, and the rest follows when that
    /// went well.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
}

common!(Clamd);

impl Clamd {
    fn default_max_size() -> ByteCount {
        ByteCount::mib(25)
    }
    fn default_on_too_large() -> Treatment {
        Treatment::Reject
    }
    fn default_concurrency() -> usize {
        10
    }
    fn default_deadline() -> Span {
        Span::minutes(2)
    }
}

pub(super) fn default_health_interval() -> Span {
    Span::seconds(10)
}

/// When a scanner that does not answer is left alone for a while.
///
/// Meanwhile its `on-failure` holds for each message at once, without any wait; then one message
/// tries it, and the rest follows when that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CircuitBreaker {
    /// Scans that must fail in a row: no connection, no answer, a passed `deadline`. An answer that
    /// tells of an error is an answer. 0: the scanner is never left alone.
    pub failures: u32,
    /// For how long at first; twice as long each time the try fails. It ends early when the
    /// scanner passes a check of its health again.
    pub pause: Span,
    /// For how long at most.
    pub longest_pause: Span,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { failures: 5, pause: Span::seconds(10), longest_pause: Span::minutes(5) }
    }
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// It is refused with a temporary error: the client tries again.
    Tempfail,
    /// It is passed on; the record tells what the scanner said.
    Pass,
    /// It is refused for good.
    Reject,
}

impl Treatment {
    pub(super) fn tempfail() -> Self {
        Self::Tempfail
    }
    pub(super) fn pass() -> Self {
        Self::Pass
    }
    pub(super) fn reject() -> Self {
        Self::Reject
    }
}

/// Where a scanner listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^(unix:/.*|tcp:.*:[0-9]+)$"))]
pub enum ScannerAddress {
    /// A UNIX stream socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

impl TryFrom<String> for ScannerAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let unix = text.strip_prefix("unix:").filter(|path| path.starts_with('/'));
        let tcp = text.strip_prefix("tcp:").and_then(|addr| addr.parse().ok());
        match (unix, tcp) {
            (Some(path), _) => Ok(Self::Unix(PathBuf::from(path))),
            (None, Some(addr)) => Ok(Self::Tcp(addr)),
            (None, None) => Err(format!(
                "`{text}` is not a scanner's address; write for example `unix:/run/clamav/clamd.ctl` or `tcp:127.0.0.1:3310`"
            )),
        }
    }
}

impl From<ScannerAddress> for String {
    fn from(address: ScannerAddress) -> Self {
        match address {
            ScannerAddress::Unix(path) => format!("unix:{}", path.display()),
            ScannerAddress::Tcp(addr) => format!("tcp:{addr}"),
        }
    }
}
