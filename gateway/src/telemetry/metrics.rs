//! What is counted, and under which name.
//!
//! Owns the counters and their names in Prometheus's convention: unit as suffix, `_total` for
//! what only grows. Labels come from fixed lists, so that no stranger chooses how many series
//! there are.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::trouble::Trouble;
use crate::outcome::{MessageAction, MessageRecord, SessionEnd, SessionRecord, Verdict};

/// Something that is counted by name. Messages and sessions are counted with their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A flow was accepted.
    SessionAccepted,
    /// Octets read from clients.
    ClientOctets,
    /// Octets read from servers.
    ServerOctets,
    /// A reply of a server reached its client.
    ServerReply(ReplyClass),
    /// The gateway made a reply itself.
    GatewayReply(ReplyClass),
    /// Octets behind STARTTLS, before its reply, that were thrown away (RFC 3207 section 6).
    InjectedOctets,
    /// A client spoke before the server's greeting.
    EarlyTalker,
    /// A scanner gave no verdict.
    ScannerFailure,
    /// A message too large for the scanner.
    ScannerTooLarge,
    /// The gateway took a session over from its server.
    Takeover,
    /// A session went over to the splice lane.
    Splice,
    /// A ceiling was reached.
    Limit(Limit),
    /// A configuration was put in force.
    Reload,
    /// A changed configuration was refused.
    ReloadRefused,
    /// A line of the log could not be written.
    LogDropped,
    /// Something an operator should look at; counted by `Telemetry::trouble`.
    Trouble(Trouble),
}

/// The first digit of a reply code (RFC 5321 section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyClass {
    /// 2yz.
    Completion,
    /// 3yz.
    Intermediate,
    /// 4yz.
    TransientFailure,
    /// 5yz.
    PermanentFailure,
}

impl ReplyClass {
    const ALL: [Self; 4] =
        [Self::Completion, Self::Intermediate, Self::TransientFailure, Self::PermanentFailure];

    /// The class of a reply code; none for codes that are no replies.
    #[must_use]
    pub const fn of(code: u16) -> Option<Self> {
        match code {
            200..=299 => Some(Self::Completion),
            300..=399 => Some(Self::Intermediate),
            400..=499 => Some(Self::TransientFailure),
            500..=599 => Some(Self::PermanentFailure),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Completion => "2xx",
            Self::Intermediate => "3xx",
            Self::TransientFailure => "4xx",
            Self::PermanentFailure => "5xx",
        }
    }
}

/// A ceiling of `limits`, of the spool or of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `limits.sessions`.
    Sessions,
    /// `limits.sessions-per-client`.
    SessionsPerClient,
    /// `limits.message-size`.
    MessageSize,
    /// `limits.recipients`.
    Recipients,
    /// `limits.command-line`.
    CommandLine,
    /// `limits.hard-errors`.
    Errors,
    /// `limits.takeover-commands`.
    TakeoverCommands,
    /// `spool.min-free`.
    SpoolSpace,
}

impl Limit {
    const ALL: [Self; 8] = [
        Self::Sessions,
        Self::SessionsPerClient,
        Self::MessageSize,
        Self::Recipients,
        Self::CommandLine,
        Self::Errors,
        Self::TakeoverCommands,
        Self::SpoolSpace,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::SessionsPerClient => "sessions-per-client",
            Self::MessageSize => "message-size",
            Self::Recipients => "recipients",
            Self::CommandLine => "command-line",
            Self::Errors => "hard-errors",
            Self::TakeoverCommands => "takeover-commands",
            Self::SpoolSpace => "spool-min-free",
        }
    }
}

const LANES: [&str; 6] = ["inspect", "splice", "reject", "takeover", "bypass", "other"];
const ENDS: [SessionEnd; 10] = [
    SessionEnd::Quit,
    SessionEnd::Client,
    SessionEnd::Server,
    SessionEnd::Connect,
    SessionEnd::Timeout,
    SessionEnd::Gateway,
    SessionEnd::Protocol,
    SessionEnd::Operator,
    SessionEnd::Shutdown,
    SessionEnd::Error,
];
const ACTIONS: [MessageAction; 5] = [
    MessageAction::Passed,
    MessageAction::Refused,
    MessageAction::Deferred,
    MessageAction::ServerRefused,
    MessageAction::Aborted,
];
const VERDICTS: [&str; 5] = ["clean", "not-scanned", "infected", "too-large", "failed"];

