//! The shapes of requests and answers, and their version.
//!
//! Fields may be added within a version; anything else takes a new one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ipc::DatapathStatus;
use crate::session::table::SessionView;
use crate::telemetry::{Line, Snapshot};

/// Version of requests and answers: the `v1` of their paths.
pub const VERSION: u32 = 1;

/// Where the control socket is unless the configuration says otherwise.
pub const SOCKET: &str = "/run/gateway/control.sock";

/// Sessions that one answer lists at most.
pub const SESSIONS_LISTED: usize = 10_000;

/// Answer to `GET /v1/version`, also the beginning of [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The release.
    pub gateway: String,
    /// [`VERSION`].
    pub control: u32,
}

impl Version {
    /// Of this binary.
    #[must_use]
    pub fn own() -> Self {
        Self { gateway: env!("CARGO_PKG_VERSION").to_owned(), control: VERSION }
    }
}

/// Answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Release and version of the answers.
    pub version: Version,
    /// The gateway's name in its replies.
    pub name: String,
    /// Process number of the proxy process.
    pub pid: u32,
    /// Open sessions.
    pub open: usize,
    /// Open sessions by stage, in the order of the stages.
    pub stages: Vec<(String, u64)>,
    /// Counters and rates.
    pub telemetry: Snapshot,
    /// The kernel side.
    pub datapath: DatapathStatus,
    /// The scanners.
    pub scanners: Vec<ScannerHealth>,
}

/// One scanner as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScannerHealth {
    /// `clamd`, `spamd` or `rspamd`.
    pub name: String,
    /// Where it listens, as the configuration spells it.
    pub address: String,
    /// Whether it answers.
    pub state: ScannerState,
    /// What it says its version is; bytes from the scanner.
    pub version: String,
    /// The last error, with what to do where known; empty: none.
    pub last_error: String,
    /// Scans under way.
    pub busy: usize,
    /// Seconds in this state.
    pub since: u64,
    /// Whether scans reach it.
    #[serde(default)]
    pub circuit: Circuit,
    /// Milliseconds from the end of a message to its answer, of late.
    #[serde(default)]
    pub latency_ms: Option<u64>,
}

/// Whether scans reach a scanner, or its circuit breaker keeps them from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Circuit {
    /// They do.
    #[default]
    Closed,
    /// It failed too often and is left alone.
    Open {
        /// For so long.
        seconds_left: u64,
    },
    /// One message tries it, or will.
    HalfOpen,
}

/// Whether a scanner answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScannerState {
    /// Its last check was good.
    Up,
    /// Its last check was not.
    Down,
    /// It was not asked yet.
    Unknown,
}

impl ScannerState {
    /// One word, as shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// Answer to `GET /v1/sessions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// How many are open; more than are listed when there are very many.
    pub open: usize,
    /// The sessions, oldest first.
    pub sessions: Vec<SessionView>,
}

/// Answer to `POST /v1/sessions/{id}/kill`: the session was told to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// The session.
    pub killed: String,
}

/// Query of `GET /v1/log`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// Only lines behind this number.
    pub since: u64,
}

/// Answer to `GET /v1/log`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The lines, oldest first.
    pub lines: Vec<Line>,
}

/// Answer to `POST /v1/reload`: the configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Always true; a refusal is a [`Problem`].
    pub reloaded: bool,
}

/// Every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.error.contains('\n') { "\n" } else { "; " };
        write!(f, "{}{between}{}", self.error.trim_end(), self.hint)
    }
}
