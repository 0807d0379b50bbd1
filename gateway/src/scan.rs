//! Scanners and their verdicts.
//!
//! Owns the connections to scanners, how many of them there are at once, and what is known of each
//! scanner's health. A scan reads the spool's copy and never touches the session, so a slow
//! scanner cannot slow a client. What follows from a verdict is `policy`'s business.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod clamd;
mod health;
mod limit;
pub mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use crate::config::file::Scan;
use crate::outcome::Verdict;
use crate::spool::SpoolReader;

pub use health::{ScannerState, ScannerView};

use clamd::Clamd;

/// All configured scanners. Dropped, it stops their health checks; scans that run go on.
#[derive(Debug)]
pub struct Scanners {
    clamd: Option<Arc<Clamd>>,
    health: Option<JoinHandle<()>>,
}

impl Scanners {
    /// Takes the configuration and begins to check the scanners' health.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(config: &Scan) -> Self {
        let clamd = config.clamd.as_ref().map(|clamd| Arc::new(Clamd::new(clamd)));
        let health = clamd.as_ref().map(|clamd| tokio::spawn(health::watch(Arc::clone(clamd))));
        Self { clamd, health }
    }

    /// Scans what `reader` reads, while it is written.
    #[must_use]
    pub fn start(&self, reader: SpoolReader) -> ScanJob {
        let step = Arc::new(StepCell::default());
        let task = self.clamd.as_ref().map(|clamd| {
            let (clamd, step) = (Arc::clone(clamd), Arc::clone(&step));
            tokio::spawn(async move { clamd.scan(reader, &step).await })
        });
        ScanJob { task, step, verdict: None }
    }

    /// What operators see of each scanner at `now`.
    #[must_use]
    pub fn view(&self, now: Instant) -> Vec<ScannerView> {
        self.clamd.iter().map(|clamd| clamd.view(now)).collect()
    }
}

impl Drop for Scanners {
    fn drop(&mut self) {
        if let Some(health) = &self.health {
            health.abort();
        }
    }
}

/// The scan of one message. Dropped, it is cancelled and its place is free at once.
#[derive(Debug)]
pub struct ScanJob {
    task: Option<JoinHandle<Verdict>>,
    step: Arc<StepCell>,
    verdict: Option<Verdict>,
}

impl ScanJob {
    /// Waits until `deadline` for the verdict of all scanners; `NotScanned` when there are none.
    ///
    /// May be called before the message is complete: only [`Verdict::TooLarge`] and
    /// [`Verdict::Failed`] come that early. Can be cancelled and called again.
    pub async fn verdict(&mut self, deadline: Instant) -> Verdict {
        if let Some(verdict) = &self.verdict {
            return verdict.clone();
        }
        let verdict = match &mut self.task {
            None => Verdict::NotScanned,
            Some(task) => match timeout_at(deadline.into(), &mut *task).await {
                Ok(Ok(verdict)) => verdict,
                Ok(Err(error)) => Verdict::Failed { reason: format!("scan task: {error}") },
                Err(_) => {
                    task.abort();
                    Verdict::Failed { reason: format!("deadline passed while {}", self.step.load().doing()) }
                }
            },
        };
        self.verdict = Some(verdict.clone());
        verdict
    }
}

impl Drop for ScanJob {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Where a scan is; named when its deadline passes.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Step {
    Message,
    Place,
    Connect,
    Send,
    Answer,
}

impl Step {
    const ALL: [Self; 5] = [Self::Message, Self::Place, Self::Connect, Self::Send, Self::Answer];

    const fn doing(self) -> &'static str {
        match self {
            Self::Message => "waiting for the message",
            Self::Place => "waiting for a free place (scan.clamd.concurrency)",
            Self::Connect => "connecting to the scanner",
            Self::Send => "sending the message to the scanner",
            Self::Answer => "waiting for the scanner's answer",
        }
    }
}

/// A [`Step`] shared between the scan and the one who waits for it.
#[derive(Debug, Default)]
struct StepCell(AtomicU8);

impl StepCell {
    fn store(&self, step: Step) {
        self.0.store(step as u8, Ordering::Relaxed);
    }

    fn load(&self) -> Step {
        let index = usize::from(self.0.load(Ordering::Relaxed));
        Step::ALL.get(index).copied().unwrap_or(Step::Message)
    }
}

#[cfg(test)]
mod tests;
