//! What is on the screen, without a terminal.

mod keys;
mod world;

use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::model::{Model, Tab};
use super::theme::Theme;
use super::update::{Answer, Effect, Event, Page, update};
use super::view;
use crate::clock;
use crate::control::request::Log;
use world::{HOSTILE, clients, destinations, locks, log, message, queue, sample, sessions, status};

/// Keys that show each page, what is in front of it, and each question once.
const EVERYTHING: [&str; 17] =
    ["1", "2", "\n", "K", "n3", "\n", "\x1b4", "\n", "U", "n5", "\n", "D", "n6", "\n", "T", "n7", "?"];

fn model() -> Model {
    let mut model = Model::new(clock::now(), 24, TimeZone::UTC);
    let pages = [
        Page::Sessions(sessions()),
        Page::Clients(Ok(clients())),
        Page::Locks(locks()),
        Page::Queue(Ok(queue())),
        Page::Waiting(Ok(destinations())),
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
fn the_readme_names_all_pages_in_their_order() {
    let pages: Vec<_> = Tab::ALL.iter().map(|tab| tab.title().to_lowercase()).collect();
    let row = format!("| `1` to `{}`, Tab | {} |", pages.len(), pages.join(", "));
    assert!(include_str!("../../../README.md").contains(&row), "{row}");
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
            ("n6", "waiting"),
            ("\n", "destination"),
            ("T", "flush"),
            ("n7", "log"),
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
