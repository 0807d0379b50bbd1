//! The shapes of requests and answers, and their version.
//!
//! Fields may be added within a version; anything else takes a new one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub mod queue;

use crate::config::file::{LockAction, LockCause, Network};
use crate::intercept::flow::SessionId;
use crate::ipc::DatapathStatus;
use crate::ipc::client::{self, ClientSort};
use crate::policy::lock::Who;
use crate::policy::quota::{Client, Quota};
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
    /// The most sessions that were open at the same time.
    #[serde(default)]
    pub most: usize,
    /// Most memory that the process had resident, in KiB (getrusage(2)).
    #[serde(default)]
    pub max_rss: u64,
    /// When a configuration was put in force last, in seconds since 1970; absent: at the start.
    #[serde(default)]
    pub reloaded: Option<u64>,
    /// Open sessions by stage, in the order of the stages.
    pub stages: Vec<(String, u64)>,
    /// Counters and rates.
    pub telemetry: Snapshot,
    /// The kernel side.
    pub datapath: DatapathStatus,
    /// The scanners.
    pub scanners: Vec<ScannerHealth>,
    /// The state store.
    #[serde(default)]
    pub state: StateHealth,
}

/// Whether what is known of clients outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHealth {
    /// Why it does not; absent: it does.
    pub memory_only: Option<String>,
    /// Quotas are counted together with other gateways, in Redis.
    #[serde(default)]
    pub shared: bool,
    /// Why they are not at the moment; absent: they are, or never.
    #[serde(default)]
    pub alone: Option<String>,
    /// How locks are shared with other gateways; absent: they are not.
    #[serde(default)]
    pub locks: Option<LockSharing>,
    /// Changes that will never be kept, since too many waited.
    pub dropped: u64,
}

/// How locks are shared with other gateways, in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockSharing {
    /// Why they are not at the moment; absent: they are.
    pub lost: Option<String>,
    /// Rows of others that made no sense, each time they were read.
    pub odd: u64,
    /// Locks and exemptions for which there was no room.
    pub full: u64,
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

/// Body of `POST /v1/locks`. What is left out is as configured in `locks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLock {
    /// Who: an address, a network, or an identity behind an address.
    pub who: Who,
    /// What becomes of their new flows.
    #[serde(default)]
    pub action: Option<LockAction>,
    /// How long it holds, in seconds.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// It holds until it is removed.
    #[serde(default)]
    pub forever: bool,
    /// Why, in the operator's words.
    #[serde(default)]
    pub cause: String,
    /// Flows that are open end at once.
    #[serde(default)]
    pub cut: bool,
}

/// Body of `POST /v1/locks/remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldLock {
    /// Who is locked; left out: all locks.
    pub who: Option<Who>,
}

/// Body of `POST /v1/locks/exempt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exemption {
    /// The clients.
    pub net: Network,
    /// Whether locks leave them alone; `false` takes that back.
    pub exempt: bool,
}

/// Answer to `POST /v1/locks/remove`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlocked {
    /// How many locks were removed.
    pub removed: usize,
}

/// A lock as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// Who.
    pub who: Who,
    /// What becomes of their new flows.
    pub action: LockAction,
    /// Why.
    pub cause: LockCause,
    /// What more is known of the cause; octets from the network may be among it.
    pub detail: String,
    /// The session that it was set in.
    pub session: Option<SessionId>,
    /// Seconds since it was set.
    pub age: u64,
    /// Seconds for which it still holds; absent: for ever.
    pub left: Option<u64>,
    /// Offences while it held, and the one it was set for.
    pub offences: u64,
    /// New flows that met it.
    pub hits: u64,
    /// Seconds since the last of them.
    pub last: Option<u64>,
}

/// Answer to `GET /v1/locks`, and to `POST /v1/locks` with the one that was set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockList {
    /// How many there are; more than are listed when there are very many.
    pub held: usize,
    /// The locks: networks in their order, then identities.
    pub locks: Vec<LockView>,
    /// Networks that no lock touches.
    pub exempt: Vec<Network>,
}

/// Query of `GET /v1/clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientsQuery {
    /// The order.
    pub sort: ClientSort,
    /// How many clients are wanted.
    pub most: usize,
}

impl Default for ClientsQuery {
    fn default() -> Self {
        Self { sort: ClientSort::default(), most: client::LISTED }
    }
}

/// Query of `GET /v1/quotas`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaQuery {
    /// Only the client that this address belongs to; left out: those seen last.
    pub client: Option<IpAddr>,
    /// The identity behind the address.
    pub identity: Option<String>,
}

/// Body of `POST /v1/quotas/set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnQuotas {
    /// An address of the client.
    pub client: IpAddr,
    /// The identity behind the address.
    #[serde(default)]
    pub identity: Option<String>,
    /// New limits by the names of `quotas.limits`, 0 for none; others stay. Left out: the client has
    /// the configured ones again.
    #[serde(default)]
    pub limits: Option<BTreeMap<Quota, u64>>,
}

/// Body of `POST /v1/quotas/reset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResetQuotas {
    /// An address of the client; left out: all clients.
    pub client: Option<IpAddr>,
    /// The identity behind the address.
    pub identity: Option<String>,
}

/// Answer to `POST /v1/quotas/reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotasReset {
    /// How many clients begin anew.
    pub reset: usize,
}

/// How one client stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaView {
    /// The client.
    pub client: Client,
    /// What it has used of each quota.
    pub quotas: Vec<UsedQuota>,
    /// The servers it was connected to; only of one client, and where they are limited.
    pub destinations: Vec<IpAddr>,
    /// Times it was refused for a quota.
    pub refused: u64,
    /// It has limits of its own, which an operator has set.
    pub own: bool,
}

/// What a client has used of one quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedQuota {
    /// Which.
    pub quota: Quota,
    /// In the period that ends now.
    pub used: u64,
    /// What it may; 0: no limit.
    pub limit: u64,
}

/// Answer to `GET /v1/quotas`, and to `POST /v1/quotas/set` with the one that was set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaList {
    /// How many clients are kept in mind; more than are listed when there are very many.
    pub held: usize,
    /// The clients, those seen last first.
    pub clients: Vec<QuotaView>,
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

/// Body of `POST /v1/upgrade`; the answer is an [`Upgraded`](crate::ipc::Upgraded).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskedUpgrade {
    /// The file to start; absent: the one this release was started from.
    pub binary: Option<PathBuf>,
}

/// Answer to `POST /v1/stop/keep-flows` and `POST /v1/stop/drop-flows`: the gateway is told to stop,
/// and the socket goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Always true.
    pub stopping: bool,
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
