//! A session in which no more mail is taken: it was refused for what the client is or has done.
//!
//! Honest clients end the session by themselves; others are answered for a limited number of commands and a
//! limited time.

use std::time::Instant;

use super::{Note, Server};
use crate::outcome::SessionEnd;
use crate::smtp::command::{Command, CommandError};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;

#[derive(Debug)]
pub(super) struct Refusing {
    pub(super) since: Instant,
    commands: u32,
    /// Why, in the reply to MAIL.
    reason: Refusal,
    /// The refusal stood in the greeting's place: only QUIT is in sequence (RFC 5321 section 3.1).
    is_closed: bool,
}

impl Server {
    /// From here on no mail is taken.
    pub(super) fn take_no_more(&mut self, reason: &Refusal, is_closed: bool, now: Instant) {
        self.note(Note::Takeover);
        self.abort_message(&reason.to_string());
        self.envelope_done();
        self.transaction = None;
        self.refusing = Some(Refusing { since: now, commands: 0, reason: reason.clone(), is_closed });
    }

    /// Answers a command line where no mail is taken.
    pub(super) fn read_refusing(&mut self, line: &[u8], now: Instant) {
        let Some(refusing) = &mut self.refusing else { return };
        refusing.commands = refusing.commands.saturating_add(1);
        let (limit, commands) = (self.rules.limits.takeover_commands, refusing.commands);
        if limit != 0 && commands > limit {
            self.tally.takeover_ends = self.tally.takeover_ends.saturating_add(1);
            return self.close_with(&Refusal::TakeoverEnds, SessionEnd::Gateway, now);
        }
        let (is_closed, reason) = (refusing.is_closed, refusing.reason.to_string());
        match Command::parse(line) {
            Ok(Command::Quit) => self.quit(now),
            Ok(Command::Bdat { size, .. }) => self.skip_chunk(size, Refusal::BadSequence, now),
            Ok(_) if is_closed => self.refuse(&Refusal::BadSequence, now),
            Ok(Command::Hello { extended, name }) => self.greeted(extended, name, now),
            Ok(Command::Rset | Command::Noop) => self.reply(&Reply::new(250, "2.0.0 Ok"), now),
            Ok(Command::Mail { .. }) => {
                let text = format!("No more mail in this session: {reason}");
                let reply = self.rules.voice.reply(451, "4.3.2", &text);
                self.reply(&reply, now);
            }
            Ok(Command::Rcpt { .. } | Command::Data) => self.refuse(&Refusal::BadSequence, now),
            Ok(Command::StartTls | Command::Auth { .. } | Command::Query { .. }) => {
                self.refuse(&Refusal::Command(CommandError::Forbidden), now);
            }
            Err(error) => self.refuse_line(line, error, now),
        }
    }
}
