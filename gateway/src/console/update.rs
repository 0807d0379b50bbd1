//! What becomes of the screen when something happens.
//!
//! Owns every change of the model. Pure: what must be done outside comes back as an [`Effect`].

use std::time::Instant;

use ratatui::crossterm::event::KeyEvent;

use super::input::{Wish, wish};
use super::model::{Mode, Model, Tab};
use crate::control::Status;
use crate::control::request::{Log, Sessions};
use crate::intercept::flow::SessionId;
use crate::ipc::client::ClientList;

/// Longest filter.
const FILTER_LENGTH: usize = 64;

/// Columns that the log scrolls sideways at once.
const SIDEWAYS: usize = 16;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The screen has another size.
    Resized {
        /// Its rows.
        height: u16,
    },
    /// Time has passed.
    Tick(Instant),
    /// The gateway answered.
    Answer(Box<Answer>),
    /// The gateway did not answer; why, and what to do.
    Away(String),
    /// A session was told to end, or why not.
    Killed(Result<SessionId, String>),
}

/// What the gateway answered to one round of questions.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) sessions: Option<Sessions>,
    /// The clients, or why none are counted.
    pub(super) clients: Option<Result<ClientList, String>>,
    pub(super) log: Log,
}

/// Something to do outside the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Leave the console.
    Quit,
    /// Tell a session to end.
    Kill(SessionId),
    /// Ask the gateway at once, for a page that has no answer yet.
    Ask,
}

/// Changes the model by one event.
pub(super) fn update(model: &mut Model, event: Event) -> Option<Effect> {
    match event {
        Event::Key(key) => return wish(model, key).and_then(|wish| grant(model, wish)),
        Event::Resized { height } => model.height = height,
        Event::Tick(now) => model.tick(now),
        Event::Answer(answer) => {
            let Answer { status, sessions, clients, log } = *answer;
            // Lines of another process than the one before are asked for from the beginning.
            if model.take_status(status) {
                model.log.take(log.lines);
            }
            if let Some(sessions) = sessions {
                model.sessions.take(sessions.open, sessions.sessions);
            }
            if let Some(clients) = clients {
                model.take_clients(clients);
            }
        }
        Event::Away(why) => model.lose(why),
        Event::Killed(Ok(id)) => model.notify(format!("session {id} is told to end"), false),
        Event::Killed(Err(why)) => model.notify(why, true),
    }
    None
}

fn grant(model: &mut Model, wish: Wish) -> Option<Effect> {
    match wish {
        Wish::Quit => return Some(Effect::Quit),
        Wish::Show(tab) => {
            model.tab = tab;
            return Some(Effect::Ask);
        }
        Wish::Help => model.mode = Mode::Help,
        Wish::Back => back(model),
        Wish::Move(rows) => move_by(model, rows),
        Wish::MovePage(pages) => {
            let page = isize::try_from(model.page()).unwrap_or(isize::MAX);
            move_by(model, pages.saturating_mul(page));
        }
        Wish::First => move_by(model, isize::MIN),
        Wish::Last => move_by(model, isize::MAX),
        Wish::Filter => model.mode = Mode::Filter { before: model.filter().to_owned() },
        Wish::Write(letter) => edit(model, |filter| {
            if filter.len() < FILTER_LENGTH {
                filter.push(letter);
            }
        }),
        Wish::Erase => edit(model, |filter| {
            filter.pop();
        }),
        Wish::EraseAll => edit(model, String::clear),
        Wish::Keep => model.mode = Mode::Normal,
        Wish::Right | Wish::Left => return sideways(model, wish == Wish::Right),
        Wish::Reverse => reverse(model),
        Wish::Follow => model.log.behind = 0,
        Wish::Detail => detail(model),
        Wish::Kill => {
            let selected = model.sessions.selected().map(|session| session.id);
            if let Some(id) = if let Mode::Detail(id) = model.mode { Some(id) } else { selected } {
                model.mode = Mode::Confirm(id);
            }
        }
        Wish::Confirm => {
            if let Mode::Confirm(id) = std::mem::replace(&mut model.mode, Mode::Normal) {
                return Some(Effect::Kill(id));
            }
        }
    }
    None
}

fn back(model: &mut Model) {
    match std::mem::replace(&mut model.mode, Mode::Normal) {
        Mode::Filter { before } => edit(model, |filter| *filter = before),
        Mode::Normal => edit(model, String::clear),
        Mode::Help | Mode::Detail(_) | Mode::Client(_) | Mode::Confirm(_) => {}
    }
}

fn edit(model: &mut Model, change: impl FnOnce(&mut String)) {
    let Some(filter) = model.filter_mut() else { return };
    change(filter);
    model.log.behind = 0;
    model.sessions.arrange();
    model.clients.arrange();
}

fn move_by(model: &mut Model, rows: isize) {
    match model.tab {
        Tab::Overview => {}
        Tab::Sessions => model.sessions.move_by(rows),
        Tab::Clients => model.clients.move_by(rows),
        Tab::Log => {
            let most = model.log.matching().count().saturating_sub(model.page());
            let behind = match rows.checked_neg() {
                Some(up) => model.log.behind.saturating_add_signed(up),
                None => usize::MAX,
            };
            model.log.behind = behind.min(most);
        }
    }
}

fn detail(model: &mut Model) {
    let mode = match model.tab {
        Tab::Sessions => model.sessions.selected().map(|session| Mode::Detail(session.id)),
        Tab::Clients => model.clients.selected().map(|client| Mode::Client(client.client)),
        Tab::Overview | Tab::Log => None,
    };
    if let Some(mode) = mode {
        model.mode = mode;
    }
}

fn reverse(model: &mut Model) {
    match model.tab {
        Tab::Overview | Tab::Log => {}
        Tab::Sessions => model.sessions.reverse(),
        Tab::Clients => model.clients.reverse(),
    }
}

fn sideways(model: &mut Model, right: bool) -> Option<Effect> {
    match model.tab {
        Tab::Overview => {}
        Tab::Sessions => model.sessions.sort_by_neighbour(right),
        Tab::Clients => {
            model.clients.sort_by_neighbour(right);
            // The gateway lists the first ones only, so another order may bring others.
            return Some(Effect::Ask);
        }
        Tab::Log if right => model.log.shift = model.log.shift.saturating_add(SIDEWAYS).min(1_024),
        Tab::Log => model.log.shift = model.log.shift.saturating_sub(SIDEWAYS),
    }
    None
}
