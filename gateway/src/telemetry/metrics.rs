//! What is counted, and under which name.
//!
//! Owns the counters and their names in Prometheus's convention: unit as suffix, `_total` for
//! what only grows. Labels come from fixed lists, so that no stranger chooses how many series
//! there are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counter::{Counter, Limit, ReplyClass};
use super::scans::{Histogram, Scans};
use super::spread::Spread;
use super::trouble::Trouble;
use crate::config::file::LockCause;
use crate::delivery::dkim::Signature;
use crate::delivery::dsn::Kind as Report;
use crate::delivery::record::Ending;
use crate::dns;
use crate::hooks::{self, Hook};
use crate::ipc::flow::Refusal;
use crate::outcome::{Cause, Kind, MessageAction, MessageRecord, SessionEnd, SessionRecord, SpfResult};
use crate::smtp::fault::Fault;

const LANES: [&str; 7] = ["inspect", "splice", "reject", "takeover", "bypass", "block", "other"];
const ENDS: [SessionEnd; 11] = [
    SessionEnd::Quit,
    SessionEnd::Client,
    SessionEnd::Server,
    SessionEnd::Connect,
    SessionEnd::Timeout,
    SessionEnd::Gateway,
    SessionEnd::Protocol,
    SessionEnd::Operator,
    SessionEnd::Locked,
    SessionEnd::Shutdown,
    SessionEnd::Error,
];
const ACTIONS: [MessageAction; 6] = [
    MessageAction::Passed,
    MessageAction::Refused,
    MessageAction::Deferred,
    MessageAction::ServerRefused,
    MessageAction::Aborted,
    MessageAction::Queued,
];

