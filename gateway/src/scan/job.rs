//! The scans of one message, side by side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::timeout_at;

use super::service::{Message, Service};
use super::{Envelope, Exempt};
use crate::clock;
use crate::config::decimal::Decimal;
use crate::load;
use crate::outcome::{Finding, ScanResult, Scanner, Skip};
use crate::spool::SpoolReader;

/// The scans of one message. Dropped, they are cancelled and their places are free at once.
#[derive(Debug)]
pub struct ScanJob {
    /// Scanners that wait for the end of the message.
    waiting: Vec<Arc<Service>>,
    reader: SpoolReader,
    max_load: Decimal,
    tasks: JoinSet<Finding>,
    running: Vec<(Id, Arc<Service>)>,
    /// Results that took no scan.
    ready: Vec<(Scanner, Finding)>,
    late: watch::Sender<bool>,
    ended: Option<Instant>,
}

impl ScanJob {
    pub(super) fn start(
        services: &[Arc<Service>],
        reader: SpoolReader,
        exempt: Exempt,
        max_load: Decimal,
    ) -> Self {
        let mut job = Self {
            waiting: Vec::new(),
            reader,
            max_load,
            tasks: JoinSet::new(),
            running: Vec::new(),
            ready: Vec::new(),
            late: watch::Sender::new(false),
            ended: None,
        };
        for service in services {
            let scanner = service.scanner();
            let is_exempt = if scanner.is_for_spam() { exempt.spam } else { exempt.virus };
            if is_exempt {
                job.ready.push((scanner, Finding::Skipped { why: Skip::Exempt }));
            } else if service.begins_early() {
                job.begin(Arc::clone(service), None);
            } else {
                job.waiting.push(Arc::clone(service));
            }
        }
        job
    }

    /// The message is complete: the scanners that waited for that begin.
    pub fn complete(&mut self, envelope: Envelope, now: Instant) {
        self.ended = Some(now);
        if self.waiting.is_empty() {
            return;
        }
        let is_busy = load::is_above(load::average(), self.max_load);
        let envelope = Arc::new(envelope);
        for service in std::mem::take(&mut self.waiting) {
            if is_busy && service.scanner().is_for_spam() {
                self.ready.push((service.scanner(), Finding::Skipped { why: Skip::Load }));
            } else {
                self.begin(service, Some(Arc::clone(&envelope)));
            }
        }
    }

    /// Ends the scans that have no result: none is wanted any more.
    pub fn cancel(&mut self) {
        self.waiting.clear();
        self.ready.clear();
        self.running.clear();
        // Aborts them, and waits for nobody.
        self.tasks = JoinSet::new();
    }

    fn begin(&mut self, service: Arc<Service>, envelope: Option<Arc<Envelope>>) {
        let message = Message { reader: self.reader.clone(), envelope, late: self.late.subscribe() };
        let scanning = Arc::clone(&service);
        let task = self.tasks.spawn(async move { scanning.scan(message).await });
        self.running.push((task.id(), service));
    }

    /// Waits for the next result; `None` when all scanners that have begun have one. What has no
    /// result by `deadline` has failed.
    ///
    /// May be called before the message is complete: only [`Finding::TooLarge`] and
    /// [`Finding::Failed`] come that early. Can be cancelled and called again.
    pub async fn next(&mut self, deadline: Instant) -> Option<ScanResult> {
        if let Some((scanner, finding)) = self.ready.pop() {
            return Some(ScanResult { scanner, finding, time: Duration::ZERO });
        }
        let joined = match timeout_at(deadline.into(), self.tasks.join_next_with_id()).await {
            Ok(joined) => joined,
            Err(_) => {
                // The scans end themselves, and each knows what it was about.
                self.late.send_replace(true);
                self.tasks.join_next_with_id().await
            }
        }?;
        let (id, finding) = match joined {
            Ok((id, finding)) => (id, finding),
            Err(error) => (error.id(), Finding::Failed { reason: format!("scan task: {error}") }),
        };
        let place = self.running.iter().position(|(running, _)| *running == id)?;
        let (_, service) = self.running.swap_remove(place);
        let time = self.ended.map_or(Duration::ZERO, |ended| clock::now().saturating_duration_since(ended));
        match finding {
            Finding::Clean | Finding::Infected { .. } | Finding::Rated(_) => service.health().took(time),
            Finding::TooLarge | Finding::Skipped { .. } | Finding::Failed { .. } => {}
        }
        Some(ScanResult { scanner: service.scanner(), finding, time })
    }
}

#[cfg(test)]
impl ScanJob {
    /// A job whose only scan is a fault in the program.
    pub(super) fn faulty(service: &Arc<Service>, reader: SpoolReader) -> Self {
        let mut job = Self::start(&[], reader, Exempt::default(), Decimal::default());
        let task = job.tasks.spawn(async { panic!("a fault in the scan") });
        job.running.push((task.id(), Arc::clone(service)));
        job
    }
}
