//! From what the exchange tells to records and counters.

use super::copy::Judged;
use super::table::LiveSession;
use crate::clock;
use crate::handoff::Engine;
use crate::intercept::flow::Flow;
use crate::outcome::{
    Conduct, EnvelopeRecord, Finding, HandedOff, MessageRecord, SessionEnd, SessionRecord, Verdict,
};
use crate::smtp::refusal::Refusal;
use crate::smtp::report::{EnvelopeRefused, MessageDone, Note};
use crate::smtp::tally::Tally;
use crate::spool;
use crate::telemetry::{Counter, Limit, ReplyClass, Telemetry, Trouble};

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
        identity: flow.identity.clone(),
        destination: flow.destination,
        helo: helo.to_owned(),
        sender: done.envelope.sender,
        recipients: done.envelope.recipients,
        recipients_refused: done.envelope.refused,
        refused: done.envelope.refused_paths,
        size: done.size,
        verdict,
        spf: None,
        action: done.action,
        reply: done.reply,
        scan_time,
        time: now.saturating_duration_since(done.started),
    }
}

/// The record of an envelope that came to no message.
pub(super) fn envelope(flow: &Flow, helo: &str, refused: EnvelopeRefused) -> EnvelopeRecord {
    EnvelopeRecord {
        session: flow.id,
        client: flow.client,
        identity: flow.identity.clone(),
        destination: flow.destination,
        helo: helo.to_owned(),
        sender: refused.envelope.sender,
        sender_refused: refused.sender_refused,
        recipients_refused: refused.envelope.refused,
        refused: refused.envelope.refused_paths,
        reply: refused.reply,
    }
}

/// The record of one session.
pub(super) fn session(
    live: &LiveSession,
    lane: &str,
    end: SessionEnd,
    conduct: Conduct,
    engine: Option<Engine>,
    handed_off: Option<HandedOff>,
) -> SessionRecord {
    let (from_client, from_server) = live.octets();
    let flow = live.flow();
    SessionRecord {
        session: flow.id,
        client: flow.client,
        identity: flow.identity.clone(),
        destination: flow.destination,
        lane: lane.to_owned(),
        helo: live.helo(),
        from_client,
        from_server,
        engine,
        handed_off,
        messages: live.messages(),
        conduct,
        time: clock::now().saturating_duration_since(live.opened()),
        end,
        facts: live.facts(),
        tls: live.tls(),
        listed: live.listed(),
    }
}

/// Counts what a scanner could not do.
pub(super) fn judged(telemetry: &Telemetry, judged: &Judged) {
    let Judged::Result(result) = judged else { return };
    match &result.finding {
        Finding::Failed { reason } => {
            telemetry.count(Counter::ScannerFailure);
            let scanner = result.scanner.name();
            telemetry.trouble(Trouble::Scanner, || format!("{scanner}: {reason}"));
        }
        Finding::TooLarge => telemetry.count(Counter::ScannerTooLarge),
        Finding::Clean | Finding::Infected { .. } | Finding::Rated(_) | Finding::Skipped { .. } => {}
    }
}

/// Counts a copy that could not be made, and says what its message's client is told.
pub(super) fn spool_failed(telemetry: &Telemetry, error: &spool::Error) -> Refusal {
    telemetry.trouble(Trouble::Spool, || error.to_string());
    if matches!(error, spool::Error::NoSpace) {
        telemetry.count(Counter::Limit(Limit::SpoolSpace));
        Refusal::NoSpace
    } else {
        Refusal::SpoolFailed
    }
}

/// Counts what the exchange noted.
pub(super) fn note(telemetry: &Telemetry, flow: &Flow, note: Note) {
    match note {
        Note::EarlyTalk => telemetry.count(Counter::EarlyTalker),
        Note::Injected => {
            telemetry.trouble(Trouble::Injection, || format!("client {}", flow.client));
        }
        Note::ServerProtocol => {
            telemetry.trouble(Trouble::ServerProtocol, || format!("server {}", flow.destination));
        }
        Note::NotIntroduced => {
            let told = || {
                let name = "smtpd_authorized_xclient_hosts";
                format!("server {}: it takes no XCLIENT from the gateway; see its {name}", flow.destination)
            };
            telemetry.trouble(Trouble::ServerProtocol, told);
        }
        Note::Takeover => telemetry.count(Counter::Takeover),
        Note::BareNewline => telemetry.count(Counter::BareNewline),
        Note::Nul => telemetry.count(Counter::Nul),
        Note::CommandRefused => telemetry.count(Counter::CommandRefused),
        Note::Foreign => telemetry.count(Counter::Foreign),
        Note::Authenticated => telemetry.count(Counter::Authenticated),
        Note::AuthFailed => telemetry.count(Counter::AuthFailed),
        // It is the client's quota's.
        Note::Rejected(_) => {}
        Note::Offence(cause) => telemetry.count(Counter::Offence(cause)),
    }
    tracing::debug!(session = %flow.id, client = %flow.client, ?note, "noted");
}

/// Counts what the exchange counted.
pub(super) fn tally(telemetry: &Telemetry, tally: &Tally) {
    if *tally == Tally::default() {
        return;
    }
    for (class, (all, own)) in ReplyClass::ALL.into_iter().zip(tally.replies.iter().zip(&tally.own_replies)) {
        telemetry.add(Counter::GatewayReply(class), *own);
        telemetry.add(Counter::ServerReply(class), all.saturating_sub(*own));
    }
    for (counter, amount) in [
        (Counter::InjectedOctets, tally.injected_octets),
        (Counter::Limit(Limit::CommandLine), tally.long_lines),
        (Counter::Limit(Limit::Recipients), tally.recipients),
        (Counter::Limit(Limit::MessageSize), tally.large_messages),
        (Counter::Limit(Limit::Errors), tally.hard_errors),
        (Counter::Limit(Limit::TakeoverCommands), tally.takeover_ends),
        (Counter::AuthRequired, tally.auth_required),
    ] {
        telemetry.add(counter, amount);
    }
}
