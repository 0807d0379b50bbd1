//! The takeover: the server is gone, and the gateway is a polite server that takes no mail.
//!
//! Honest clients end the session by themselves when their mail is answered with 4xx; others
//! are answered for a limited number of commands and a limited time.

use std::time::Instant;

use super::{Exchange, Input, Note, Phase};
use crate::outcome::SessionEnd;
use crate::smtp::command::{Command, CommandError};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;

/// A session that the gateway has taken over.
#[derive(Debug)]
pub(super) struct Takeover {
    pub(super) since: Instant,
    commands: u32,
    /// Why, in the reply to MAIL.
    reason: String,
}

impl Exchange {
    /// Goes on in the server's place. Called again at the end of a refused text, from where the
    /// time counts.
    pub(super) fn take_over(&mut self, refusal: &Refusal, now: Instant) {
        if let Phase::Takeover(takeover) = &mut self.phase {
            takeover.since = now;
        } else {
            self.note(Note::Takeover);
            self.phase = Phase::Takeover(Takeover { since: now, commands: 0, reason: refusal.to_string() });
        }
        if !self.is_in_message() {
            self.transaction = None;
        }
        self.deferred = None;
    }

    pub(super) fn read_takeover(&mut self, line: &[u8], now: Instant) {
        let Phase::Takeover(takeover) = &mut self.phase else { return };
        takeover.commands = takeover.commands.saturating_add(1);
        let limit = self.rules.limits.takeover_commands;
        let name = &self.rules.name;
        if limit != 0 && takeover.commands > limit {
            self.tally.takeover_ends = self.tally.takeover_ends.saturating_add(1);
            let reply = Reply::new(554, &format!("5.5.0 {name} Transaction failed"));
            return self.answer_last(reply, SessionEnd::Gateway);
        }
        let reply = match Command::parse(line) {
            Ok(Command::Hello { name: hello, .. }) => {
                self.hello = hello;
                Reply::new(250, &format!("{name} SMTP gateway, hello"))
            }
            Ok(Command::Mail { .. }) => {
                Reply::new(451, &format!("4.3.2 {name} No more mail in this session: {}", takeover.reason))
            }
            Ok(Command::Rcpt { .. } | Command::Data) => Refusal::BadSequence.reply(name),
            Ok(Command::Bdat { size, last }) => {
                // The octets of the chunk are not commands.
                return self.skip_chunk(size, last, now);
            }
            Ok(Command::Rset | Command::Noop) => Reply::new(250, "2.0.0 OK"),
            Ok(Command::Quit) => {
                let reply = Reply::new(221, &format!("2.0.0 {name} Signing off"));
                return self.answer_last(reply, SessionEnd::Gateway);
            }
            Ok(Command::StartTls | Command::Auth { .. } | Command::Query { .. }) => {
                Refusal::Command(CommandError::Forbidden).reply(name)
            }
            Err(error) => return self.refuse_line(line, error, now),
        };
        self.queue.push_own(reply);
    }

    fn skip_chunk(&mut self, size: u64, last: bool, now: Instant) {
        self.clocks.block = now;
        self.input = Input::Chunk(super::bdat::Chunk::skipped(size, last, Refusal::BadSequence, now));
    }
}
