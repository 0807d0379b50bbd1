//! From what the exchange tells to records and counters.

use crate::intercept::flow::Flow;
use crate::outcome::{MessageRecord, Verdict};
use crate::smtp::exchange::{MessageDone, Note};
use crate::telemetry::{Counter, Telemetry, Trouble};

/// The record of one message.
pub(super) fn message(
    flow: &Flow,
    helo: &str,
    transaction: u32,
    done: MessageDone,
    verdict: Verdict,
    scan_time: std::time::Duration,
    now: std::time::Instant,
) -> MessageRecord {
    MessageRecord {
        session: flow.id,
        transaction,
        client: flow.client,
        destination: flow.destination,
        helo: helo.to_owned(),
        sender: done.envelope.sender,
        recipients: done.envelope.recipients,
        recipients_refused: done.envelope.refused,
        size: done.size,
        verdict,
        action: done.action,
        reply: done.reply,
        scan_time,
        time: now.saturating_duration_since(done.started),
    }
}

/// Counts what the exchange noted.
pub(super) fn note(telemetry: &Telemetry, flow: &Flow, note: Note) {
    match note {
        Note::EarlyTalk => telemetry.count(Counter::EarlyTalker),
        Note::Injected => {
            telemetry.count(Counter::InjectedOctets);
            telemetry.trouble(Trouble::Injection, || format!("client {}", flow.client));
        }
        Note::ServerProtocol => {
            telemetry.trouble(Trouble::ServerProtocol, || format!("server {}", flow.destination));
        }
        Note::Takeover => telemetry.count(Counter::Takeover),
        Note::BareNewline
        | Note::Nul
        | Note::CommandRefused
        | Note::Foreign
        | Note::Authenticated
        | Note::AuthFailed => {
            tracing::debug!(session = %flow.id, client = %flow.client, ?note, "noted");
        }
    }
}
