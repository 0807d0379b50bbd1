//! A gateway that has something to show on every page.

use std::time::{Duration, SystemTime};

use crate::config::file::{LockAction, LockCause};
use crate::console::list::queue::Queued;
use crate::console::model::QueueStanding;
use crate::control::request::queue::{DestinationList, QueueEntry, QueuedMessage};
use crate::control::request::{
    Circuit, LockList, LockView, Log, ScannerHealth, ScannerState, Sessions, StateHealth, Status, Version,
};
use crate::delivery::waiting::Destination;
use crate::intercept::flow::{FlowFacts, SessionId};
use crate::ipc::DatapathStatus;
use crate::ipc::client::{ClientList, ClientView, PeriodView};
use crate::queue::{Envelope, QueueId, Standing, Target};
use crate::session::table::{AuthState, SessionView, Stage};
use crate::telemetry::{Line, Rates, Sample, Snapshot};

/// What a client may say to own a terminal that shows it (CVE-2003-0063 and its kin).
pub(super) const HOSTILE: &str = "x\x1b[2J\x1b]0;own\x07\u{9b}31m\u{202e}\r\n";

pub(super) fn sample(name: &str, labels: &[(&str, &str)], value: u64) -> Sample {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Sample { name: name.to_owned(), labels, value }
}

pub(super) fn telemetry() -> Snapshot {
    let (messages, sessions) = ("gateway_messages_total", "gateway_sessions_total");
    Snapshot {
        since: 1_800_000_000,
        uptime: 190_000,
        samples: vec![
            sample("gateway_sessions_accepted_total", &[], 12_345),
            sample(messages, &[("action", "passed"), ("verdict", "clean")], 11_180),
            sample(messages, &[("action", "refused"), ("verdict", "infected")], 12),
            sample(messages, &[("action", "deferred"), ("verdict", "failed")], 3),
            sample(messages, &[("action", "server-refused"), ("verdict", "not-scanned")], 40),
            sample(sessions, &[("lane", "inspect"), ("end", "quit")], 9_000),
            sample(sessions, &[("lane", "splice"), ("end", "client")], 3_000),
            sample(sessions, &[("lane", "takeover"), ("end", "gateway")], 12),
            sample("gateway_limits_hit_total", &[("limit", "sessions-per-client")], 7),
            sample("gateway_troubles_total", &[("kind", "scanner")], 3),
        ],
        history: (0..120u64)
            .map(|second| Rates {
                sessions: second % 10,
                messages: second % 7,
                refused: 0,
                from_client: second * 10_000,
                from_server: 500,
                open: 10 + second / 4,
            })
            .collect(),
    }
}

pub(super) fn status() -> Status {
    Status {
        version: Version { gateway: "0.1.0".to_owned(), control: 1 },
        name: "gw.example".to_owned(),
        pid: 4711,
        open: 39,
        most: 40,
        max_rss: 30_000,
        reloaded: None,
        stages: vec![("command".to_owned(), 20), ("data".to_owned(), 10), ("splice".to_owned(), 9)],
        telemetry: telemetry(),
        datapath: DatapathStatus {
            origin: "assign".to_owned(),
            attach: "tcx".to_owned(),
            interfaces: vec!["eth1".to_owned(), "vnet0".to_owned()],
            packets: vec![
                ("established".to_owned(), 1_234_567),
                ("assigned".to_owned(), 12_345),
                ("own-mark".to_owned(), 99_000),
                ("bypass-client".to_owned(), 17),
                ("not-tcp".to_owned(), 800),
            ],
            proxy_restarts: 1,
            draining_processes: 0,
            draining_sessions: 0,
            clients: None,
        },
        state: StateHealth::default(),
        scanners: vec![ScannerHealth {
            name: "clamd".to_owned(),
            address: "unix:/run/clamav/clamd.ctl".to_owned(),
            state: ScannerState::Up,
            version: "ClamAV 1.4.6/27500".to_owned(),
            last_error: String::new(),
            busy: 2,
            since: 187,
            circuit: Circuit::Closed,
            latency_ms: Some(12),
        }],
    }
}

pub(super) fn id(number: u64) -> SessionId {
    format!("{number:013}").parse().unwrap()
}

pub(super) fn session(number: u64, client: &str, stage: Stage, helo: &str) -> SessionView {
    SessionView {
        id: id(number),
        client: client.to_owned(),
        destination: "198.51.100.1:25".to_owned(),
        stage,
        helo: helo.to_owned(),
        from_client: 1_000 * number,
        from_server: 30 << number,
        messages: 1,
        age: Duration::from_secs(7 * number),
        facts: Some(FlowFacts {
            interface: "eth1".to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            vlan: [100, 0],
            ttl: 63,
            window: 64_240,
            mss: 1_460,
            window_scale: Some(7),
            sack: true,
            timestamps: true,
            client: None,
        }),
        tls: None,
        identity: None,
        auth: AuthState::default(),
    }
}

pub(super) fn sessions() -> Sessions {
    Sessions {
        open: 5,
        sessions: vec![
            session(1, "192.0.2.10:40001", Stage::Data, "mail.example.org"),
            session(2, "192.0.2.9:40002", Stage::Splice, "laptop"),
            session(3, "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:40003", Stage::Command, "six"),
            session(4, "192.0.2.11:40004", Stage::Takeover, HOSTILE),
            session(5, "192.0.2.12:40005", Stage::Scan, ""),
        ],
    }
}

