use std::time::Duration;

use super::*;
use crate::config::decimal::Decimal;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::flow::SessionId;
use crate::ipc::flow::Refusal;
use crate::outcome::{
    Conduct, Finding, MessageAction, Rating, ScanResult, Scanner, SessionEnd, SpamAction, SpfResult, Verdict,
};

fn telemetry() -> Telemetry {
    Telemetry::new(&Log::default(), clock::now(), clock::wall())
}

fn infected() -> MessageRecord {
    MessageRecord {
        session: SessionId::next(clock::wall()),
        transaction: 1,
        client: ClientAddr::new("192.0.2.1:1025".parse().unwrap()),
        identity: None,
        destination: OriginalDst::new("198.51.100.1:25".parse().unwrap()),
        helo: "client".to_owned(),
        sender: "alice@example.org".to_owned(),
        recipients: vec!["bob@example.net".to_owned()],
        recipients_refused: 0,
        refused: vec![],
        size: 1_000,
        verdict: Verdict {
            results: vec![
                ScanResult {
                    scanner: Scanner::Rspamd,
                    finding: Finding::Rated(Rating {
                        action: SpamAction::Greylist,
                        score: Decimal::whole(4),
                        threshold: Decimal::whole(15),
                        symbols: vec!["ONE".to_owned(), "TWO".to_owned()],
                    }),
                    time: Duration::from_millis(30),
                },
                ScanResult {
                    scanner: Scanner::Clamd,
                    finding: Finding::Infected { signature: "Eicar".to_owned() },
                    time: Duration::from_millis(40),
                },
            ],
        },
        spf: None,
        action: MessageAction::Refused,
        reply: "550 5.7.1 infected: Eicar".to_owned(),
        scan_time: Duration::from_millis(40),
        time: Duration::from_millis(90),
    }
}

fn session(lane: &str, end: SessionEnd) -> SessionRecord {
    let message = infected();
    SessionRecord {
        session: message.session,
        client: message.client,
        identity: message.identity,
        destination: message.destination,
        lane: lane.to_owned(),
        helo: message.helo,
        from_client: 1,
        from_server: 2,
        engine: None,
        handed_off: None,
        messages: 1,
        conduct: Conduct::default(),
        time: Duration::from_secs(1),
        end,
        facts: None,
        tls: None,
        listed: Vec::new(),
    }
}

#[test]
fn records_are_counted_by_their_labels() {
    let telemetry = telemetry();
    telemetry.message(&infected());
    telemetry.message(&infected());
    telemetry.session(&session("splice", SessionEnd::Quit));
    telemetry.session(&session("never heard of", SessionEnd::Timeout));
    let snapshot = telemetry.snapshot(clock::now());
    let refused = [("action", "refused"), ("verdict", "infected")];
    assert_eq!(snapshot.sum("gateway_messages_total", &refused), 2);
    assert_eq!(snapshot.sum("gateway_messages_total", &[("verdict", "clean")]), 0);
    assert_eq!(snapshot.sum("gateway_message_bytes_total", &[]), 2_000);
    let lanes = [("other".to_owned(), 1), ("splice".to_owned(), 1)];
    assert_eq!(snapshot.by_label("gateway_sessions_total", "lane"), lanes);
}

#[test]
fn every_counter_has_its_own_series() {
    let telemetry = telemetry();
    let counters = [
        Counter::SessionAccepted,
        Counter::ClientOctets,
        Counter::ServerOctets,
        Counter::ServerReply(ReplyClass::Completion),
        Counter::GatewayReply(ReplyClass::PermanentFailure),
        Counter::InjectedOctets,
        Counter::EarlyTalker,
        Counter::BareNewline,
        Counter::Nul,
        Counter::CommandRefused,
        Counter::Foreign,
        Counter::Authenticated,
        Counter::AuthFailed,
        Counter::ScannerFailure,
        Counter::ScannerTooLarge,
        Counter::Takeover,
        Counter::Splice,
        Counter::HandedOff,
        Counter::HandoffRefused(Refusal::Busy),
        Counter::Spf(SpfResult::SoftFail),
        Counter::Limit(Limit::SpoolSpace),
        Counter::AuthRequired,
        Counter::Offence(Cause::Dnsbl),
        Counter::Reload,
        Counter::ReloadRefused,
        Counter::LogDropped,
        Counter::Trouble(Trouble::Internal),
    ];
    for counter in counters {
        telemetry.count(counter);
    }
    let samples = telemetry.snapshot(clock::now()).samples;
    assert_eq!(samples.len(), counters.len());
    assert!(samples.iter().all(|sample| sample.value == 1), "{samples:?}");
}

#[test]
fn the_scrape_is_well_formed_and_escapes_label_values() {
    let telemetry = telemetry();
    telemetry.message(&infected());
    let gauge = scrape::Gauge {
        name: "gateway_scanner_up",
        help: "Whether the scanner answers.",
        kind: "gauge",
        values: vec![(vec![("name", "a\"b\\c\nd".to_owned())], 1)],
    };
    let scrape = telemetry.prometheus(&[gauge]);
    assert!(scrape.contains("gateway_messages_total{action=\"refused\",verdict=\"infected\"} 1\n"));
    assert!(scrape.contains("gateway_scan_seconds_bucket{le=\"0.050\"} 1\n"));
    assert!(scrape.contains("gateway_scan_seconds_bucket{le=\"0.020\"} 0\n"));
    assert!(scrape.contains("gateway_scan_seconds_sum 0.040\n"));
    assert!(scrape.contains("gateway_scans_total{scanner=\"rspamd\",result=\"greylist\"} 1\n"));
    assert!(scrape.contains("gateway_scanner_seconds_bucket{scanner=\"clamd\",le=\"0.050\"} 1\n"));
    assert!(scrape.contains("gateway_scanner_seconds_sum{scanner=\"rspamd\"} 0.030\n"));
    assert!(scrape.contains("gateway_scanner_seconds_count{scanner=\"spamd\"} 0\n"));
    assert!(scrape.contains("gateway_scanner_up{name=\"a\\\"b\\\\c\\nd\"} 1\n"));
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(series.starts_with("gateway_") && value.parse::<f64>().is_ok(), "{line}");
    }
}
