//! What the gateway tells of itself: records, counters, rates and recent lines.
//!
//! Owns how a record becomes a line of the log, what is counted and under which name, and what
//! the console shows of the past. Never decides anything, never waits: a log that cannot be
//! written is counted and dropped, because mail matters more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::config::file::Log;
use crate::delivery::record::{Ending, Record};
use crate::handoff::Engine;
use crate::intercept::identity::Identity;
use crate::outcome::{Cause, EnvelopeRecord, MessageRecord, SessionRecord};
use crate::queue::QueueId;

pub mod counter;
mod datagram;
mod fields;
mod journald;
pub mod json;
pub mod log;
pub mod logfmt;
pub mod metrics;
pub mod rates;
pub mod recent;
pub mod redact;
mod scans;
pub mod scrape;
mod spread;
mod stderr;
mod syslog;
#[cfg(test)]
mod tests;
pub mod trouble;

pub use counter::{Counter, Limit, ReplyClass};
pub use metrics::Sample;
pub use rates::Rates;
pub use recent::Line;
pub use trouble::Trouble;

use metrics::Metrics;
use rates::History;
use recent::Recent;
use redact::Redaction;
use trouble::Troubles;

/// Recipients that one record names; further ones are only counted.
pub const RECIPIENTS_SHOWN: usize = 20;

/// Everything the proxy process counts and remembers of itself; shared as an `Arc`.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    history: History,
    recent: Recent,
    troubles: Troubles,
    redaction: ArcSwap<Redaction>,
    since: SystemTime,
    started: Instant,
    /// In seconds since 1970; 0: not yet.
    reloaded: AtomicU64,
}

