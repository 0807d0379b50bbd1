//! What is on the screen, and what keys do, without a terminal.

use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::deed::{Deed, Handling};
use super::list::clients;
use super::list::queue::Queued;
use super::list::sessions::Sort;
use super::model::{Link, Mode, Model, QueueStanding, Tab};
use super::theme::Theme;
use super::update::{Answer, Effect, Event, Page, update};
use super::view;
use crate::clock;
use crate::config::file::{LockAction, LockCause};
use crate::control::request::queue::{QueueEntry, QueuedMessage};
use crate::control::request::{
    Circuit, LockList, LockView, Log, ScannerHealth, ScannerState, Sessions, StateHealth, Status, Version,
};
use crate::intercept::flow::{FlowFacts, SessionId};
use crate::ipc::DatapathStatus;
use crate::ipc::client::{ClientList, ClientSort, ClientView, PeriodView};
use crate::queue::{Body, Envelope, QueueId, Recipient, Standing, Target};
use crate::session::table::{AuthState, SessionView, Stage};
use crate::telemetry::{Line, Rates, Sample, Snapshot};

/// What a client may say to own a terminal that shows it (CVE-2003-0063 and its kin).
const HOSTILE: &str = "x\x1b[2J\x1b]0;own\x07\u{9b}31m\u{202e}\r\n";

fn sample(name: &str, labels: &[(&str, &str)], value: u64) -> Sample {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Sample { name: name.to_owned(), labels, value }
}

