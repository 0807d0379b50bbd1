//! One scanner with all that every scanner has: places, a ceiling on sizes, a deadline, a circuit
//! breaker, its health.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::Envelope;
use super::breaker::{Admission, Breaker, Change, Trial};
use super::engine::Engine;
use super::failure::Failure;
use super::health::{Health, ScannerView};
use super::limit::Places;
use super::step::{Step, StepCell};
use crate::clock;
use crate::config::file::Scan;
use crate::outcome::{Finding, Scanner};
use crate::spool::{BLOCK, SpoolReader};

/// One scanner.
#[derive(Debug)]
pub(super) struct Service {
    scanner: Scanner,
    /// As configured.
    address: String,
    engine: Engine,
    max_size: u64,
    deadline: Duration,
    health_interval: Duration,
    places: Places,
    breaker: Breaker,
    health: Health,
}

/// What is to be scanned.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) reader: SpoolReader,
    /// There for a complete message.
    pub(super) envelope: Option<Arc<Envelope>>,
    /// Turns true when no scan may take longer.
    pub(super) late: watch::Receiver<bool>,
}

impl Service {
    /// All that are configured.
    pub(super) fn all(config: &Scan) -> Vec<Self> {
        let scanners = config.scanners().into_iter();
        let service = scanners.map(|(scanner, common)| {
            Some(Self {
                scanner,
                address: String::from(common.address.clone()),
                engine: Engine::new(scanner, config)?,
                max_size: common.max_size.bytes(),
                deadline: common.deadline.duration(),
                health_interval: common.health_interval.duration(),
                places: Places::new(common.concurrency),
                breaker: Breaker::new(common.circuit_breaker),
                health: Health::default(),
            })
        });
        service.flatten().collect()
    }

    pub(super) const fn scanner(&self) -> Scanner {
        self.scanner
    }

    pub(super) const fn health(&self) -> &Health {
        &self.health
    }

    pub(super) const fn health_interval(&self) -> Duration {
        self.health_interval
    }

    /// Whether it begins before the message is complete.
    pub(super) const fn begins_early(&self) -> bool {
        matches!(self.engine, Engine::Clamd(_))
    }

    pub(super) fn view(&self, now: Instant) -> ScannerView {
        self.health.view(now, self.scanner, self.address.clone(), &self.places, self.breaker.view(now))
    }

    /// Checks its health once.
    pub(super) async fn check(&self) {
        let outcome = self.engine.check().await;
        let now = clock::now();
        if self.health.note(self.scanner, &self.address, outcome, now) {
            self.breaker.came_back(now);
        }
    }

    /// Scans one message; stops at once when it grows beyond `max-size`.
    pub(super) async fn scan(&self, message: Message) -> Finding {
        let trial = match self.admit(&message.reader).await {
            Ok(trial) => trial,
            Err(failure) => return Finding::Failed { reason: failure.to_string() },
        };
        let step = StepCell::default();
        let outcome = tokio::select! {
            biased;
            () = outgrown(message.reader.clone(), self.max_size) => Ok(Finding::TooLarge),
            outcome = self.ask(&message, &step) => outcome,
            () = too_late(&message, self.deadline) => Err(Failure::Deadline(step.load())),
        };
        self.note(trial, &outcome, step.load());
        outcome.unwrap_or_else(|failure| Finding::Failed { reason: failure.to_string() })
    }

    /// Asks the circuit breaker: before the message is complete, only where nothing is wrong.
    async fn admit(&self, reader: &SpoolReader) -> Result<Trial<'_>, Failure> {
        if !self.breaker.is_closed() {
            reader.clone().finished().await?;
        }
        match self.breaker.admit(clock::now()) {
            Admission::Granted(trial) => Ok(trial),
            Admission::Refused(left) => Err(Failure::LeftAlone(left)),
        }
    }

    async fn ask(&self, message: &Message, step: &StepCell) -> Result<Finding, Failure> {
        let mut reader = message.reader.clone();
        let envelope = message.envelope.as_deref();
        if self.begins_early() {
            reader.reached(u64::try_from(BLOCK).unwrap_or(u64::MAX)).await?;
            if !reader.is_finished()
                && let Some(place) = self.places.take_early()
                && let Some(finding) = self.engine.scan(&mut reader, envelope, place, step).await?
            {
                return Ok(finding);
            }
        }
        step.store(Step::Message);
        reader.finished().await?;
        reader.rewind();
        step.store(Step::Place);
        let place = self.places.take().await.ok_or(Failure::Stopped)?;
        self.engine.scan(&mut reader, envelope, place, step).await?.ok_or(Failure::Stopped)
    }

    /// Tells the circuit breaker and the health what came of a scan.
    fn note(&self, trial: Trial<'_>, outcome: &Result<Finding, Failure>, step: Step) {
        let change = match outcome {
            Err(failure) if failure.is_absence() => {
                self.health.check_soon();
                trial.failed(clock::now())
            }
            Err(failure) if !failure.is_presence() => None,
            // Too large by the gateway's own count: the scanner was not heard.
            Ok(Finding::TooLarge) if step != Step::Answer => None,
            Ok(_) | Err(_) => trial.succeeded(),
        };
        let (scanner, address) = (self.scanner.name(), self.address.as_str());
        match change {
            None => {}
            Some(Change::Opened(pause)) => {
                let pause = format!("{} s", pause.as_secs_f32());
                warn!(scanner, address, pause, "scanner is left alone: too many scans failed in a row");
            }
            Some(Change::Closed) => info!(scanner, address, "scanner is in use again"),
        }
    }
}

/// Returns once the message is longer than `max_size`; otherwise never.
async fn outgrown(mut reader: SpoolReader, max_size: u64) {
    let reached = reader.reached(max_size.saturating_add(1)).await;
    if reached.is_err() || reader.available() <= max_size {
        pending().await
    }
}

/// Returns `deadline` after the end of the message, or when the job says so.
async fn too_late(message: &Message, deadline: Duration) {
    let (mut reader, mut late) = (message.reader.clone(), message.late.clone());
    let own = async {
        match reader.finished().await {
            Ok(()) => sleep(deadline).await,
            Err(_) => pending().await,
        }
    };
    tokio::select! {
        () = own => {}
        // Without a job there is nobody to tell.
        _ = late.wait_for(|late| *late) => {}
    }
}
