//! The takeover: the server is gone, and the gateway is a polite server that takes no mail.
//!
//! Honest clients end the session by themselves when their mail is answered with 4xx; others
//! are answered for a limited number of commands and a limited time.

use std::time::Instant;

use super::question::Asked;
use super::{Exchange, Phase};
use crate::outcome::SessionEnd;
use crate::smtp::command::{Command, CommandError};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::report::Note;

/// A session that the gateway has taken over.
#[derive(Debug)]
pub(super) struct Takeover {
    pub(super) since: Instant,
    commands: u32,
    /// Why, in the reply to MAIL.
    reason: Refusal,
    /// The refusal stood in the greeting's place: only QUIT is in sequence (RFC 5321 section 3.1).
    is_closed: bool,
}

impl Exchange {
    /// Goes on in the server's place. Called again at the end of a refused text, from where the
    /// time counts.
    pub(super) fn take_over(&mut self, refusal: &Refusal, now: Instant) {
        if let Phase::Takeover(takeover) = &mut self.phase {
            takeover.since = now;
        } else {
            self.note(Note::Takeover);
            let is_closed = matches!(self.phase, Phase::Connect);
            let reason = refusal.clone();
            self.phase = Phase::Takeover(Takeover { since: now, commands: 0, reason, is_closed });
        }
        if !self.is_in_message() {
            self.envelope_done();
            self.transaction = None;
        }
        // A command that waited is answered here; the octets of its chunk are no commands.
        if let Some(command) = self.asked.take().and_then(Asked::into_command) {
            self.deferred = Some(command);
        }
    }

    pub(super) fn read_takeover(&mut self, line: &[u8], now: Instant) {
        match Command::parse(line) {
            Ok(command) => self.take_over_command(command, now),
            Err(error) => {
                if self.takeover_goes_on() {
                    self.refuse_line(line, error, now);
                }
            }
        }
    }

    /// Answers a command in the server's place.
    pub(super) fn take_over_command(&mut self, command: Command, now: Instant) {
        if !self.takeover_goes_on() {
            return;
        }
        let Phase::Takeover(takeover) = &self.phase else { return };
        let voice = &self.rules.voice;
        let reply = match command {
            Command::Hello { name: hello, .. } if !takeover.is_closed => {
                self.hello = hello;
                self.hello_is_new = true;
                Reply::new(250, &format!("{} {}", voice.name, voice.messages.hello))
            }
            Command::Mail { .. } if !takeover.is_closed => {
                let text = if let Refusal::Virus { .. } = takeover.reason {
                    voice.messages.virus_no_more.to_string()
                } else {
                    format!("No more mail in this session: {}", takeover.reason)
                };
                voice.reply(451, "4.3.2", &text)
            }
            Command::Rcpt { .. } | Command::Data | Command::Hello { .. } | Command::Mail { .. } => {
                Refusal::BadSequence.reply(voice)
            }
            Command::Bdat { size, last } => return self.skip_chunk(size, last, Refusal::BadSequence, now),
            Command::Rset | Command::Noop if takeover.is_closed => Refusal::BadSequence.reply(voice),
            Command::Rset | Command::Noop => Reply::new(250, "2.0.0 OK"),
            Command::Quit => {
                let reply = voice.reply(221, "2.0.0", voice.messages.sign_off.as_str());
                return self.answer_last(reply, SessionEnd::Gateway);
            }
            Command::StartTls | Command::Auth { .. } | Command::Query { .. } => {
                Refusal::Command(CommandError::Forbidden).reply(voice)
            }
        };
        self.queue.push_own(reply);
    }

    /// Counts a command; false when it was one too many.
    fn takeover_goes_on(&mut self) -> bool {
        let Phase::Takeover(takeover) = &mut self.phase else { return false };
        takeover.commands = takeover.commands.saturating_add(1);
        let limit = self.rules.limits.takeover_commands;
        if limit != 0 && takeover.commands > limit {
            self.tally.takeover_ends = self.tally.takeover_ends.saturating_add(1);
            let reply = Refusal::TakeoverEnds.reply(&self.rules.voice);
            self.answer_last(reply, SessionEnd::Gateway);
            return false;
        }
        true
    }
}
