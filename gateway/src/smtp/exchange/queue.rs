//! The replies that are still to come, in the order of their commands.

use std::collections::VecDeque;
use std::time::Instant;

use crate::smtp::reply::Reply;

/// What a forwarded command expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The gateway's own EHLO before XCLIENT; the client does not know of either.
    OwnHello,
    Introduction,
    Hello {
        extended: bool,
    },
    Mail,
    Rcpt(String),
    Data,
    EndOfData,
    Chunk,
    Rset,
    Quit,
    StartTls,
    Auth,
    Other,
}

#[derive(Debug)]
enum Entry {
    Forwarded(Expected),
    /// The gateway's own reply.
    Own(Reply),
}

/// Commands without a reply yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    /// Nothing may be pipelined behind the last entry.
    closed: bool,
    /// Since when the first entry waits.
    since: Option<Instant>,
}

impl Queue {
    pub(super) fn push(&mut self, expected: Expected, last_in_group: bool, now: Instant) {
        if self.entries.is_empty() {
            self.since = Some(now);
        }
        self.entries.push_back(Entry::Forwarded(expected));
        self.closed = last_in_group;
    }

    pub(super) fn push_own(&mut self, reply: Reply) {
        self.entries.push_back(Entry::Own(reply));
    }

    /// A reply that answers the command just taken off the queue, but may be delayed.
    pub(super) fn push_own_first(&mut self, reply: Reply) {
        self.entries.push_front(Entry::Own(reply));
    }

    /// The gateway's own reply, if it is its turn.
    pub(super) fn pop_own(&mut self) -> Option<Reply> {
        let own = self.entries.pop_front_if(|entry| matches!(entry, Entry::Own(_)))?;
        match own {
            Entry::Own(reply) => Some(reply),
            Entry::Forwarded(_) => None,
        }
    }

    /// The command that the server has just answered.
    pub(super) fn pop_forwarded(&mut self, now: Instant) -> Option<Expected> {
        let entry = self.entries.pop_front_if(|entry| matches!(entry, Entry::Forwarded(_)))?;
        self.since = self.awaits_server().then_some(now);
        if !self.awaits_server() {
            self.closed = false;
        }
        match entry {
            Entry::Forwarded(expected) => Some(expected),
            Entry::Own(_) => None,
        }
    }

    /// Turns every expectation of the client's into the gateway's own `reply`.
    pub(super) fn give_up(&mut self, reply: &Reply) {
        let unknown =
            |entry: &Entry| matches!(entry, Entry::Forwarded(Expected::OwnHello | Expected::Introduction));
        self.entries.retain(|entry| !unknown(entry));
        for entry in &mut self.entries {
            if matches!(entry, Entry::Forwarded(_)) {
                *entry = Entry::Own(reply.clone());
            }
        }
        self.closed = false;
        self.since = None;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn awaits_server(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Forwarded(_)))
    }

    pub(super) fn awaits_end_of_data(&self) -> bool {
        matches!(self.entries.front(), Some(Entry::Forwarded(Expected::EndOfData)))
    }

    /// Since when the server owes the first reply.
    pub(super) const fn since(&self) -> Option<Instant> {
        self.since
    }
}