/// Upper bounds of the scan time's buckets, in milliseconds.
const SCAN_BUCKETS: [u64; 9] = [5, 20, 50, 100, 250, 1_000, 5_000, 30_000, 120_000];

/// One word for records and metrics.
#[must_use]
pub const fn action_name(action: MessageAction) -> &'static str {
    match action {
        MessageAction::Passed => "passed",
        MessageAction::Refused => "refused",
        MessageAction::Deferred => "deferred",
        MessageAction::ServerRefused => "server-refused",
        MessageAction::Aborted => "aborted",
    }
}

/// One word for records and metrics.
#[must_use]
pub const fn end_name(end: SessionEnd) -> &'static str {
    match end {
        SessionEnd::Quit => "quit",
        SessionEnd::Client => "client",
        SessionEnd::Server => "server",
        SessionEnd::Connect => "connect",
        SessionEnd::Timeout => "timeout",
        SessionEnd::Gateway => "gateway",
        SessionEnd::Protocol => "protocol",
        SessionEnd::Operator => "operator",
        SessionEnd::Shutdown => "shutdown",
        SessionEnd::Error => "error",
    }
}

/// A span in milliseconds, as records write it.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// All counters. One relaxed addition for each event.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    accepted: AtomicU64,
    client_octets: AtomicU64,
    server_octets: AtomicU64,
    server_replies: [AtomicU64; ReplyClass::ALL.len()],
    gateway_replies: [AtomicU64; ReplyClass::ALL.len()],
    injected_octets: AtomicU64,
    early_talkers: AtomicU64,
    scanner_failures: AtomicU64,
    scanner_too_large: AtomicU64,
    takeovers: AtomicU64,
    splices: AtomicU64,
    limits: [AtomicU64; Limit::ALL.len()],
    reloads: AtomicU64,
    reloads_refused: AtomicU64,
    log_dropped: AtomicU64,
    troubles: [AtomicU64; Trouble::ALL.len()],
    sessions: [[AtomicU64; ENDS.len()]; LANES.len()],
    messages: [[AtomicU64; VERDICTS.len()]; ACTIONS.len()],
    message_octets: AtomicU64,
    scan_buckets: [AtomicU64; SCAN_BUCKETS.len()],
    scan_count: AtomicU64,
    scan_millis: AtomicU64,
}

/// What the rates are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) sessions: u64,
    pub(super) messages: u64,
    pub(super) refused: u64,
    pub(super) from_client: u64,
    pub(super) from_server: u64,
}

impl Metrics {
    pub(super) fn add(&self, counter: Counter, amount: u64) {
        self.cell(counter).fetch_add(amount, Ordering::Relaxed);
    }

    fn cell(&self, counter: Counter) -> &AtomicU64 {
        match counter {
            Counter::SessionAccepted => &self.accepted,
            Counter::ClientOctets => &self.client_octets,
            Counter::ServerOctets => &self.server_octets,
            Counter::ServerReply(class) => &self.server_replies[class as usize],
            Counter::GatewayReply(class) => &self.gateway_replies[class as usize],
            Counter::InjectedOctets => &self.injected_octets,
            Counter::EarlyTalker => &self.early_talkers,
            Counter::ScannerFailure => &self.scanner_failures,
            Counter::ScannerTooLarge => &self.scanner_too_large,
            Counter::Takeover => &self.takeovers,
            Counter::Splice => &self.splices,
            Counter::Limit(limit) => &self.limits[limit as usize],
            Counter::Reload => &self.reloads,
            Counter::ReloadRefused => &self.reloads_refused,
            Counter::LogDropped => &self.log_dropped,
            Counter::Trouble(kind) => &self.troubles[kind as usize],
        }
    }