/// One word for records and metrics.
#[must_use]
pub const fn action_name(action: MessageAction) -> &'static str {
    match action {
        MessageAction::Passed => "passed",
        MessageAction::Refused => "refused",
        MessageAction::Deferred => "deferred",
        MessageAction::ServerRefused => "server-refused",
        MessageAction::Aborted => "aborted",
        MessageAction::Queued => "queued",
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
        SessionEnd::Locked => "locked",
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
    client_octets: Spread,
    server_octets: Spread,
    server_replies: [Spread; ReplyClass::ALL.len()],
    gateway_replies: [AtomicU64; ReplyClass::ALL.len()],
    injected_octets: AtomicU64,
    early_talkers: AtomicU64,
    bare_newlines: AtomicU64,
    nuls: AtomicU64,
    commands_refused: AtomicU64,
    foreign: AtomicU64,
    authenticated: AtomicU64,
    auth_failed: AtomicU64,
    auth_required: AtomicU64,
    offences: [AtomicU64; Cause::ALL.len()],
    empty: AtomicU64,
    scanner_failures: AtomicU64,
    scanner_too_large: AtomicU64,
    takeovers: AtomicU64,
    splices: AtomicU64,
    handoffs: AtomicU64,
    handoffs_refused: [AtomicU64; Refusal::ALL.len()],
    lookups: [AtomicU64; dns::Outcome::ALL.len()],
    spf: [AtomicU64; SpfResult::ALL.len()],
    deliveries: [AtomicU64; Ending::ALL.len()],
    notices: [AtomicU64; Fault::ALL.len()],
    summed: [AtomicU64; Fault::ALL.len()],
    signatures: [AtomicU64; Signature::ALL.len()],
    failure_reports: AtomicU64,
    delay_reports: AtomicU64,
    success_reports: AtomicU64,
    limits: [AtomicU64; Limit::ALL.len()],
    locked: [AtomicU64; LockCause::ALL.len()],
    hooks: [[AtomicU64; hooks::Outcome::ALL.len()]; Hook::ALL.len()],
    reloads: AtomicU64,
    reloads_refused: AtomicU64,
    log_dropped: AtomicU64,
    troubles: [AtomicU64; Trouble::ALL.len()],
    sessions: [[AtomicU64; ENDS.len()]; LANES.len()],
    messages: [[AtomicU64; Kind::ALL.len()]; ACTIONS.len()],
    message_octets: AtomicU64,
    scan_times: Histogram,
    scans: Scans,
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
            Counter::ClientOctets => self.client_octets.cell(),
            Counter::ServerOctets => self.server_octets.cell(),
            Counter::ServerReply(class) => self.server_replies[class as usize].cell(),
            Counter::GatewayReply(class) => &self.gateway_replies[class as usize],
            Counter::InjectedOctets => &self.injected_octets,
            Counter::EarlyTalker => &self.early_talkers,
            Counter::BareNewline => &self.bare_newlines,
            Counter::Nul => &self.nuls,
            Counter::CommandRefused => &self.commands_refused,
            Counter::Foreign => &self.foreign,
            Counter::Authenticated => &self.authenticated,
            Counter::AuthFailed => &self.auth_failed,
            Counter::AuthRequired => &self.auth_required,
            Counter::Offence(cause) => &self.offences[cause as usize],
            Counter::ScannerFailure => &self.scanner_failures,
            Counter::ScannerTooLarge => &self.scanner_too_large,
            Counter::Takeover => &self.takeovers,
            Counter::Splice => &self.splices,
            Counter::HandedOff => &self.handoffs,
            Counter::Locked(cause) => &self.locked[cause as usize],
            Counter::Hook(hook, outcome) => &self.hooks[hook as usize][outcome as usize],
            Counter::HandoffRefused(refusal) => &self.handoffs_refused[refusal as usize],
            Counter::Lookup(outcome) => &self.lookups[outcome as usize],
            Counter::Spf(result) => &self.spf[result as usize],
            Counter::Delivery(ending) => &self.deliveries[ending as usize],
            Counter::DeliveryReport(Report::Failure) => &self.failure_reports,
            Counter::DeliveryReport(Report::Delay { .. }) => &self.delay_reports,
            Counter::DeliveryReport(Report::Success) => &self.success_reports,
            Counter::Signature(signature) => &self.signatures[signature as usize],
            Counter::Notice { fault, told: true } => &self.notices[fault as usize],
            Counter::Notice { fault, told: false } => &self.summed[fault as usize],
            Counter::Limit(limit) => &self.limits[limit as usize],
            Counter::Reload => &self.reloads,
            Counter::ReloadRefused => &self.reloads_refused,
            Counter::LogDropped => &self.log_dropped,
            Counter::Trouble(kind) => &self.troubles[kind as usize],
        }
    }

    pub(super) fn message(&self, record: &MessageRecord) {
        let action = ACTIONS.iter().position(|known| *known == record.action);
        let kind = record.verdict.kind();
        if let Some(action) = action {
            self.messages[action][kind as usize].fetch_add(1, Ordering::Relaxed);
        }
        self.message_octets.fetch_add(record.size, Ordering::Relaxed);
        match kind {
            Kind::Clean | Kind::Suspect | Kind::Spam | Kind::Infected => {
                self.scan_times.count(record.scan_time);
            }
            Kind::NotScanned | Kind::TooLarge | Kind::Failed => {}
        }
        self.scans.count(&record.verdict);
    }

    pub(super) fn session(&self, record: &SessionRecord) {
        if record.messages == 0 {
            self.empty.fetch_add(1, Ordering::Relaxed);
        }
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
            from_client: self.client_octets.sum(),
            from_server: self.server_octets.sum(),
        }
    }

    /// Every counter that is not zero.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        self.each(|family| samples.extend(family.samples.into_iter().filter(|sample| sample.value != 0)));
        samples
    }

    pub(super) fn each(&self, mut visit: impl FnMut(Family)) {
        let mut plain =
            |name, help, cell| visit(Family::new(name, help, vec![Sample::new(name, &[], read(cell))]));
        plain("gateway_sessions_accepted_total", "Flows accepted.", &self.accepted);
        plain(
            "gateway_sessions_without_message_total",
            "Sessions that ended without a message.",
            &self.empty,
        );
        plain("gateway_message_bytes_total", "Octets of messages, as scanned.", &self.message_octets);
        plain(
            "gateway_starttls_injected_bytes_total",
            "Octets behind STARTTLS thrown away.",
            &self.injected_octets,
        );
        plain("gateway_early_talkers_total", "Clients that spoke before the greeting.", &self.early_talkers);
        plain("gateway_bare_newline_messages_total", "Messages with bare CR or LF.", &self.bare_newlines);
        plain("gateway_nul_messages_total", "Messages with NUL octets.", &self.nuls);
        plain(
            "gateway_commands_refused_total",
            "Commands malformed or out of place.",
            &self.commands_refused,
        );
        plain("gateway_foreign_protocols_total", "Clients that spoke another protocol.", &self.foreign);
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
        let octets = [("client", self.client_octets.sum()), ("server", self.server_octets.sum())];
        let samples = octets.map(|(from, octets)| Sample::new(name, &[("from", from)], octets));
        visit(Family::new(name, "Octets read, by who sent them.", samples.into()));
        let name = "gateway_dns_lookups_total";
        let cells = dns::Outcome::ALL
            .iter()
            .map(|outcome| (outcome.name(), self.cell(Counter::Lookup(*outcome))))
            .collect();
        visit(Family::new(
            name,
            "Names looked up in the DNS or its cache, by outcome.",
            labelled(name, "outcome", cells),
        ));
        let name = "gateway_spf_total";
        let cells =
            SpfResult::ALL.iter().map(|result| (result.name(), self.cell(Counter::Spf(*result)))).collect();
        visit(Family::new(
            name,
            "Senders whose SPF policy was asked, by result.",
            labelled(name, "result", cells),
        ));
        let name = "gateway_deliveries_total";
        let cells =
            Ending::ALL.iter().map(|ending| (ending.name(), self.cell(Counter::Delivery(*ending)))).collect();
        let help =
            "Recipients of messages in the queue about whom a delivery decided, by what became of them.";
        visit(Family::new(name, help, labelled(name, "status", cells)));
        let name = "gateway_dkim_signatures_total";
        let cell = |signature: &Signature| (signature.name(), self.cell(Counter::Signature(*signature)));
        visit(Family::new(
            name,
            "Messages to be signed (DKIM) that a server asked for, by what became of the signature.",
            labelled(name, "result", Signature::ALL.iter().map(cell).collect()),
        ));
        let name = "gateway_delivery_reports_total";
        let cells = vec![
            ("failure", &self.failure_reports),
            ("delay", &self.delay_reports),
            ("success", &self.success_reports),
        ];
        let help = "Reports on messages in the queue, to senders and postmasters.";
        visit(Family::new(name, help, labelled(name, "kind", cells)));
        for (name, told, help) in [
            ("gateway_postmaster_notices_total", true, "Notices of sessions to the postmaster, by class."),
            (
                "gateway_postmaster_notices_withheld_total",
                false,
                "Sessions of which the postmaster is told in a sum only, by class.",
            ),
        ] {
            let cell = |fault: &Fault| (fault.name(), self.cell(Counter::Notice { fault: *fault, told }));
            visit(Family::new(name, help, labelled(name, "class", Fault::ALL.iter().map(cell).collect())));
        }
        let name = "gateway_limits_hit_total";
        let cells =
            Limit::ALL.iter().map(|limit| (limit.name(), self.cell(Counter::Limit(*limit)))).collect();
        visit(Family::new(name, "Ceilings reached, by setting.", labelled(name, "limit", cells)));
        let name = "gateway_offenders_locked_total";
        let causes = LockCause::ALL.iter().filter(|cause| **cause != LockCause::Operator);
        let cells = causes.map(|cause| (cause.name(), self.cell(Counter::Locked(*cause)))).collect();
        let help = "Clients locked for what they have done, by cause.";
        visit(Family::new(name, help, labelled(name, "cause", cells)));
        let name = "gateway_auth_total";
        let cells = vec![
            ("succeeded", &self.authenticated),
            ("failed", &self.auth_failed),
            ("required", &self.auth_required),
        ];
        visit(Family::new(
            name,
            "AUTH exchanges by outcome, and MAIL that lacked one.",
            labelled(name, "outcome", cells),
        ));
        let name = "gateway_offences_total";
        let cells =
            Cause::ALL.iter().map(|cause| (cause.name(), self.cell(Counter::Offence(*cause)))).collect();
        visit(Family::new(
            name,
            "What clients may be locked out for, by cause.",
            labelled(name, "cause", cells),
        ));
        let name = "gateway_handoffs_total";
        let refused =
            Refusal::ALL.iter().map(|kind| (kind.name(), self.cell(Counter::HandoffRefused(*kind))));
        let cells = std::iter::once(("done", &self.handoffs)).chain(refused).collect();
        visit(Family::new(
            name,
            "Sessions the kernel was asked to carry alone, by outcome.",
            labelled(name, "outcome", cells),
        ));
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
        let name = "gateway_hooks_total";
        let mut samples = Vec::new();
        for hook in Hook::ALL {
            for outcome in hooks::Outcome::ALL {
                let labels = [("hook", hook.name()), ("outcome", outcome.name())];
                samples.push(Sample::new(name, &labels, read(self.cell(Counter::Hook(hook, outcome)))));
            }
        }
        visit(Family::new(
            name,
            "Locks that scripts and servers of on-lock were told of, by outcome.",
            samples,
        ));

        let name = "gateway_replies_total";
        let sample = |from, class: &ReplyClass, count| {
            Sample::new(name, &[("from", from), ("class", class.name())], count)
        };
        let server = ReplyClass::ALL.iter().zip(&self.server_replies);
        let gateway = ReplyClass::ALL.iter().zip(&self.gateway_replies);
        let server = server.map(|(class, cell)| sample("server", class, cell.sum()));
        let samples =
            server.chain(gateway.map(|(class, cell)| sample("gateway", class, read(cell)))).collect();
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
            for (verdict, cell) in Kind::ALL.iter().zip(row) {
                let labels = [("action", action_name(*action)), ("verdict", verdict.name())];
                samples.push(Sample::new(name, &labels, read(cell)));
            }
        }
        visit(Family::new(name, "Messages, by what was done and what the scanners said.", samples));
        visit(self.scans.results());
    }

    /// From the end of a message to the verdict.
    pub(super) const fn scan_times(&self) -> &Histogram {
        &self.scan_times
    }

    /// What is known of each scanner's scans.
    pub(super) const fn scans(&self) -> &Scans {
        &self.scans
    }
}

/// All series of one name.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) samples: Vec<Sample>,
}

impl Family {
    pub(super) const fn new(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Self {
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
    pub(super) fn new(name: &str, labels: &[(&str, &str)], value: u64) -> Self {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { name: name.to_owned(), labels, value }
    }

    /// The value of the label `key`.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

fn read(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}
