//! Whether a scanner answers, asked for at a steady pace and after each failed scan.
//!
//! Owns what operators see of a scanner. Keeps no scan from its scanner: that is the circuit breaker's
//! part, which counts scans alone, so a wrong state here costs no mail. Logs a change of state once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::breaker::Circuit;
use super::limit::Places;
use super::service::Service;
use crate::clock;
use crate::outcome::Scanner;

/// Until a check counts as failed.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two checks at least, however many scans fail.
const CHECK_PAUSE: Duration = Duration::from_secs(1);

/// Longest version or error that is shown.
pub(super) const TEXT_LENGTH: usize = 200;

/// Whether a scanner answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScannerState {
    /// Not yet known.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// A scanner as operators see it at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannerView {
    /// Which one.
    pub scanner: Scanner,
    /// Where it listens, as configured.
    pub address: String,
    /// Whether it answers.
    pub state: ScannerState,
    /// For how long it has been in this state.
    pub since: Duration,
    /// Its own version, of the last check that succeeded.
    pub version: Option<String>,
    /// Why the last check that failed did.
    pub last_error: Option<String>,
    /// Scans that run.
    pub busy: usize,
    /// Complete messages that wait for a place.
    pub waiting: usize,
    /// How many scans may run at once.
    pub concurrency: usize,
    /// Whether scans reach it.
    pub circuit: Circuit,
    /// From the end of a message to its answer, of late; none before the first.
    pub latency: Option<Duration>,
}

/// What is known of a scanner.
#[derive(Debug, Default)]
pub(super) struct Health {
    condition: Mutex<Condition>,
    soon: Notify,
}

#[derive(Debug)]
struct Condition {
    state: ScannerState,
    since: Instant,
    version: Option<String>,
    last_error: Option<String>,
    latency: Option<Duration>,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            state: ScannerState::Unknown,
            since: clock::now(),
            version: None,
            last_error: None,
            latency: None,
        }
    }
}

impl Health {
    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a check before its time.
    pub(super) fn check_soon(&self) {
        self.soon.notify_one();
    }

    /// A scan took so long; the view has a mean of the last ones, the latest counting for an eighth.
    pub(super) fn took(&self, time: Duration) {
        let latency = &mut self.condition().latency;
        let mean =
            |old: Duration| (old.saturating_mul(7).saturating_add(time)).checked_div(8).unwrap_or(time);
        *latency = Some(latency.map_or(time, mean));
    }

    pub(super) fn view(
        &self,
        now: Instant,
        scanner: Scanner,
        address: String,
        places: &Places,
        circuit: Circuit,
    ) -> ScannerView {
        let condition = self.condition();
        ScannerView {
            scanner,
            address,
            state: condition.state,
            since: now.saturating_duration_since(condition.since),
            version: condition.version.clone(),
            last_error: condition.last_error.clone(),
            busy: places.busy(),
            waiting: places.waiting(),
            concurrency: places.count(),
            circuit,
            latency: condition.latency,
        }
    }

    /// Notes what came of a check; says whether the scanner answers again.
    pub(super) fn note(
        &self,
        scanner: Scanner,
        address: &str,
        outcome: Result<String, String>,
        now: Instant,
    ) -> bool {
        let mut condition = self.condition();
        let state = if outcome.is_ok() { ScannerState::Up } else { ScannerState::Down };
        let changed = condition.state != state;
        if changed {
            condition.state = state;
            condition.since = now;
        }
        let scanner = scanner.name();
        match outcome {
            Ok(version) => {
                if changed {
                    info!(scanner, address, version, "scanner answers");
                }
                condition.version = Some(version);
            }
            Err(reason) => {
                if changed {
                    warn!(scanner, address, reason, "scanner does not answer");
                }
                condition.last_error = Some(reason);
            }
        }
        changed && state == ScannerState::Up
    }
}

/// Checks a scanner for ever.
pub(super) async fn watch(service: Arc<Service>) {
    loop {
        service.check().await;
        sleep(CHECK_PAUSE).await;
        // An early check is welcome at any time; having waited for none is no error.
        timeout(service.health_interval(), service.health().soon.notified()).await.unwrap_or_default();
    }
}

/// The check that `asking` is, with a deadline.
pub(super) async fn within(asking: impl Future<Output = Result<String, String>>) -> Result<String, String> {
    timeout(CHECK_TIMEOUT, asking).await.unwrap_or_else(|_| Err(too_late()))
}

pub(super) fn too_late() -> String {
    format!("no answer within {} s", CHECK_TIMEOUT.as_secs())
}
