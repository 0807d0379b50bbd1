//! A command line in the relay phase: forwarded, or answered in the server's place.

use std::time::Instant;

use super::queue::Expected;
use super::{Exchange, Phase};
use crate::config::file::CommandPolicy;
use crate::outcome::SessionEnd;
use crate::smtp::command::{Command, CommandError};
use crate::smtp::line::Line;
use crate::smtp::question::Step;
use crate::smtp::refusal::Refusal;
use crate::smtp::report::Note;
use crate::smtp::verb;

impl Exchange {
    /// Takes the next command line; false when none is complete.
    pub(super) fn read_command(&mut self, now: Instant) -> bool {
        if let Some(command) = self.deferred.take() {
            if matches!(self.phase, Phase::Takeover(_)) {
                self.take_over_command(command, now);
            } else {
                self.relay(command, now);
            }
            return true;
        }
        let Some(line) = self.client_lines.next(&mut self.client_in) else { return false };
        self.clocks.command = now;
        match line {
            Line::Text(line) if matches!(self.phase, Phase::Takeover(_)) => self.read_takeover(&line, now),
            Line::Text(line) if self.is_too_long(&line) => self.refuse_command(&Refusal::LineTooLong, now),
            Line::Text(line) => match Command::parse(&line) {
                Ok(command) if self.needs_all_replies(&command) && !self.queue.is_empty() => {
                    self.deferred = Some(command);
                }
                Ok(command) => self.relay(command, now),
                Err(error) => self.refuse_line(&line, error, now),
            },
            Line::TooLong => self.refuse_command(&Refusal::LineTooLong, now),
            Line::Illegal => self.refuse_command(&Refusal::IllegalOctets, now),
        }
        true
    }

    /// Whether a line is beyond `limits.command-line`, which AUTH may be: its argument is a token.
    fn is_too_long(&self, line: &[u8]) -> bool {
        let is_auth = line.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        !is_auth && line.len().saturating_add(2) > self.rules.limits.command_line.as_len()
    }

    /// Commands that can be judged only when the server's view of the session is known.
    fn needs_all_replies(&self, command: &Command) -> bool {
        match command {
            Command::Bdat { .. } | Command::StartTls | Command::Auth { .. } | Command::Hello { .. } => true,
            Command::Mail { .. } => self.transaction.is_some(),
            Command::Data => self.asks(Step::Data),
            Command::Rcpt { .. } | Command::Rset | Command::Noop | Command::Quit | Command::Query { .. } => {
                false
            }
        }
    }

    pub(super) fn relay(&mut self, command: Command, now: Instant) {
        if let Command::Mail { sender, .. } = &command {
            sender.as_str().clone_into(&mut self.sender);
        }
        if self.barred(&command, now) {
            return;
        }
        if self.is_stranger(&command) {
            return self.introduce(command, now);
        }
        match command {
            Command::Hello { extended, name } => self.hello_command(extended, name, now),
            Command::Mail { sender, parameters } => self.mail(sender, parameters, now),
            Command::Rcpt { recipient, parameters } => self.rcpt(recipient, parameters, now),
            Command::Data => self.data(now),
            Command::Bdat { size, last } => self.bdat(size, last, now),
            Command::StartTls => self.starttls(now),
            Command::Auth { argument } => self.auth(&argument, now),
            Command::Rset => self.forward("RSET", Expected::Rset, true, now),
            Command::Quit => self.forward("QUIT", Expected::Quit, true, now),
            Command::Noop => self.forward("NOOP", Expected::Other, last_in_group("NOOP"), now),
            Command::Query { verb, .. } => match self.query_policy(verb) {
                CommandPolicy::Pass => {
                    self.forward(&command.to_line(), Expected::Other, last_in_group(verb), now);
                }
                CommandPolicy::Refuse => self.answer(&Refusal::Query(verb)),
            },
        }
    }

    fn query_policy(&self, verb: &str) -> CommandPolicy {
        let commands = &self.rules.inspect.commands;
        match verb {
            "VRFY" => commands.vrfy,
            "EXPN" => commands.expn,
            "ETRN" => commands.etrn,
            "HELP" => commands.help,
            _ => CommandPolicy::Refuse,
        }
    }

    /// Answers a line that is no command.
    pub(super) fn refuse_line(&mut self, line: &[u8], error: CommandError, now: Instant) {
        if error == CommandError::Foreign {
            // Whoever speaks HTTP here is not a mail client; nothing of what follows may run.
            self.note(Note::Foreign);
            return self.answer_last(Refusal::Command(error).reply(&self.rules.voice), SessionEnd::Gateway);
        }
        self.refuse_command(&Refusal::of_line(line, error), now);
    }

    /// Answers a command that the client should not have sent, and slows a client down that
    /// goes on sending such (Postfix `smtpd_soft_error_limit`, `smtpd_hard_error_limit`).
    pub(super) fn refuse_command(&mut self, refusal: &Refusal, now: Instant) {
        self.note(Note::CommandRefused);
        self.answer(refusal);
        self.count_error(now);
    }

    pub(super) fn count_error(&mut self, now: Instant) {
        self.errors = self.errors.saturating_add(1);
        let limits = &self.rules.limits;
        if limits.hard_errors != 0 && self.errors >= limits.hard_errors {
            self.tally.refused(&Refusal::TooManyErrors);
            self.answer_last(Refusal::TooManyErrors.reply(&self.rules.voice), SessionEnd::Gateway);
        } else if limits.soft_errors != 0 && self.errors > limits.soft_errors {
            self.clocks.delay = now.checked_add(limits.error_delay.duration());
        }
    }
}

/// Whether nothing may be pipelined behind `name`.
pub(super) fn last_in_group(name: &str) -> bool {
    verb::find(name.as_bytes()).is_none_or(|verb| verb.last_in_group)
}
