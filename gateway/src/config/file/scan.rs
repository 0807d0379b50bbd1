//! Copies of messages and who looks at them: `spool`, `scan`.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{ByteCount, Span};

/// The copy of a message that scanners see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Spool {
    /// Folder for copies larger than `memory`; it must belong to the account `user` alone.
    pub directory: PathBuf,
    /// Largest copy that stays in memory; each session may hold one.
    pub memory: ByteCount,
    /// Outcomes after which the copy stays in `directory` for you to look at; you remove it. Empty:
    /// copies are always removed.
    pub leave_on: Vec<LeaveOn>,
    /// Free space in `directory` below which new messages are answered with 452.
    pub min_free: ByteCount,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/spool/gateway"),
            memory: ByteCount::kib(256),
            leave_on: Vec::new(),
            min_free: ByteCount::mib(64),
        }
    }
}

/// An outcome after which the copy of a message is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveOn {
    /// A scanner found a virus.
    Virus,
    /// A scanner failed.
    Error,
    /// Always.
    Always,
}

/// The scanners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Scan {
    /// The virus scanner clamd. Left out: messages are not scanned for viruses.
    pub clamd: Option<Clamd>,
}

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
    pub on_too_large: OnFailure,
    /// What happens to a message that clamd could not scan.
    #[serde(default = "Clamd::default_on_failure")]
    pub on_failure: OnFailure,
    /// Scans at the same time; not more than `MaxThreads` of clamd.conf.
    #[serde(default = "Clamd::default_concurrency")]
    pub concurrency: usize,
    /// Pause between two checks of clamd's health.
    #[serde(default = "Clamd::default_health_interval")]
    pub health_interval: Span,
}

impl Clamd {
    fn default_max_size() -> ByteCount {
        ByteCount::mib(25)
    }
    fn default_on_too_large() -> OnFailure {
        OnFailure::Reject
    }
    fn default_on_failure() -> OnFailure {
        OnFailure::Tempfail
    }
    fn default_concurrency() -> usize {
        10
    }
    fn default_health_interval() -> Span {
        Span::seconds(10)
    }
}

/// What happens to a message without a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It is refused with a temporary error: the client tries again.
    Tempfail,
    /// It is passed on, recorded as not scanned.
    Pass,
    /// It is refused for good.
    Reject,
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