impl Telemetry {
    /// Telemetry of a process that starts at `started` and `since`; `log` says what of names and
    /// addresses stands in records.
    #[must_use]
    pub fn new(log: &Log, started: Instant, since: SystemTime) -> Self {
        Self {
            metrics: Metrics::default(),
            history: History::default(),
            recent: Recent::default(),
            troubles: Troubles::default(),
            redaction: ArcSwap::from_pointee(Redaction::new(log)),
            since,
            started,
            reloaded: AtomicU64::new(0),
        }
    }

    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.metrics.add(counter, 1);
    }

    /// Counts `amount`, in the counter's own unit.
    pub fn add(&self, counter: Counter, amount: u64) {
        // All sessions write to the same memory, and most sums of a step are zero.
        if amount != 0 {
            self.metrics.add(counter, amount);
        }
    }

    /// Counts something a stranger can cause and an operator should look at. The log gets one
    /// WARN line with the sum, at most one a minute for each kind; `detail` is that of the first.
    pub fn trouble(&self, kind: Trouble, detail: impl FnOnce() -> String) {
        self.metrics.add(Counter::Trouble(kind), 1);
        self.troubles.note(kind, detail);
    }

    /// Counts a message and writes its record.
    pub fn message(&self, record: &MessageRecord) {
        self.metrics.message(record);
        let redaction = self.redaction.load();
        let shown = record.recipients.get(..RECIPIENTS_SHOWN).unwrap_or(&record.recipients);
        let refused = usize::try_from(record.recipients_refused).unwrap_or(usize::MAX);
        let verdict = &record.verdict;
        let rating = verdict.rating();
        let symbols = rating.map(|rating| rating.symbols.join(",")).filter(|symbols| !symbols.is_empty());
        let scans = (verdict.results.len() > 1).then(|| fields::scans(verdict));
        tracing::info!(
            target: "gateway::outcome",
            action = metrics::action_name(record.action),
            verdict = verdict.kind().name(),
            signature = verdict.signature(),
            score = rating.map(|rating| tracing::field::display(rating.score)),
            threshold = rating.map(|rating| tracing::field::display(rating.threshold)),
            symbols,
            reason = verdict.failure().map(|(scanner, reason)| format!("{}: {reason}", scanner.name())),
            scans,
            spf = record.spf.as_ref().map(|spf| spf.result.name()),
            spf_identity = record.spf.as_ref().map(|spf| spf.identity.name()),
            spf_problem = record.spf.as_ref().and_then(|spf| spf.problem.as_deref()),
            session = %record.session,
            transaction = record.transaction,
            client = %record.client,
            identity = record.identity.as_ref().map(Identity::as_str),
            destination = %record.destination,
            helo = redaction.helo(&record.helo),
            sender = redaction.sender(&record.sender, true),
            recipients = redaction.recipients(shown, record.recipients.len(), true),
            recipients_accepted = record.recipients.len(),
            refused = redaction.recipients(&record.refused, refused, false),
            recipients_refused = record.recipients_refused,
            size = record.size,
            reply = redaction.text(&record.reply).as_ref(),
            scan_ms = metrics::millis(record.scan_time),
            time_ms = metrics::millis(record.time),
            "message"
        );
    }

    /// Writes the record of an envelope that came to no message, where any of its addresses is to
    /// be seen.
    pub fn envelope(&self, record: &EnvelopeRecord) {
        let redaction = self.redaction.load();
        let count = usize::try_from(record.recipients_refused).unwrap_or(usize::MAX);
        let refused = redaction.recipients(&record.refused, count, false);
        let sender = redaction.sender(&record.sender, !record.sender_refused);
        if refused.is_none() && (sender.is_none() || !record.sender_refused) {
            return;
        }
        tracing::info!(
            target: "gateway::outcome",
            session = %record.session,
            client = %record.client,
            identity = record.identity.as_ref().map(Identity::as_str),
            destination = %record.destination,
            helo = redaction.helo(&record.helo),
            sender,
            sender_refused = record.sender_refused.then_some(true),
            refused,
            recipients_refused = record.recipients_refused,
            reply = redaction.text(&record.reply).as_ref(),
            "envelope"
        );
    }

    /// Counts what became of one recipient of a message in the queue, and writes it with the names that Postfix has
    /// for it.
    pub fn delivery(&self, id: QueueId, record: &Record) {
        self.count(Counter::Delivery(record.ending));
        let redaction = self.redaction.load();
        let accepted = record.ending != Ending::Bounced;
        let shown = |address: &str| redaction.recipients(&[address.to_owned()], 1, accepted);
        let changed = !record.original_to.is_empty() && !record.original_to.eq_ignore_ascii_case(&record.to);
        tracing::info!(
            target: "gateway::delivery",
            id = %id,
            to = shown(&record.to),
            orig_to = if changed { shown(&record.original_to) } else { None },
            relay = record.relay.as_deref().unwrap_or("none"),
            conn_use = (record.connection_use > 1).then_some(record.connection_use),
            delay = record.delay(),
            delays = record.parts(),
            dsn = %record.status,
            status = record.ending.name(),
            reason = redaction.text(&record.reason).as_ref(),
            "delivery"
        );
    }

    /// Counts a session and writes its record.
    pub fn session(&self, record: &SessionRecord) {
        self.metrics.session(record);
        let facts = record.facts.as_ref();
        let tls = record.tls.as_ref();
        let redaction = self.redaction.load();
        tracing::info!(
            target: "gateway::outcome",
            lane = record.lane.as_str(),
            end = metrics::end_name(record.end),
            session = %record.session,
            client = %record.client,
            identity = record.identity.as_ref().map(Identity::as_str),
            destination = %record.destination,
            helo = redaction.helo(&record.helo),
            from_client = record.from_client,
            from_server = record.from_server,
            engine = record.engine.map(Engine::name),
            packets_from_client = record.handed_off.map(|kernel| kernel.packets_from_client),
            packets_from_server = record.handed_off.map(|kernel| kernel.packets_from_server),
            flow_end = record.handed_off.map(|kernel| kernel.end.name()),
            taken_over = record.handed_off.filter(|kernel| kernel.taken_over).map(|_| true),
            messages = record.messages,
            authenticated = record.conduct.authenticated,
            auth_offered = record.conduct.auth_offered,
            auth_rejected = record.conduct.auth_rejected,
            cause = record.conduct.cause.map(Cause::name),
            time_ms = metrics::millis(record.time),
            interface = facts.map(|facts| facts.interface.as_str()),
            mac = facts.and_then(|facts| facts.mac).map(redact::mac),
            ttl = facts.map(|facts| facts.ttl),
            server_name = tls.and_then(|tls| tls.server_name.as_deref()),
            tls = tls.map(|tls| tls.version.as_str()),
            ja4 = tls.map(|tls| tls.ja4.as_str()),
            listed = (!record.listed.is_empty()).then(|| record.listed.join(",")),
            "session"
        );
    }

    /// Changes what of names and addresses appears in records from here on.
    pub fn set_log(&self, log: &Log) {
        self.redaction.store(Arc::new(Redaction::new(log)));
    }

    /// Notes that a changed configuration is in force from `now` on.
    pub fn note_reload(&self, now: SystemTime) {
        self.count(Counter::Reload);
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.reloaded.store(seconds, Ordering::Relaxed);
    }

    /// When a changed configuration was put in force last, in seconds since 1970.
    #[must_use]
    pub fn reloaded(&self) -> Option<u64> {
        Some(self.reloaded.load(Ordering::Relaxed)).filter(|seconds| *seconds != 0)
    }

    /// Whether the domain of a mail address may stand in records.
    #[must_use]
    pub fn shows_domains(&self) -> bool {
        self.redaction.load().shows_domains()
    }

    /// The last lines of the log.
    #[must_use]
    pub const fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Takes one point of the history and logs the sums that are due; once a second.
    pub fn tick(&self, now: Instant, open_sessions: usize) {
        self.history.push(self.metrics.totals(), open_sessions);
        self.troubles.log_due(now);
    }

    /// All that is known at `now`, on the monotonic clock.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Snapshot {
            since: since.as_secs(),
            uptime: now.saturating_duration_since(self.started).as_secs(),
            samples: self.metrics.samples(),
            history: self.history.points(),
        }
    }

    /// The scrape a Prometheus server reads, with `gauges` of others behind the own counters.
    #[must_use]
    pub fn prometheus(&self, gauges: &[scrape::Gauge]) -> String {
        scrape::prometheus(&self.metrics, gauges)
    }
}

