//! Whether a scanner answers, asked for at a steady pace and after each failed scan.
//!
//! Owns what operators see of a scanner. Decides nothing: a scan is tried whatever its scanner's
//! health, so a wrong state here costs no mail. Logs a change of state once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::clamd::{Clamd, NAME, open, read_reply};
use super::limit::Places;
use super::verdict::printable;
use crate::clock;
use crate::config::file::ScannerAddress;

/// Until a check counts as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two checks at least, however many scans fail.
const CHECK_PAUSE: Duration = Duration::from_secs(1);

/// Longest version or error that is shown.
const TEXT_LENGTH: usize = 200;

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
    /// Its name: `clamd`.
    pub name: String,
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
}

impl Default for Condition {
    fn default() -> Self {
        Self { state: ScannerState::Unknown, since: clock::now(), version: None, last_error: None }
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

    pub(super) fn view(&self, now: Instant, name: &str, address: String, places: &Places) -> ScannerView {
        let condition = self.condition();
        ScannerView {
            name: name.to_owned(),
            address,
            state: condition.state,
            since: now.saturating_duration_since(condition.since),
            version: condition.version.clone(),
            last_error: condition.last_error.clone(),
            busy: places.busy(),
            waiting: places.waiting(),
            concurrency: places.count(),
        }
    }

    fn note(&self, address: &ScannerAddress, outcome: Result<String, String>, now: Instant) {
        let mut condition = self.condition();
        let state = if outcome.is_ok() { ScannerState::Up } else { ScannerState::Down };
        let changed = condition.state != state;
        if changed {
            condition.state = state;
            condition.since = now;
        }
        let address = String::from(address.clone());
        match outcome {
            Ok(version) => {
                if changed {
                    info!(scanner = NAME, address, version, "scanner answers");
                }
                condition.version = Some(version);
            }
            Err(reason) => {
                if changed {
                    warn!(scanner = NAME, address, reason, "scanner does not answer");
                }
                condition.last_error = Some(reason);
            }
        }
    }
}

/// Checks a scanner for ever.
pub(super) async fn watch(clamd: Arc<Clamd>) {
    let mut stuck = None;
    loop {
        let outcome = match clamd.address() {
            ScannerAddress::Unix(_) => {
                timeout(CHECK_TIMEOUT, check_unix(clamd.address())).await.unwrap_or_else(|_| Err(too_late()))
            }
            ScannerAddress::Tcp(address) => check_tcp(&address.to_string(), &mut stuck).await,
        };
        clamd.health().note(clamd.address(), outcome, clock::now());
        sleep(CHECK_PAUSE).await;
        // An early check is welcome at any time; having waited for none is no error.
        timeout(clamd.health_interval(), clamd.health().soon.notified()).await.unwrap_or_default();
    }
}

fn too_late() -> String {
    format!("no answer within {} s", CHECK_TIMEOUT.as_secs())
}

/// PING and VERSION, each on a connection of its own, as clamd wants it outside of a session.
async fn check_unix(address: &ScannerAddress) -> Result<String, String> {
    let pong = ask(address, b"zPING\0").await?;
    let version = ask(address, b"zVERSION\0").await?;
    judge(&pong, &version)
}

async fn ask(address: &ScannerAddress, command: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = open(address).await.map_err(|error| error.to_string())?;
    stream.write_all(command).await.map_err(|error| error.to_string())?;
    read_reply(&mut stream).await.map_err(|failure| failure.to_string())
}

type Outcome = oneshot::Receiver<Result<String, String>>;

/// The same through `clamav-tcp`, which blocks without any deadline. A check that hangs stays in
/// `stuck`, and none is begun beside it.
///
/// It has a thread of its own: a thread of the runtime's pool would hold up the end of the process.
async fn check_tcp(address: &str, stuck: &mut Option<Outcome>) -> Result<String, String> {
    let mut outcome = match stuck.take() {
        Some(outcome) => outcome,
        None => begin_tcp(address.to_owned())?,
    };
    match timeout(CHECK_TIMEOUT, &mut outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err("the check itself failed".to_owned()),
        Err(_) => {
            *stuck = Some(outcome);
            Err(too_late())
        }
    }
}

fn begin_tcp(address: String) -> Result<Outcome, String> {
    let (tell, outcome) = oneshot::channel();
    let check = move || {
        let pong = clamav_tcp::ping(&address).map_err(|error| explain(&error));
        let version = pong.and_then(|pong| {
            let version = clamav_tcp::version(&address).map_err(|error| explain(&error))?;
            judge(pong.trim_end_matches('\0').as_bytes(), version.trim_end_matches('\0').as_bytes())
        });
        // Nobody listens any more when the scanner left the configuration.
        tell.send(version).unwrap_or_default();
    };
    thread::Builder::new()
        .name("scanner-check".to_owned())
        .spawn(check)
        .map(|_detached| outcome)
        .map_err(|error| error.to_string())
}

/// The error with its source: `clamav-tcp` names only the step.
fn explain(error: &clamav_tcp::ClamAVClientError) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => format!("{error}"),
    }
}

fn judge(pong: &[u8], version: &[u8]) -> Result<String, String> {
    if pong == b"PONG" {
        Ok(printable(version, TEXT_LENGTH))
    } else {
        Err(format!("answered PING with {}", printable(pong, TEXT_LENGTH)))
    }
}
