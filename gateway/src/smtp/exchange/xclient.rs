//! The client is introduced to the server by XCLIENT, before the first command that is its own.
//!
//! The server then starts anew, as if the client had just connected. Its greeting has reached the
//! client before; what it says of the introduction answers the client's first command where it is
//! a refusal.

use std::time::Instant;

use super::Exchange;
use super::queue::Expected;
use crate::outcome::SessionEnd;
use crate::smtp::command::Command;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::report::Note;
use crate::smtp::xclient::{self, Client};

/// How far the introduction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Introduced {
    /// The client has sent no command yet.
    Due,
    /// The server is being told.
    UnderWay,
    /// The server knows, or is not told.
    Done,
}

impl Exchange {
    /// Whether `command` has to wait until the server knows whose it is.
    pub(super) fn is_stranger(&self, command: &Command) -> bool {
        self.introduced == Introduced::Due && !matches!(command, Command::Quit)
    }

    /// Begins the introduction; `command` comes behind it.
    pub(super) fn introduce(&mut self, command: Command, now: Instant) {
        self.introduced = Introduced::UnderWay;
        self.deferred = Some(command);
        let line = format!("EHLO {}", self.rules.voice.name);
        self.forward(&line, Expected::OwnHello, true, now);
    }

    /// The server has answered the gateway's own EHLO.
    pub(super) fn own_hello_answered(&mut self, reply: &Reply, now: Instant) {
        if reply.is_closing() {
            return self.relay_reply(reply, now);
        }
        let offered = if reply.is_positive() { xclient::offered(reply) } else { Vec::new() };
        let Some(introduction) = self.terms.introduction.filter(|_| !offered.is_empty()) else {
            return self.not_introduced(now);
        };
        let hello = match &self.deferred {
            Some(Command::Hello { extended, name }) => Some((*extended, name.as_str())),
            _ => None,
        };
        let line = xclient::command(&offered, Client { address: introduction.client, hello });
        self.forward(&line, Expected::Introduction, true, now);
    }

    /// The server has answered XCLIENT.
    pub(super) fn introduction_answered(&mut self, reply: &Reply, now: Instant) {
        match reply.code() {
            200..=299 => self.introduced = Introduced::Done,
            421 => self.relay_reply(reply, now),
            // Syntax, sequence, authorization: not about the client.
            500..=503 | 550 => self.not_introduced(now),
            _ => {
                self.relay_reply(reply, now);
                self.finish(SessionEnd::Server, now);
            }
        }
    }

    /// The server does not listen to XCLIENT, or not from this gateway.
    fn not_introduced(&mut self, now: Instant) {
        self.introduced = Introduced::Done;
        if self.terms.introduction.is_some_and(|introduction| introduction.required) {
            self.note(Note::NotIntroduced);
            self.give_up(&Refusal::NotIntroduced, SessionEnd::Protocol, now);
        }
    }
}