pub(super) fn client(client: &str, sessions: u32, destinations: u32, excess: &[&str]) -> ClientView {
    ClientView {
        client: client.parse().unwrap(),
        open: sessions / 2,
        current: PeriodView {
            syns: sessions + 3,
            sessions,
            destinations,
            failed: 3,
            from_client: 40_000 * u64::from(sessions),
            from_server: 2_000,
            excess: excess.iter().map(|name| (*name).to_owned()).collect(),
        },
        previous: PeriodView { sessions: 1, destinations: 4, ..PeriodView::default() },
        syns: 5_000,
        sessions: 4_900,
        octets: 7 << 30,
        idle: Duration::from_secs(sessions.into()),
    }
}

pub(super) fn clients() -> ClientList {
    let clients = vec![
        client("192.0.2.10/32", 1_200, 980, &["sessions", "destinations"]),
        client("192.0.2.9/32", 12, 1, &[]),
        client("2001:db8:aaaa:bbbb::/64", 40, 2, &[]),
    ];
    ClientList { known: 4_321, period: Duration::from_secs(600), clients }
}

pub(super) fn locks() -> LockList {
    let lock = |who: &str, cause, detail: &str, age, left, hits| LockView {
        who: who.to_owned().try_into().unwrap(),
        action: LockAction::Reset,
        cause,
        detail: detail.to_owned(),
        session: (cause != LockCause::Operator).then(|| id(3)),
        age,
        left,
        offences: 2,
        hits,
        last: (hits != 0).then_some(12),
    };
    let locks = vec![
        lock("192.0.2.7", LockCause::Virus, "Win.Test.EICAR_HDB-1", 90, Some(3_510), 12_345),
        lock("192.0.2.128/25", LockCause::Operator, "caught twice", 90_000, None, 17),
        lock("2001:db8:aaaa:bbbb::/64", LockCause::Spam, HOSTILE, 5, Some(55), 0),
        lock("192.0.2.9-10.0.0.5", LockCause::EarlyTalk, "", 600, Some(3_000), 3),
    ];
    let exempt = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|net| net.to_owned().try_into().unwrap());
    LockList { held: 4, locks, exempt: exempt.to_vec() }
}

/// The last time in this test, in milliseconds since 1970.
pub(super) const NOW: u64 = 1_800_000_000_000;

pub(super) fn entry(number: u64, age: u64, standing: Standing) -> QueueEntry {
    let id = format!("0PHFJ4{number:07}");
    QueueEntry {
        id,
        arrived: NOW - age * 1_000,
        size: 4_096 << number,
        recipients: 2,
        standing,
        damaged: number == 1,
    }
}

pub(super) fn queue() -> (QueueStanding, Vec<Queued>) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(NOW);
    let entries = [
        entry(1, 400_000, Standing::Held),
        entry(2, 7_200, Standing::Deferred(NOW + 300_000)),
        entry(3, 2, Standing::Ready),
    ];
    let messages: Vec<_> = entries.iter().map(|entry| Queued::new(entry, now).unwrap()).collect();
    let oldest = messages.first().map(|message| message.age);
    (QueueStanding { ready: 1, deferred: 1, held: 1, damaged: 1, oldest }, messages)
}

pub(super) fn message(id: QueueId) -> QueuedMessage {
    let envelope = Envelope {
        sender: format!("s{HOSTILE}@client.example"),
        target: Target::Relay("[mail.example.com]:587".to_owned()),
        ..Envelope::to((0..9).map(|place| format!("r{place}{HOSTILE}@example.com")))
    };
    let entry = QueueEntry { id: id.to_string(), ..entry(1, 400_000, Standing::Held) };
    let reason = Some(format!("host mail.example.com[192.0.2.25]:587 said: 451 4.7.1 {HOSTILE} later"));
    QueuedMessage { entry, envelope, settled: vec![0], warned: true, reason }
}

pub(super) fn destinations() -> DestinationList {
    let much = Destination {
        destination: "example.com".to_owned(),
        messages: 1_234,
        recipients: 3_210,
        ages: [4, 0, 30, 200, 0, 1_000],
        held: 2,
        reason: Some(format!("connect to mx.example.com[192.0.2.25]:25: Connection refused{HOSTILE}")),
        since: Some(90),
    };
    let little = Destination {
        destination: format!("lmtp:unix:/run/{HOSTILE}"),
        messages: 3,
        recipients: 3,
        ages: [3, 0, 0, 0, 0, 0],
        ..Destination::default()
    };
    let others =
        Destination { messages: 40, recipients: 41, ages: [0, 0, 0, 0, 40, 0], ..Destination::default() };
    DestinationList { destinations: vec![much, little, others], unlooked: 7 }
}

pub(super) fn log() -> Log {
    let line = |number: u64, level: &str, text: &str| Line {
        number,
        millis: 1_800_000_000_000 + number * 1_000,
        level: level.to_owned().into(),
        text: text.to_owned(),
    };
    Log {
        lines: vec![
            line(1, "info", "session session=0000000000001 client=192.0.2.10:40001 lane=inspect end=quit"),
            line(2, "warn", "trouble kind=scanner count=3 first=\"clamd: connection refused\""),
            line(3, "info", &format!("message helo={HOSTILE}")),
            line(4, "error", "cannot write the spool"),
        ],
    }
}
