//! One message's copy and its scans, side by side.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Settings;
use crate::config::file::LeaveOn;
use crate::intercept::flow::Flow;
use crate::outcome::{Kind, ScanResult, Verdict};
use crate::policy::decision;
use crate::scan::{Envelope, Exempt, ScanJob};
use crate::smtp::exchange::Decision;
use crate::smtp::refusal::Refusal;
use crate::spool::{self, SpoolCopy, SpoolReader, Spooler};

/// A message on its way.
#[derive(Debug)]
pub(super) struct MessageCopy {
    /// Its number in the session.
    pub(super) number: u32,
    parts: Option<Parts>,
    verdict: Verdict,
    judged: bool,
    /// When the message was complete.
    ended: Option<Instant>,
    scan_time: Duration,
}

#[derive(Debug)]
struct Parts {
    copy: SpoolCopy,
    job: ScanJob,
}

/// What came of waiting for the scanners.
#[derive(Debug)]
pub(super) enum Judged {
    /// One of them has a result; it is noted already.
    Result(ScanResult),
    /// All have.
    Done,
}

impl MessageCopy {
    /// Begins the copy and the scan, where there is a `spooler` for it.
    ///
    /// # Errors
    ///
    /// When the copy cannot be made; the message must then be refused.
    pub(super) fn begin(
        number: u32,
        flow: &Flow,
        exempt: Exempt,
        spooler: Option<&Spooler>,
        settings: &Settings,
    ) -> Result<Self, spool::Error> {
        let parts = match spooler {
            None => None,
            Some(spooler) => {
                let header = header(&settings.config.spool.header, flow, number);
                let copy = spooler.begin_below(header.as_bytes())?;
                let job = settings.scanners.start(copy.reader(), exempt);
                Some(Parts { copy, job })
            }
        };
        let (verdict, scan_time) = (Verdict::default(), Duration::ZERO);
        Ok(Self { number, parts, verdict, judged: false, ended: None, scan_time })
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

    /// Whether there is a copy, which somebody looks at or keeps.
    pub(super) const fn is_copied(&self) -> bool {
        self.parts.is_some()
    }

    /// The message is complete.
    pub(super) const fn end(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// The message is complete, and so is its copy.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub(super) async fn finish(&mut self, envelope: Envelope, now: Instant) -> Result<(), spool::Error> {
        self.end(now);
        if let Some(parts) = &mut self.parts {
            parts.copy.finish().await?;
            parts.job.complete(envelope, now);
        }
        Ok(())
    }

    /// The message will not be completed: its copy and its scans are of no use.
    pub(super) fn abort(&mut self) {
        self.parts = None;
    }

    /// Whether the message is complete and not judged.
    pub(super) const fn awaits_verdict(&self) -> bool {
        self.ended.is_some() && !self.judged
    }

    /// Waits for the next result, at most `patience` from the end of the message. Can be cancelled.
    pub(super) async fn next(&mut self, patience: Duration) -> Judged {
        let (Some(parts), Some(ended)) = (&mut self.parts, self.ended) else { return Judged::Done };
        match parts.job.next(ended.checked_add(patience).unwrap_or(ended)).await {
            None => Judged::Done,
            Some(result) => {
                self.verdict.results.push(result.clone());
                Judged::Result(result)
            }
        }
    }

    /// What follows from the latest result: the first refusal ends the other scans, and the message
    /// passes when all have a result and none refuses it.
    pub(super) fn decide(&mut self, judged: &Judged, settings: &Settings, now: Instant) -> Option<Decision> {
        let scan = &settings.config.scan;
        let decision = match judged {
            // Whoever looks or does not, each scanner has one result; without it nothing passes.
            Judged::Done if self.verdict.results.len() < scan.scanners().len() => {
                Decision::Refuse(Refusal::ScannerFailed)
            }
            Judged::Done => Decision::Pass,
            Judged::Result(result) => Decision::Refuse(decision::refusal(result, scan)?),
        };
        if let Some(parts) = &mut self.parts {
            parts.job.cancel();
        }
        self.judged = true;
        self.scan_time = self.ended.map_or(Duration::ZERO, |ended| now.saturating_duration_since(ended));
        Some(decision)
    }

    /// The verdict so far and how long it took.
    pub(super) fn outcome(&self) -> (Verdict, Duration) {
        (self.verdict.clone(), self.scan_time)
    }

    /// The copy, to be read from its beginning.
    pub(super) fn reader(&self) -> Option<SpoolReader> {
        self.parts.as_ref().map(|parts| parts.copy.reader())
    }

    /// The verdict so far.
    pub(super) const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Keeps the copy where the operator wants it; otherwise it is gone.
    ///
    /// # Errors
    ///
    /// When it cannot be kept.
    pub(super) async fn keep_or_drop(self, flow: &Flow) -> Result<(), spool::Error> {
        let Some(parts) = self.parts.filter(|_| self.judged) else { return Ok(()) };
        let reasons =
            [(Kind::Infected, LeaveOn::Virus), (Kind::Spam, LeaveOn::Spam), (Kind::Failed, LeaveOn::Error)];
        let reasons: Vec<_> = reasons
            .into_iter()
            .filter(|(kind, _)| self.verdict.has(*kind))
            .map(|(_, reason)| reason)
            .collect();
        if let Some(path) = parts.copy.keep(&reasons, flow.id, self.number).await? {
            tracing::info!(session = %flow.id, path = %path.display(), "message kept");
        }
        Ok(())
    }
}

/// The header field for the scanners alone, as smtp-gated writes it: `trns` counts the messages
/// before this one. A flow has no `ident` here.
fn header(name: &str, flow: &Flow, number: u32) -> String {
    if name.is_empty() {
        return String::new();
    }
    let before = number.saturating_sub(1);
    format!("{name}: src={}, ident=, dst={}, trns={before}\r\n", flow.client, flow.destination)
}
