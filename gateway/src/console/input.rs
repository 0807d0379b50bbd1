//! What a key means.
//!
//! Owns the keys, in one place, after btop and k9s. Pure.
#![expect(clippy::wildcard_enum_match_arm, reason = "every key not named means nothing")]

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::deed::Handling;
use super::model::{Mode, Model, Tab};

/// Something the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Leave the console.
    Quit,
    /// Show a page.
    Show(Tab),
    /// Show the keys.
    Help,
    /// Close what is in front, or drop the filter.
    Back,
    /// Move by rows; negative is up.
    Move(isize),
    /// Move by screens; negative is up.
    MovePage(isize),
    /// To the first row.
    First,
    /// To the last row.
    Last,
    /// Begin to write a filter.
    Filter,
    /// A letter of the filter.
    Write(char),
    /// Take the filter's last letter away.
    Erase,
    /// Take all of the filter away.
    EraseAll,
    /// Keep the filter.
    Keep,
    /// Sort by the next column, or scroll to the right.
    Right,
    /// Sort by the previous column, or scroll to the left.
    Left,
    /// Turn the order around.
    Reverse,
    /// Follow the end of the log.
    Follow,
    /// Show the selected row.
    Detail,
    /// Ask whether the selected session is to end.
    Kill,
    /// Ask whether the selected lock is to be removed.
    Unlock,
    /// Ask whether mail for the selected destination is to be tried now.
    Flush,
    /// Ask whether this is to be done with the selected message.
    Handle(Handling),
    /// Yes, it is to be done.
    Confirm,
}

/// The keys, for the page that shows them. Each row is what the keys do and where.
pub(super) const KEYS: &[(&str, &[(&str, &str)])] = &[
    (
        "everywhere",
        &[
            ("1 to 7, Tab", "the pages"),
            ("?", "these keys"),
            ("Esc", "close, or drop the filter"),
            ("q, Ctrl-C", "leave"),
        ],
    ),
    (
        "lists",
        &[
            ("arrows, j k", "move"),
            ("PgUp PgDn, g G", "move far"),
            ("/", "filter; Enter keeps it"),
            ("Enter", "details"),
            ("< >", "sort by another column"),
            ("r", "reverse the order"),
        ],
    ),
    ("sessions, locks", &[("K, U, Del", "end the session; unlock")]),
    ("queue", &[("H U", "hold, release"), ("T D", "try now; delete")]),
    ("waiting", &[("T", "try mail for it now")]),
    ("log", &[("f", "follow the end"), ("< >", "scroll sideways")]),
];

/// What `key` means as things are; none when it means nothing.
pub(super) fn wish(model: &Model, key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && key.code == KeyCode::Char('c') {
        return Some(Wish::Quit);
    }
    match model.mode {
        Mode::Filter { .. } => in_filter(key.code, control),
        Mode::Confirm(_) => match key.code {
            KeyCode::Char('y' | 'Y') => Some(Wish::Confirm),
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc | KeyCode::Enter => Some(Wish::Back),
            _ => None,
        },
        Mode::Client(_) => match key.code {
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter => Some(Wish::Back),
            _ => None,
        },
        Mode::Help => match key.code {
            KeyCode::Char('?' | 'q') | KeyCode::Esc | KeyCode::Enter | KeyCode::F(1) => Some(Wish::Back),
            _ => None,
        },
        Mode::Detail(_) | Mode::Lock(_) | Mode::Message(_) | Mode::Destination(_) => match key.code {
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter => Some(Wish::Back),
            code => deed(model.tab, code),
        },
        Mode::Normal => in_page(model.tab, key.code, control),
    }
}

fn in_filter(code: KeyCode, control: bool) -> Option<Wish> {
    match code {
        KeyCode::Esc => Some(Wish::Back),
        KeyCode::Enter => Some(Wish::Keep),
        KeyCode::Backspace => Some(Wish::Erase),
        KeyCode::Char('u' | 'w') if control => Some(Wish::EraseAll),
        KeyCode::Char(letter @ ' '..='~') if !control => Some(Wish::Write(letter)),
        _ => None,
    }
}

fn in_page(tab: Tab, code: KeyCode, control: bool) -> Option<Wish> {
    let everywhere = match code {
        KeyCode::Char('q') => Some(Wish::Quit),
        KeyCode::Char('1') => Some(Wish::Show(Tab::Overview)),
        KeyCode::Char('2') => Some(Wish::Show(Tab::Sessions)),
        KeyCode::Char('3') => Some(Wish::Show(Tab::Clients)),
        KeyCode::Char('4') => Some(Wish::Show(Tab::Locks)),
        KeyCode::Char('5') => Some(Wish::Show(Tab::Queue)),
        KeyCode::Char('6') => Some(Wish::Show(Tab::Waiting)),
        KeyCode::Char('7') => Some(Wish::Show(Tab::Log)),
        KeyCode::Tab => Some(Wish::Show(tab.next())),
        KeyCode::BackTab => Some(Wish::Show(tab.previous())),
        KeyCode::Char('?') | KeyCode::F(1) => Some(Wish::Help),
        KeyCode::Esc => Some(Wish::Back),
        _ => None,
    };
    if everywhere.is_some() || tab == Tab::Overview {
        return everywhere;
    }
    let list = match code {
        KeyCode::Char('k') if control && tab == Tab::Sessions => Some(Wish::Kill),
        KeyCode::Up | KeyCode::Char('k') => Some(Wish::Move(-1)),
        KeyCode::Down | KeyCode::Char('j') => Some(Wish::Move(1)),
        KeyCode::PageUp => Some(Wish::MovePage(-1)),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Wish::MovePage(1)),
        KeyCode::Home | KeyCode::Char('g') => Some(Wish::First),
        KeyCode::End | KeyCode::Char('G') => Some(Wish::Last),
        KeyCode::Char('/') => Some(Wish::Filter),
        KeyCode::Right | KeyCode::Char('>' | 'l') => Some(Wish::Right),
        KeyCode::Left | KeyCode::Char('<' | 'h') => Some(Wish::Left),
        _ => None,
    };
    list.or_else(|| deed(tab, code)).or(match (tab, code) {
        (Tab::Log, KeyCode::Char('f')) => Some(Wish::Follow),
        (Tab::Log, _) => None,
        (_, KeyCode::Char('r')) => Some(Wish::Reverse),
        (_, KeyCode::Enter) => Some(Wish::Detail),
        _ => None,
    })
}

/// What can be done with what a page lists.
fn deed(tab: Tab, code: KeyCode) -> Option<Wish> {
    match (tab, code) {
        (Tab::Sessions, KeyCode::Char('K') | KeyCode::Delete) => Some(Wish::Kill),
        (Tab::Locks, KeyCode::Char('U') | KeyCode::Delete) => Some(Wish::Unlock),
        (Tab::Waiting, KeyCode::Char('T')) => Some(Wish::Flush),
        (Tab::Queue, KeyCode::Char('H')) => Some(Wish::Handle(Handling::Hold)),
        (Tab::Queue, KeyCode::Char('U')) => Some(Wish::Handle(Handling::Release)),
        (Tab::Queue, KeyCode::Char('T')) => Some(Wish::Handle(Handling::Retry)),
        (Tab::Queue, KeyCode::Char('D') | KeyCode::Delete) => Some(Wish::Handle(Handling::Delete)),
        _ => None,
    }
}