fn telemetry() -> Snapshot {
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

fn status() -> Status {
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

fn id(number: u64) -> SessionId {
    format!("{number:013}").parse().unwrap()
}

fn session(number: u64, client: &str, stage: Stage, helo: &str) -> SessionView {
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

fn sessions() -> Sessions {
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

fn client(client: &str, sessions: u32, destinations: u32, excess: &[&str]) -> ClientView {
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

fn clients() -> ClientList {
    let clients = vec![
        client("192.0.2.10/32", 1_200, 980, &["sessions", "destinations"]),
        client("192.0.2.9/32", 12, 1, &[]),
        client("2001:db8:aaaa:bbbb::/64", 40, 2, &[]),
    ];
    ClientList { known: 4_321, period: Duration::from_secs(600), clients }
}

fn locks() -> LockList {
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
const NOW: u64 = 1_800_000_000_000;

fn entry(number: u64, age: u64, standing: Standing) -> QueueEntry {
    let id = format!("0PHFJ4{number:07}");
    QueueEntry { id, arrived: NOW - age * 1_000, size: 4_096 << number, recipients: 2, standing }
}

fn queue() -> (QueueStanding, Vec<Queued>) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(NOW);
    let entries = [
        entry(1, 400_000, Standing::Held),
        entry(2, 7_200, Standing::Deferred(NOW + 300_000)),
        entry(3, 2, Standing::Ready),
    ];
    let messages: Vec<_> = entries.iter().map(|entry| Queued::new(entry, now).unwrap()).collect();
    let oldest = messages.first().map(|message| message.age);
    (QueueStanding { ready: 1, deferred: 1, held: 1, oldest }, messages)
}

fn message(id: QueueId) -> QueuedMessage {
    let recipient = |address: &str| Recipient { address: address.to_owned(), original: None, notify: None };
    let envelope = Envelope {
        arrived: 0,
        sender: format!("s{HOSTILE}@client.example"),
        recipients: (0..9).map(|place| recipient(&format!("r{place}{HOSTILE}@example.com"))).collect(),
        target: Target::Relay("[mail.example.com]:587".to_owned()),
        submitter: None,
        body: Body::SevenBit,
        sign: false,
        smtputf8: false,
        ret: None,
        envid: None,
    };
    let entry = QueueEntry { id: id.to_string(), ..entry(1, 400_000, Standing::Held) };
    QueuedMessage { entry, envelope, settled: vec![0], warned: true }
}

/// Keys that show each page, what is in front of it, and each question once.
const EVERYTHING: [&str; 14] =
    ["1", "2", "\n", "K", "n3", "\n", "\x1b4", "\n", "U", "n5", "\n", "D", "n6", "?"];

fn log() -> Log {
    let line = |number: u64, level: &str, text: &str| Line {
        number,
        millis: 1_800_000_000_000 + number * 1_000,
        level: level.to_owned(),
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

fn model() -> Model {
    let mut model = Model::new(clock::now(), 24, TimeZone::UTC);
    let pages = [
        Page::Sessions(sessions()),
        Page::Clients(Ok(clients())),
        Page::Locks(locks()),
        Page::Queue(Ok(queue())),
    ];
    for page in pages {
        assert_eq!(update(&mut model, answer(page)), None);
    }
    update(&mut model, answer_with(Page::None, log()));
    model
}

/// What the gateway answers for a page.
fn answer(page: Page) -> Event {
    answer_with(page, Log::default())
}

fn answer_with(page: Page, log: Log) -> Event {
    Event::Answer(Box::new(Answer { status: status(), page, log }))
}

fn press(model: &mut Model, keys: &str) -> Option<Effect> {
    let mut last = None;
    for letter in keys.chars() {
        let code = match letter {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            other => KeyCode::Char(other),
        };
        last = update(model, Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
    last
}

/// The screen as text. No cell may hold anything but printable ASCII and the console's own signs.
fn screen(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model, Theme::new(true))).unwrap();
    for cell in terminal.backend().buffer().content() {
        let own = "╭╮╰╯─│▁▂▃▄▅▆▇█▲▼…".contains(cell.symbol());
        assert!(own || matches!(cell.symbol().as_bytes(), [0x20..=0x7e]), "{:?}", cell.symbol());
    }
    terminal.backend().to_string()
}

#[test]
fn every_page_at_80_by_24_and_120_by_40() {
    for (width, height) in [(80, 24), (120, 40)] {
        let mut model = model();
        for (keys, name) in [
            ("1", "overview"),
            ("2", "sessions"),
            ("\n", "detail"),
            ("K", "confirm"),
            ("n3", "clients"),
            ("\n", "client"),
            ("\x1b4", "locks"),
            ("\n", "lock"),
            ("U", "unlock"),
            ("n5", "queue"),
            ("\n", "message"),
            ("D", "delete"),
            ("n6", "log"),
            ("?", "help"),
        ] {
            if let Some(Effect::Read(id)) = press(&mut model, keys) {
                update(&mut model, Event::Message(id, Ok(Box::new(message(id)))));
            }
            insta::assert_snapshot!(format!("{name}-{width}x{height}"), screen(&model, width, height));
        }
    }
}

#[test]
fn hostile_names_from_everywhere_reach_the_screen_as_hex() {
    let mut model = model();
    let mut status = status();
    let hostile = HOSTILE.to_owned();
    status.name.clone_from(&hostile);
    status.stages = vec![(hostile.clone(), 1)];
    status.telemetry.samples.push(sample(
        "gateway_messages_total",
        &[("action", HOSTILE), ("verdict", HOSTILE)],
        1,
    ));
    status.telemetry.samples.push(sample("gateway_limits_hit_total", &[("limit", HOSTILE)], 1));
    status.datapath.interfaces = vec![hostile.clone()];
    status.datapath.packets = vec![(hostile.clone(), 1)];
    for scanner in &mut status.scanners {
        scanner.name.clone_from(&hostile);
        scanner.address.clone_from(&hostile);
        scanner.version.clone_from(&hostile);
    }
    let mut down = status.scanners[0].clone();
    down.last_error.clone_from(&hostile);
    status.scanners.push(down);
    let mut list = sessions();
    for session in &mut list.sessions {
        session.client.clone_from(&hostile);
        session.destination.clone_from(&hostile);
        session.facts.as_mut().unwrap().interface.clone_from(&hostile);
    }
    let answered = Answer { status, page: Page::Sessions(list), log: Log::default() };
    update(&mut model, Event::Answer(Box::new(answered)));
    update(&mut model, Event::Done(Err(hostile.clone())));
    for keys in EVERYTHING {
        press(&mut model, keys);
        for (width, height) in [(80, 24), (200, 60), (40, 10)] {
            screen(&model, width, height);
        }
    }
    update(&mut model, Event::Away(hostile));
    assert!(screen(&model, 80, 24).contains(r"\x1b[2J\x1b]0;own\x07\xc2\x9b31m"));
}

#[test]
fn no_size_of_the_screen_is_too_small() {
    let mut model = model();
    for keys in ["1", "2", "\n", "K", "n/x"].into_iter().chain(EVERYTHING) {
        press(&mut model, keys);
        for (width, height) in [(1, 1), (2, 2), (5, 3), (20, 6), (40, 10), (79, 23), (300, 5), (10, 200)] {
            update(&mut model, Event::Resized { height });
            screen(&model, width, height);
        }
    }
    press(&mut model, "\x1b\x1b");
    for (key, name) in [("1", "overview"), ("2", "sessions"), ("4", "locks"), ("5", "queue")] {
        press(&mut model, key);
        insta::assert_snapshot!(format!("{name}-40x10"), screen(&model, 40, 10));
    }
}

#[test]
fn without_colours_no_cell_has_one() {
    let mut model = model();
    for keys in EVERYTHING {
        press(&mut model, keys);
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| view::draw(frame, &model, Theme::new(false))).unwrap();
        for cell in terminal.backend().buffer().content() {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        }
    }
}

#[test]
fn a_gateway_that_is_away_is_waited_for_and_comes_back() {
    let mut model = Model::new(clock::now(), 24, TimeZone::UTC);
    let start = model.now;
    assert!(screen(&model, 80, 24).contains("waiting for the gateway's first answer"));
    update(&mut model, Event::Away("nobody answers".to_owned()));
    update(&mut model, Event::Tick(start + Duration::from_secs(5)));
    update(&mut model, Event::Away("nobody answers".to_owned()));
    assert!(screen(&model, 80, 24).contains("no answer for 5s, trying again: nobody answers"));
    press(&mut model, "2");
    assert!(screen(&model, 80, 24).contains("waiting for the list"), "not that no session is open");
    press(&mut model, "1");
    let answer = || Box::new(Answer { status: status(), page: Page::None, log: log() });
    update(&mut model, Event::Answer(answer()));
    assert_eq!((&model.link, model.log.last()), (&Link::Up, 4));
    assert!(!screen(&model, 80, 24).contains("no answer"));

    let mut restarted = answer();
    restarted.status.pid = 4712;
    update(&mut model, Event::Answer(restarted));
    assert_eq!(model.log.last(), 0, "the lines of the new process are asked for from its first");
    assert_eq!(model.log.lines.len(), 4);
    assert!(screen(&model, 80, 24).contains("the gateway was restarted"));
    update(&mut model, Event::Tick(start + Duration::from_secs(60)));
    assert_eq!(model.notice, None);
}

#[test]
fn the_pages_turn() {
    let mut model = model();
    assert_eq!(press(&mut model, "\t"), Some(Effect::Ask));
    assert_eq!(model.tab, Tab::Sessions);
    press(&mut model, "\t\t\t\t\t");
    assert_eq!(model.tab, Tab::Overview);
    press(&mut model, "?");
    assert_eq!(press(&mut model, "2"), None, "the page of keys is in front");
    assert_eq!((press(&mut model, "q"), &model.mode), (None, &Mode::Normal));
    assert_eq!(press(&mut model, "q"), Some(Effect::Quit));
}

#[test]
fn a_session_ends_only_after_a_yes() {
    let mut model = model();
    press(&mut model, "2");
    let selected = model.sessions.selected().unwrap().id;
    press(&mut model, "K");
    assert_eq!(model.mode, Mode::Confirm(Deed::End(selected)));
    for no in ["n", "\x1b", "\n", "q"] {
        press(&mut model, "K");
        assert_eq!((press(&mut model, no), &model.mode), (None, &Mode::Normal));
    }
    press(&mut model, "\nK");
    assert_eq!(press(&mut model, "y"), Some(Effect::Do(Deed::End(selected))));
    update(&mut model, Event::Done(Ok(Deed::End(selected))));
    assert!(screen(&model, 80, 24).contains(&format!("session {selected} is told to end")));
}

#[test]
fn the_question_is_about_the_session_that_was_chosen_whatever_moves() {
    let mut model = model();
    press(&mut model, "2");
    let selected = model.sessions.selected().unwrap().id;
    press(&mut model, "K");
    let mut list = sessions();
    list.sessions.retain(|session| session.id != selected);
    update(&mut model, answer(Page::Sessions(list)));
    assert_ne!(model.sessions.selected().unwrap().id, selected);
    assert_eq!(press(&mut model, "y"), Some(Effect::Do(Deed::End(selected))));
}

#[test]
fn the_selection_stays_with_its_session_when_the_order_changes() {
    let mut model = model();
    press(&mut model, "2");
    assert_eq!((model.sessions.sort, model.sessions.descends()), (Sort::Age, true));
    assert_eq!(model.sessions.selected().unwrap().id, id(5), "the oldest is first");
    press(&mut model, "jj");
    assert_eq!(model.sessions.selected().unwrap().id, id(3));
    press(&mut model, "r");
    assert_eq!((model.sessions.selected().unwrap().id, model.sessions.row()), (id(3), 2));
    press(&mut model, "G");
    assert_eq!(model.sessions.selected().unwrap().id, id(5));
    press(&mut model, "rkkkk");
    assert_eq!(model.sessions.row(), 0);
}

#[test]
fn addresses_sort_as_numbers() {
    let mut model = model();
    press(&mut model, "2<<<");
    assert_eq!(model.sessions.sort, Sort::Client);
    let clients: Vec<_> = model.sessions.shown().iter().map(|session| session.client.as_str()).collect();
    assert_eq!(clients[..2], ["192.0.2.9:40002", "192.0.2.10:40001"]);
    assert!(clients[4].starts_with("[2001"));
    press(&mut model, "<");
    assert_eq!(model.sessions.sort, Sort::FromServer, "the columns go around");
}

#[test]
fn clients_are_sorted_by_the_gateway_and_again_here() {
    let mut model = model();
    press(&mut model, "3");
    let first = |model: &Model| model.clients.selected().map(ClientView::name).unwrap();
    assert_eq!(first(&model), "192.0.2.10", "the most sessions");
    assert_eq!(press(&mut model, ">"), Some(Effect::Ask), "others may have more octets");
    assert_eq!(model.clients.sort, clients::Sort::By(ClientSort::Bytes));
    assert_eq!(model.clients.sort.asked(), ClientSort::Bytes);
    press(&mut model, "r");
    assert_eq!((first(&model), model.clients.row()), ("192.0.2.10".to_owned(), 2));
    press(&mut model, "g/2001\n");
    assert_eq!(first(&model), "2001:db8:aaaa:bbbb::/64");
    press(&mut model, "\x1b/destin\n");
    assert_eq!(first(&model), "192.0.2.10", "a limit gone beyond is a text of its client");
}

#[test]
fn that_nothing_is_counted_of_clients_is_said_and_why() {
    let mut model = model();
    press(&mut model, "3\n");
    update(
        &mut model,
        answer(Page::Clients(Err("clients are counted with `origin: assign` only".to_owned()))),
    );
    press(&mut model, "\x1b");
    assert!(screen(&model, 80, 24).contains("counted with `origin: assign` only"));
    update(&mut model, answer(Page::Clients(Ok(ClientList::default()))));
    assert!(screen(&model, 80, 24).contains("no client is known"));
    press(&mut model, "\n");
    assert_eq!(model.mode, Mode::Normal, "there is no row to look into");
}

#[test]
fn a_lock_is_removed_only_after_a_yes() {
    let mut model = model();
    press(&mut model, "4/virus\n");
    let who = model.locks.selected().unwrap().who.clone();
    assert_eq!((who.to_string().as_str(), model.locks.shown().len()), ("192.0.2.7", 1));
    for no in ["n", "\x1b", "\n", "q"] {
        press(&mut model, "U");
        assert_eq!(model.mode, Mode::Confirm(Deed::Unlock(who.clone())));
        assert_eq!((press(&mut model, no), &model.mode), (None, &Mode::Normal));
    }
    press(&mut model, "\nU");
    let deed = Deed::Unlock(who);
    assert_eq!(press(&mut model, "y"), Some(Effect::Do(deed.clone())));
    assert_eq!(update(&mut model, Event::Done(Ok(deed))), Some(Effect::Ask), "the list is another one");
    assert!(screen(&model, 80, 24).contains("192.0.2.7 is unlocked"));
    update(&mut model, answer(Page::Locks(LockList::default())));
    assert!(screen(&model, 80, 24).contains("no lock passes the filter"));
    press(&mut model, "U\n");
    assert_eq!(model.mode, Mode::Normal, "there is no row");
}

#[test]
fn each_handling_of_a_message_is_asked_for_and_is_about_the_one_that_was_chosen() {
    let mut model = model();
    press(&mut model, "5");
    let selected = model.queue.selected().unwrap().id;
    assert_eq!(selected.to_string(), "0PHFJ40000001", "the oldest");
    for (key, handling) in
        [("H", Handling::Hold), ("U", Handling::Release), ("T", Handling::Retry), ("D", Handling::Delete)]
    {
        press(&mut model, key);
        let deed = Deed::Message(handling, selected);
        assert_eq!(model.mode, Mode::Confirm(deed.clone()));
        assert_eq!((press(&mut model, "n"), &model.mode), (None, &Mode::Normal));
        press(&mut model, key);
        let (standing, mut messages) = queue();
        messages.retain(|message| message.id != selected);
        update(&mut model, answer(Page::Queue(Ok((standing, messages)))));
        assert_eq!(press(&mut model, "y"), Some(Effect::Do(deed)));
        update(&mut model, answer(Page::Queue(Ok(queue()))));
        press(&mut model, "g");
    }
    assert_eq!(press(&mut model, "\n"), Some(Effect::Read(selected)));
    assert!(screen(&model, 80, 24).contains("waiting for its envelope"));
    update(&mut model, Event::Message(selected, Err("no permission".to_owned())));
    assert!(screen(&model, 80, 24).contains("no permission"));
    press(&mut model, "D");
    assert_eq!(model.mode, Mode::Confirm(Deed::Message(Handling::Delete, selected)));
}

#[test]
fn that_there_is_no_queue_is_said_and_why() {
    let mut model = model();
    update(&mut model, answer(Page::Queue(Err("this gateway has no queue".to_owned()))));
    press(&mut model, "5");
    assert!(screen(&model, 80, 24).contains("this gateway has no queue"));
    update(&mut model, answer(Page::Queue(Ok((QueueStanding::default(), Vec::new())))));
    assert!(screen(&model, 80, 24).contains("no message is in the queue"));
}

#[test]
fn a_filter_is_written_kept_and_dropped() {
    let mut model = model();
    press(&mut model, "2/splicex\x08");
    assert_eq!(model.sessions.shown().len(), 1);
    assert!(screen(&model, 80, 24).contains(" /splice"));
    press(&mut model, "\n");
    assert_eq!(model.mode, Mode::Normal);
    assert!(screen(&model, 80, 24).contains("5 open, 1 shown, /splice"));
    press(&mut model, "/zzz\x1b");
    assert_eq!(model.sessions.filter, "splice", "Esc brings the filter before back");
    press(&mut model, "\x1b");
    assert_eq!(model.sessions.shown().len(), 5);
    press(&mut model, "/");
    press(&mut model, &"q".repeat(1_000));
    assert_eq!(model.sessions.filter.len(), 64, "a filter has an end, and `q` is a letter in it");
}

#[test]
fn a_scrolled_log_stays_and_a_following_one_moves_on() {
    let mut model = model();
    let lines = |numbers: std::ops::Range<u64>| {
        let line =
            |number| Line { number, millis: 0, level: "info".to_owned(), text: format!("line {number}") };
        let log = Log { lines: numbers.map(line).collect() };
        answer_with(Page::None, log)
    };
    press(&mut model, "6");
    update(&mut model, lines(5..105));
    assert!(screen(&model, 80, 24).contains("line 104"));
    press(&mut model, "kk");
    assert!(!screen(&model, 80, 24).contains("line 104") && screen(&model, 80, 24).contains("line 102"));
    update(&mut model, lines(105..115));
    assert!(screen(&model, 80, 24).contains("line 102 ") && !screen(&model, 80, 24).contains("line 103"));
    press(&mut model, "f");
    assert!(screen(&model, 80, 24).contains("line 114"));
    press(&mut model, "g");
    assert!(screen(&model, 80, 24).contains("client=192.0.2.10"), "the first line");
    press(&mut model, "/LINE 7\n");
    let shown = screen(&model, 80, 24);
    assert!(shown.contains("line 79") && !shown.contains("line 80"), "{shown}");
    update(&mut model, lines(115..20_000));
    assert_eq!(model.log.lines.len(), 5_000, "old lines leave");
}
