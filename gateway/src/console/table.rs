//! The list of sessions as the console shows it: filtered, sorted, one of them selected.
//!
//! Owns the selection, which follows its session, not its row.

use std::cmp::Ordering;
use std::net::SocketAddr;

use super::text::safe;
use crate::control::request::Sessions;
use crate::intercept::flow::SessionId;
use crate::session::table::{SessionView, Stage};

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    Client,
    Destination,
    Stage,
    #[default]
    Age,
    Messages,
    FromClient,
    FromServer,
}

impl Sort {
    pub(super) const ALL: [Self; 7] = [
        Self::Client,
        Self::Destination,
        Self::Stage,
        Self::Age,
        Self::Messages,
        Self::FromClient,
        Self::FromServer,
    ];

    /// The column's head.
    pub(super) const fn head(self) -> &'static str {
        match self {
            Self::Client => "CLIENT",
            Self::Destination => "DESTINATION",
            Self::Stage => "STAGE",
            Self::Age => "AGE",
            Self::Messages => "MSGS",
            Self::FromClient => "SENT",
            Self::FromServer => "RECVD",
        }
    }

    fn step(self, by: usize) -> Self {
        let place = Self::ALL.iter().position(|sort| *sort == self).unwrap_or_default();
        Self::ALL.get((place + by) % Self::ALL.len()).copied().unwrap_or_default()
    }

    /// Names begin with the smallest, amounts with the largest.
    const fn descends(self) -> bool {
        match self {
            Self::Client | Self::Destination | Self::Stage => false,
            Self::Age | Self::Messages | Self::FromClient | Self::FromServer => true,
        }
    }
}

/// The lane a stage belongs to.
pub(super) const fn lane(stage: Stage) -> &'static str {
    match stage {
        Stage::Splice => "splice",
        Stage::Takeover => "takeover",
        Stage::Connect
        | Stage::Greeting
        | Stage::Command
        | Stage::Envelope
        | Stage::Data
        | Stage::Scan
        | Stage::EndOfData
        | Stage::Closing => "inspect",
    }
}

/// The sessions and how they are listed.
#[derive(Debug, Default)]
pub(super) struct SessionTable {
    /// Open sessions; more than are known here when there are very many.
    pub(super) open: usize,
    pub(super) filter: String,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    /// A list was received; until then nobody knows whether sessions are open.
    pub(super) known: bool,
    all: Vec<SessionView>,
    shown: Vec<SessionView>,
    selected: Option<SessionId>,
    /// The row of the selection, for when its session ends.
    row: usize,
}

impl SessionTable {
    /// Takes a fresh list in.
    pub(super) fn take(&mut self, sessions: Sessions) {
        self.known = true;
        self.open = sessions.open;
        self.all = sessions.sessions;
        self.arrange();
    }

    /// The sessions that the filter lets through, in order.
    pub(super) fn shown(&self) -> &[SessionView] {
        &self.shown
    }

    /// The selected session's row.
    pub(super) const fn row(&self) -> usize {
        self.row
    }

    /// The selected session.
    pub(super) fn selected(&self) -> Option<&SessionView> {
        self.shown.get(self.row)
    }

    /// A session by its name, whatever the filter.
    pub(super) fn find(&self, id: SessionId) -> Option<&SessionView> {
        self.all.iter().find(|session| session.id == id)
    }

    /// Selects the session in `row`, or the last one.
    pub(super) fn select(&mut self, row: usize) {
        self.row = row.min(self.shown.len().saturating_sub(1));
        self.selected = self.selected().map(|session| session.id);
    }

    /// Sorts by the next or previous column.
    pub(super) fn sort_by_neighbour(&mut self, next: bool) {
        self.sort = self.sort.step(if next { 1 } else { Sort::ALL.len() - 1 });
        self.reversed = false;
        self.arrange();
    }

    /// Turns the order around.
    pub(super) fn reverse(&mut self) {
        self.reversed = !self.reversed;
        self.arrange();
    }

    /// Whether the largest comes first.
    pub(super) const fn descends(&self) -> bool {
        self.sort.descends() != self.reversed
    }

    /// Filters and sorts again, after any of it changed.
    pub(super) fn arrange(&mut self) {
        let wanted = self.filter.to_ascii_lowercase();
        let mut shown: Vec<_> =
            self.all.iter().filter(|session| matches(session, &wanted)).cloned().collect();
        let (sort, descends) = (self.sort, self.descends());
        shown.sort_by(|a, b| {
            let order = compare(sort, a, b);
            if descends { order.reverse() } else { order }.then_with(|| a.id.cmp(&b.id))
        });
        self.shown = shown;
        let row = self.selected.and_then(|id| self.shown.iter().position(|session| session.id == id));
        self.select(row.unwrap_or(self.row));
    }
}

fn matches(session: &SessionView, wanted: &str) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let interface = session.facts.as_ref().map(|facts| facts.interface.as_str()).unwrap_or_default();
    let stage = session.stage;
    let texts = [&session.client, &session.destination, &session.helo, &session.id.to_string()];
    let words = [stage.name(), lane(stage), interface];
    texts
        .into_iter()
        .map(String::as_str)
        .chain(words)
        .any(|text| safe(text).to_ascii_lowercase().contains(wanted))
}

fn compare(sort: Sort, a: &SessionView, b: &SessionView) -> Ordering {
    match sort {
        Sort::Client => address(&a.client).cmp(&address(&b.client)),
        Sort::Destination => address(&a.destination).cmp(&address(&b.destination)),
        Sort::Stage => a.stage.cmp(&b.stage),
        Sort::Age => a.age.cmp(&b.age),
        Sort::Messages => a.messages.cmp(&b.messages),
        Sort::FromClient => a.from_client.cmp(&b.from_client),
        Sort::FromServer => a.from_server.cmp(&b.from_server),
    }
}

/// Addresses sort as numbers, not as texts.
fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}
