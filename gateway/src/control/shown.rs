//! What of the gateway its control socket shows, and may have it do.
//!
//! Owns what the status is put together from. Who may ask for what is the server's to say.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::{fmt, process};

use nix::sys::resource::{UsageWho, getrusage};
use tokio::sync::watch;

use super::request::{LockSharing, ScannerHealth, StateHealth, Status, Version};
use super::state_file;
use crate::clock;
use crate::config::file as config;
use crate::delivery::office::Office;
use crate::intercept::facts::Facts;
use crate::ipc::{DatapathStatus, Upgraded};
use crate::locks::{Locks, SharingView};
use crate::quota::Quotas;
use crate::session::table::{SessionTable, Stage};
use crate::store::{Health, Store};
use crate::telemetry::Telemetry;

/// Says how the scanners are.
pub type AskScanners = Box<dyn Fn() -> Vec<ScannerHealth> + Send + Sync>;

/// Says what is configured for locks.
pub type AskLockDefaults = Box<dyn Fn() -> config::Locks + Send + Sync>;

/// Reads the configuration again; an error is what `gateway check` would print.
pub type AskReload = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Has another process take over; an error says why none does.
pub type AskUpgrade = Box<
    dyn Fn(Option<PathBuf>) -> Pin<Box<dyn Future<Output = Result<Upgraded, String>> + Send>> + Send + Sync,
>;

/// Has the gateway stop; `true`: flows that the kernel carries end with it.
pub type AskStop = Box<dyn Fn(bool) + Send + Sync>;

/// What the control socket shows and may ring.
pub struct Control {
    /// The gateway's name in its replies.
    pub name: Box<dyn Fn() -> String + Send + Sync>,
    /// The open sessions.
    pub sessions: Arc<SessionTable>,
    /// The locks.
    pub locks: Arc<Locks>,
    /// What clients may use and have used.
    pub quotas: Arc<Quotas>,
    /// Where that is kept.
    pub store: Store,
    /// Where several gateways count together.
    pub shared: Option<Store>,
    /// The queue and what empties it; none where no folder is named for it.
    pub deliveries: Option<Arc<Office>>,
    /// What is configured for locks.
    pub lock_defaults: AskLockDefaults,
    /// Counters, rates and recent lines.
    pub telemetry: Arc<Telemetry>,
    /// How the kernel side is.
    pub datapath: watch::Receiver<DatapathStatus>,
    /// How the scanners are.
    pub scanners: AskScanners,
    /// What the kernel counts of clients.
    pub clients: Facts,
    /// Reads the configuration again.
    pub reload: AskReload,
    /// Has another process take over.
    pub upgrade: AskUpgrade,
    /// Has the gateway stop.
    pub stop: AskStop,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("name", &(self.name)()).finish_non_exhaustive()
    }
}

impl Control {
    /// The state as `wanted`, for the state file.
    #[must_use]
    pub fn state_text(&self, wanted: &config::StateFile) -> String {
        let sessions = if wanted.sessions { self.sessions.list(clock::now()) } else { Vec::new() };
        let shown = wanted.sessions.then_some(sessions.as_slice());
        state_file::text(wanted.format, &self.status(), shown, clock::wall())
    }

    pub(super) fn status(&self) -> Status {
        let now = clock::now();
        let mut stages: Vec<(Stage, u64)> = Vec::new();
        let sessions = self.sessions.list(now);
        for session in &sessions {
            match stages.iter_mut().find(|(stage, _)| *stage == session.stage) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => stages.push((session.stage, 1)),
            }
        }
        stages.sort_unstable();
        Status {
            version: Version::own(),
            name: (self.name)(),
            pid: process::id(),
            open: sessions.len(),
            most: self.sessions.most(),
            max_rss: max_rss(),
            reloaded: self.telemetry.reloaded(),
            stages: stages.into_iter().map(|(stage, count)| (stage.name().to_owned(), count)).collect(),
            telemetry: self.telemetry.snapshot(now),
            datapath: self.datapath.borrow().clone(),
            scanners: (self.scanners)(),
            state: self.state(),
        }
    }

    fn state(&self) -> StateHealth {
        let reason = |store: &Store| match store.health() {
            Health::Kept => None,
            Health::MemoryOnly { reason } => Some(reason),
        };
        let shared = self.shared.as_ref();
        let dropped = shared.map_or(0, Store::dropped).saturating_add(self.store.dropped());
        StateHealth {
            memory_only: reason(&self.store),
            shared: shared.is_some(),
            alone: shared.and_then(reason),
            locks: self.locks.shared().map(|shared| {
                let SharingView { lost, odd, full } = shared;
                LockSharing { lost, odd, full }
            }),
            dropped,
        }
    }
}

/// Most memory that this process had resident, in KiB.
fn max_rss() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map(|usage| usage.max_rss());
    usage.ok().and_then(|kib| u64::try_from(kib).ok()).unwrap_or(0)
}