    pub(super) fn message(&self, record: &MessageRecord) {
        let action = ACTIONS.iter().position(|known| *known == record.action);
        let verdict = VERDICTS.iter().position(|known| *known == record.verdict.name());
        if let (Some(action), Some(verdict)) = (action, verdict) {
            self.messages[action][verdict].fetch_add(1, Ordering::Relaxed);
        }
        self.message_octets.fetch_add(record.size, Ordering::Relaxed);
        if matches!(record.verdict, Verdict::Clean | Verdict::Infected { .. }) {
            self.scan_time(millis(record.scan_time));
        }
    }

    fn scan_time(&self, millis: u64) {
        if let Some(bucket) = SCAN_BUCKETS.iter().position(|bound| millis <= *bound) {
            self.scan_buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.scan_count.fetch_add(1, Ordering::Relaxed);
        self.scan_millis.fetch_add(millis, Ordering::Relaxed);
    }

    pub(super) fn session(&self, record: &SessionRecord) {
        let lane = LANES.iter().position(|known| *known == record.lane).unwrap_or(LANES.len() - 1);
        if let Some(end) = ENDS.iter().position(|known| *known == record.end) {
            self.sessions[lane][end].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let by_action = |action: usize| self.messages[action].iter().map(read).sum::<u64>();
        Totals {
            sessions: read(&self.accepted),
            messages: (0..ACTIONS.len()).map(by_action).sum(),
            refused: by_action(MessageAction::Refused as usize),
            from_client: read(&self.client_octets),
            from_server: read(&self.server_octets),
        }
    }

    /// Every counter that is not zero.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        self.each(|family| samples.extend(family.samples.into_iter().filter(|sample| sample.value != 0)));
        samples
    }

    fn each(&self, mut visit: impl FnMut(Family)) {
        let mut plain =
            |name, help, cell| visit(Family::new(name, help, vec![Sample::new(name, &[], read(cell))]));
        plain("gateway_sessions_accepted_total", "Flows accepted.", &self.accepted);
        plain("gateway_message_bytes_total", "Octets of messages, as scanned.", &self.message_octets);
        plain(
            "gateway_starttls_injected_bytes_total",
            "Octets behind STARTTLS thrown away.",
            &self.injected_octets,
        );
        plain("gateway_early_talkers_total", "Clients that spoke before the greeting.", &self.early_talkers);
        plain("gateway_scanner_failures_total", "Scans without a verdict.", &self.scanner_failures);
        plain(
            "gateway_scanner_too_large_total",
            "Messages too large for the scanner.",
            &self.scanner_too_large,
        );
        plain("gateway_takeovers_total", "Sessions taken over from their server.", &self.takeovers);
        plain("gateway_splices_total", "Sessions that went over to the splice lane.", &self.splices);
        plain("gateway_log_dropped_total", "Lines of the log that could not be written.", &self.log_dropped);

        let labelled = |name: &'static str, key: &str, values: Vec<(&'static str, &AtomicU64)>| {
            values
                .into_iter()
                .map(|(value, cell)| Sample::new(name, &[(key, value)], read(cell)))
                .collect::<Vec<_>>()
        };
        let name = "gateway_bytes_total";
        let cells = vec![("client", &self.client_octets), ("server", &self.server_octets)];
        visit(Family::new(name, "Octets read, by who sent them.", labelled(name, "from", cells)));
        let name = "gateway_limits_hit_total";
        let cells =
            Limit::ALL.iter().map(|limit| (limit.name(), self.cell(Counter::Limit(*limit)))).collect();
        visit(Family::new(name, "Ceilings reached, by setting.", labelled(name, "limit", cells)));
        let name = "gateway_reloads_total";
        let cells = vec![("in-force", &self.reloads), ("refused", &self.reloads_refused)];
        visit(Family::new(name, "Changed configurations, by outcome.", labelled(name, "outcome", cells)));
        let name = "gateway_troubles_total";
        let cells =
            Trouble::ALL.iter().map(|kind| (kind.name(), self.cell(Counter::Trouble(*kind)))).collect();
        visit(Family::new(name, "What an operator should look at, by kind.", labelled(name, "kind", cells)));
        self.each_grid(visit);
    }