/// What the gateway has counted, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Start of the process, in seconds since 1970.
    pub since: u64,
    /// Seconds since the start of the process.
    pub uptime: u64,
    /// Every counter that is not zero.
    pub samples: Vec<Sample>,
    /// Rates of the last two minutes, oldest first, one point a second.
    pub history: Vec<Rates>,
}

impl Snapshot {
    /// The sum of all samples of the metric `name` that carry every one of `labels`.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.samples
            .iter()
            .filter(|sample| {
                sample.name == name && labels.iter().all(|(key, value)| sample.label(key) == Some(value))
            })
            .fold(0, |sum, sample| sum.saturating_add(sample.value))
    }

    /// The sums of the metric `name` by the values of the label `key`, largest first.
    #[must_use]
    pub fn by_label(&self, name: &str, key: &str) -> Vec<(String, u64)> {
        let mut sums: Vec<(String, u64)> = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.name == name) {
            let Some(value) = sample.label(key) else { continue };
            match sums.iter_mut().find(|(known, _)| known == value) {
                Some((_, sum)) => *sum = sum.saturating_add(sample.value),
                None => sums.push((value.to_owned(), sample.value)),
            }
        }
        sums.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        sums
    }
}

/// Keeps history and sums going until the task is dropped; `open` says how many sessions are open.
pub async fn run(telemetry: Arc<Telemetry>, open: impl Fn() -> usize + Send) {
    let mut second = tokio::time::interval(std::time::Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        second.tick().await;
        telemetry.tick(clock::now(), open());
    }
}
