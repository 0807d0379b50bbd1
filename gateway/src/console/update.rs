//! What becomes of the screen when something happens.
//!
//! Owns every change of the model. Pure: what must be done outside comes back as an [`Effect`].

use std::time::Instant;

use ratatui::crossterm::event::KeyEvent;

use super::deed::{Deed, Handling};
use super::input::{Wish, wish};
use super::list::queue::Queued;
use super::model::{Mode, Model, QueueStanding, Tab};
use crate::control::Status;
use crate::control::request::queue::{DestinationList, QueuedMessage};
use crate::control::request::{LockList, Log, Sessions};
use crate::ipc::client::ClientList;
use crate::queue::QueueId;

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
    /// Something was done, or why not.
    Done(Result<Deed, String>),
    /// A message in the queue, or why it is not shown.
    Message(QueueId, Result<Box<QueuedMessage>, String>),
}

/// What the gateway answered to one round of questions.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) page: Page,
    pub(super) log: Log,
}

/// What a page lists.
#[derive(Debug)]
pub(super) enum Page {
    /// It lists nothing that is asked for.
    None,
    /// The open sessions.
    Sessions(Sessions),
    /// The clients, or why none are counted.
    Clients(Result<ClientList, String>),
    /// The locks.
    Locks(LockList),
    /// The queue, or why there is none.
    Queue(Result<(QueueStanding, Vec<Queued>), String>),
    /// The destinations that mail waits for, or why they are not told.
    Waiting(Result<DestinationList, String>),
}

/// Something to do outside the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Leave the console.
    Quit,
    /// Have it done.
    Do(Deed),
    /// Ask for a message in the queue.
    Read(QueueId),
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
            let Answer { status, page, log } = *answer;
            // Lines of another process than the one before are asked for from the beginning.
            if model.take_status(status) {
                model.log.take(log.lines);
            }
            match page {
                Page::None => {}
                Page::Sessions(sessions) => model.sessions.take(sessions.open, sessions.sessions),
                Page::Clients(clients) => model.take_clients(clients),
                Page::Locks(locks) => model.take_locks(locks),
                Page::Queue(queue) => model.take_queue(queue),
                Page::Waiting(list) => model.take_destinations(list),
            }
        }
        Event::Away(why) => model.lose(why),
        Event::Done(Ok(deed)) => {
            model.notify(deed.done(), false);
            return Some(Effect::Ask);
        }
        Event::Done(Err(why)) => model.notify(why, true),
        Event::Message(id, message) => model.message = Some((id, message)),
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
        Wish::Detail => return detail(model),
        Wish::Kill => {
            let selected = model.sessions.selected().map(|session| session.id);
            ask(model, if let Mode::Detail(id) = model.mode { Some(id) } else { selected }.map(Deed::End));
        }
        Wish::Unlock => {
            let selected = model.locks.selected().map(|lock| lock.who.clone());
            let who = if let Mode::Lock(who) = &model.mode { Some(who.clone()) } else { selected };
            ask(model, who.map(Deed::Unlock));
        }
        Wish::Flush => {
            let selected = model.destinations.selected().map(|row| row.destination.clone());
            let which =
                if let Mode::Destination(whose) = &model.mode { Some(whose.clone()) } else { selected };
            // What stands for others is none.
            ask(model, which.filter(|name| !name.is_empty()).map(Deed::Flush));
        }
        Wish::Handle(handling) => handle(model, handling),
        Wish::Confirm => {
            if let Mode::Confirm(deed) = std::mem::replace(&mut model.mode, Mode::Normal) {
                return Some(Effect::Do(deed));
            }
        }
    }
    None
}

/// Asks whether it is to be done.
fn ask(model: &mut Model, deed: Option<Deed>) {
    if let Some(deed) = deed {
        model.mode = Mode::Confirm(deed);
    }
}

fn handle(model: &mut Model, handling: Handling) {
    let selected = model.queue.selected().map(|message| message.id);
    let id = if let Mode::Message(id) = model.mode { Some(id) } else { selected };
    ask(model, id.map(|id| Deed::Message(handling, id)));
}

fn back(model: &mut Model) {
    match std::mem::replace(&mut model.mode, Mode::Normal) {
        Mode::Filter { before } => edit(model, |filter| *filter = before),
        Mode::Normal => edit(model, String::clear),
        Mode::Help
        | Mode::Detail(_)
        | Mode::Client(_)
        | Mode::Lock(_)
        | Mode::Message(_)
        | Mode::Destination(_)
        | Mode::Confirm(_) => {}
    }
}

fn edit(model: &mut Model, change: impl FnOnce(&mut String)) {
    let Some(filter) = model.filter_mut() else { return };
    change(filter);
    model.log.behind = 0;
    model.sessions.arrange();
    model.clients.arrange();
    model.locks.arrange();
    model.queue.arrange();
    model.destinations.arrange();
}

fn move_by(model: &mut Model, rows: isize) {
    match model.tab {
        Tab::Overview => {}
        Tab::Sessions => model.sessions.move_by(rows),
        Tab::Clients => model.clients.move_by(rows),
        Tab::Locks => model.locks.move_by(rows),
        Tab::Queue => model.queue.move_by(rows),
        Tab::Waiting => model.destinations.move_by(rows),
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

fn detail(model: &mut Model) -> Option<Effect> {
    let mode = match model.tab {
        Tab::Sessions => model.sessions.selected().map(|session| Mode::Detail(session.id)),
        Tab::Clients => model.clients.selected().map(|client| Mode::Client(client.client)),
        Tab::Locks => model.locks.selected().map(|lock| Mode::Lock(lock.who.clone())),
        Tab::Queue => model.queue.selected().map(|message| Mode::Message(message.id)),
        Tab::Waiting => model.destinations.selected().map(|row| Mode::Destination(row.destination.clone())),
        Tab::Overview | Tab::Log => None,
    };
    model.mode = mode?;
    // The list does not have its envelope.
    if let Mode::Message(id) = model.mode { Some(Effect::Read(id)) } else { None }
}

fn reverse(model: &mut Model) {
    match model.tab {
        Tab::Overview | Tab::Log => {}
        Tab::Sessions => model.sessions.reverse(),
        Tab::Clients => model.clients.reverse(),
        Tab::Locks => model.locks.reverse(),
        Tab::Queue => model.queue.reverse(),
        Tab::Waiting => model.destinations.reverse(),
    }
}

fn sideways(model: &mut Model, right: bool) -> Option<Effect> {
    match model.tab {
        Tab::Overview => {}
        Tab::Sessions => model.sessions.sort_by_neighbour(right),
        Tab::Locks => model.locks.sort_by_neighbour(right),
        Tab::Queue => model.queue.sort_by_neighbour(right),
        Tab::Waiting => model.destinations.sort_by_neighbour(right),
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
