//! One message's copy and its scan, side by side.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Settings;
use crate::config::file::LeaveOn;
use crate::intercept::flow::SessionId;
use crate::outcome::Verdict;
use crate::scan::ScanJob;
use crate::spool::{self, SpoolCopy};

/// A message on its way.
#[derive(Debug)]
pub(super) struct MessageCopy {
    /// Its number in the session.
    pub(super) number: u32,
    parts: Option<Parts>,
    verdict: Option<Verdict>,
    /// When the message was complete.
    ended: Option<Instant>,
    scan_time: Duration,
}

#[derive(Debug)]
struct Parts {
    copy: SpoolCopy,
    job: ScanJob,
}

impl MessageCopy {
    /// Begins the copy and the scan, where anything is to be scanned or kept.
    ///
    /// # Errors
    ///
    /// When the copy cannot be made; the message must then be refused.
    pub(super) fn begin(number: u32, settings: &Settings) -> Result<Self, spool::Error> {
        let parts = match &settings.spooler {
            None => None,
            Some(spooler) => {
                let copy = spooler.begin()?;
                let job = settings.scanners.start(copy.reader());
                Some(Parts { copy, job })
            }
        };
        Ok(Self { number, parts, verdict: None, ended: None, scan_time: Duration::ZERO })
    }

    /// Adds octets.
    ///
    /// # Errors
    ///
    /// When they cannot be written; the message must then be refused.
    pub(super) async fn append(&mut self, octets: &Bytes) -> Result<(), spool::Error> {
        match &mut self.parts {
            Some(parts) => parts.copy.append(octets).await,
            None => Ok(()),
        }
    }

    /// The message is complete.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub(super) async fn finish(&mut self, now: Instant) -> Result<(), spool::Error> {
        self.ended = Some(now);
        match &mut self.parts {
            Some(parts) => parts.copy.finish().await,
            None => Ok(()),
        }
    }

    /// The message will not be completed: its copy and its scan are of no use.
    pub(super) fn abort(&mut self) {
        self.parts = None;
    }

    /// Whether the message is complete and not judged.
    pub(super) const fn awaits_verdict(&self) -> bool {
        self.ended.is_some() && self.verdict.is_none()
    }

    /// Waits for the verdict, at most `patience` from the end of the message. Can be cancelled.
    pub(super) async fn verdict(&mut self, patience: Duration) -> Verdict {
        let deadline = self.ended.and_then(|ended| ended.checked_add(patience));
        match (&mut self.parts, deadline) {
            (Some(parts), Some(deadline)) => parts.job.verdict(deadline).await,
            (None, _) => Verdict::NotScanned,
            (_, None) => Verdict::Failed { reason: "the message has no end".to_owned() },
        }
    }

    /// Notes the verdict.
    pub(super) fn judged(&mut self, verdict: Verdict, now: Instant) {
        self.scan_time = self.ended.map_or(Duration::ZERO, |ended| now.saturating_duration_since(ended));
        self.verdict = Some(verdict);
    }

    /// The verdict and how long it took; a message that was not judged was not scanned.
    pub(super) fn outcome(&self) -> (Verdict, Duration) {
        (self.verdict.clone().unwrap_or(Verdict::NotScanned), self.scan_time)
    }

    /// Keeps the copy where the operator wants it; otherwise it is gone.
    ///
    /// # Errors
    ///
    /// When it cannot be kept.
    pub(super) async fn keep_or_drop(self, session: SessionId) -> Result<(), spool::Error> {
        let (Some(parts), Some(verdict)) = (self.parts, self.verdict) else { return Ok(()) };
        let reason = match verdict {
            Verdict::Infected { .. } => LeaveOn::Virus,
            Verdict::Failed { .. } => LeaveOn::Error,
            Verdict::Clean | Verdict::NotScanned | Verdict::TooLarge => LeaveOn::Always,
        };
        if let Some(path) = parts.copy.keep(reason, session, self.number).await? {
            tracing::info!(session = %session, path = %path.display(), "message kept");
        }
        Ok(())
    }
}