    fn each_grid(&self, mut visit: impl FnMut(Family)) {
        let name = "gateway_replies_total";
        let mut samples = Vec::new();
        for (from, cells) in [("server", &self.server_replies), ("gateway", &self.gateway_replies)] {
            for (class, cell) in ReplyClass::ALL.iter().zip(cells) {
                samples.push(Sample::new(name, &[("from", from), ("class", class.name())], read(cell)));
            }
        }
        visit(Family::new(name, "Replies sent to clients, by who made them and class.", samples));

        let name = "gateway_sessions_total";
        let mut samples = Vec::new();
        for (lane, row) in LANES.iter().zip(&self.sessions) {
            for (end, cell) in ENDS.iter().zip(row) {
                samples.push(Sample::new(name, &[("lane", lane), ("end", end_name(*end))], read(cell)));
            }
        }
        visit(Family::new(name, "Sessions that ended, by lane and how.", samples));

        let name = "gateway_messages_total";
        let mut samples = Vec::new();
        for (action, row) in ACTIONS.iter().zip(&self.messages) {
            for (verdict, cell) in VERDICTS.iter().zip(row) {
                let labels = [("action", action_name(*action)), ("verdict", verdict)];
                samples.push(Sample::new(name, &labels, read(cell)));
            }
        }
        visit(Family::new(name, "Messages, by what was done and what the scanners said.", samples));
    }

    fn histogram(&self, out: &mut String) {
        let name = "gateway_scan_seconds";
        push(
            out,
            format_args!(
                "# HELP {name} From the end of a message to its verdict.\n# TYPE {name} histogram\n"
            ),
        );
        let mut sum = 0u64;
        for (bound, cell) in SCAN_BUCKETS.iter().zip(&self.scan_buckets) {
            sum = sum.saturating_add(read(cell));
            push(out, format_args!("{name}_bucket{{le=\"{}\"}} {sum}\n", Seconds(*bound)));
        }
        let count = read(&self.scan_count).max(sum);
        push(out, format_args!("{name}_bucket{{le=\"+Inf\"}} {count}\n"));
        push(out, format_args!("{name}_sum {}\n{name}_count {count}\n", Seconds(read(&self.scan_millis))));
    }
}

/// Milliseconds that print as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

struct Family {
    name: &'static str,
    help: &'static str,
    samples: Vec<Sample>,
}

impl Family {
    const fn new(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Self {
        Self { name, help, samples }
    }
}

/// One counter's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The metric's name, such as `gateway_messages_total`.
    pub name: String,
    /// Label names and values.
    pub labels: Vec<(String, String)>,
    /// What was counted.
    pub value: u64,
}

impl Sample {
    fn new(name: &str, labels: &[(&str, &str)], value: u64) -> Self {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { name: name.to_owned(), labels, value }
    }

    /// The value of the label `key`.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

/// A value that goes up and down, or a counter that somebody else keeps.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// The metric's name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// Each value with its labels.
    pub values: Vec<(Vec<(&'static str, String)>, u64)>,
}

/// The text format 0.0.4 of Prometheus.
pub(super) fn prometheus(metrics: &Metrics, gauges: &[Gauge]) -> String {
    let mut out = String::with_capacity(16 * 1024);
    metrics.each(|family| {
        push(
            &mut out,
            format_args!("# HELP {} {}\n# TYPE {} counter\n", family.name, family.help, family.name),
        );
        for sample in &family.samples {
            let labels = sample.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            push_sample(&mut out, family.name, labels, sample.value);
        }
    });
    metrics.histogram(&mut out);
    for gauge in gauges {
        push(
            &mut out,
            format_args!("# HELP {} {}\n# TYPE {} {}\n", gauge.name, gauge.help, gauge.name, gauge.kind),
        );
        for (labels, value) in &gauge.values {
            push_sample(
                &mut out,
                gauge.name,
                labels.iter().map(|(key, value)| (*key, value.as_str())),
                *value,
            );
        }
    }
    out
}

fn push_sample<'a>(
    out: &mut String,
    name: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    value: u64,
) {
    out.push_str(name);
    let mut open = '{';
    for (key, value) in labels {
        out.push(open);
        push(out, format_args!("{key}=\""));
        for letter in value.chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
        open = ',';
    }
    if open == ',' {
        out.push('}');
    }
    push(out, format_args!(" {value}\n"));
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    out.write_fmt(text).unwrap_or_default();
}

fn read(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}
