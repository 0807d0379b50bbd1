//! A command line.

use std::time::Instant;

use super::{Note, Server, xclient};
use crate::config::file::OnMatch;
use crate::outcome::SessionEnd;
use crate::policy::filter;
use crate::smtp::command::{Command, CommandError};
use crate::smtp::line::Line;
use crate::smtp::question::Ruling;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::transcript::Way;

/// Commands without a message that are answered before each counts as an error (Postfix
/// `smtpd_junk_command_limit`).
const IDLE_COMMANDS: u32 = 100;

impl Server {
    /// Takes the next command line; false when none is complete.
    pub(super) fn read_command(&mut self, now: Instant) -> bool {
        let Some(line) = self.client_lines.next(&mut self.client_in) else { return false };
        self.clocks.command = now;
        if let Some(transcript) = &mut self.transcript {
            match &line {
                Line::Text(line) => transcript.command(Way::In, line),
                Line::TooLong => transcript.line(Way::In, b"(a line that is too long)"),
                Line::Illegal => transcript.line(Way::In, b"(a line with control octets)"),
            }
        }
        match line {
            Line::Text(line) if self.refusing.is_some() => self.read_refusing(&line, now),
            Line::Text(line) if self.terms.trusted && xclient::is_introduction(&line) => {
                self.introduction(&line, now);
            }
            Line::Text(line) => match Command::parse(&line) {
                Ok(command) => self.run(command, now),
                Err(error) => self.refuse_line(&line, error, now),
            },
            Line::TooLong => self.refuse_command(&Refusal::LineTooLong, now),
            Line::Illegal => self.refuse_command(&Refusal::IllegalOctets, now),
        }
        true
    }

    pub(super) fn run(&mut self, command: Command, now: Instant) {
        if let Command::Mail { sender, .. } = &command {
            sender.as_str().clone_into(&mut self.last_sender);
        }
        if self.barred(&command, now) {
            return;
        }
        match command {
            Command::Hello { extended, name } => self.hello_command(extended, name, now),
            Command::Mail { sender, parameters } => self.mail(sender, parameters, now),
            Command::Rcpt { recipient, parameters } => self.rcpt(recipient, parameters, now),
            Command::Data => self.data(now),
            Command::Bdat { size, last } => self.bdat(size, last, now),
            Command::StartTls => self.starttls(now),
            Command::Auth { .. } => self.refuse_command(&Refusal::NotOffered("AUTH"), now),
            Command::Rset => {
                self.reset();
                self.idle(&Reply::new(250, "2.0.0 Ok"), now);
            }
            Command::Noop => self.idle(&Reply::new(250, "2.0.0 Ok"), now),
            Command::Query { verb, .. } => {
                let reply = Refusal::Query(verb).reply(&self.rules.voice);
                self.idle(&reply, now);
            }
            Command::Quit => self.quit(now),
        }
    }

    pub(super) fn quit(&mut self, now: Instant) {
        let voice = &self.rules.voice;
        let reply = voice.reply(221, "2.0.0", voice.messages.sign_off.as_str());
        self.reset();
        self.answer_last(&reply, SessionEnd::Quit, now);
    }

    /// Answers a command that brings no message nearer.
    fn idle(&mut self, reply: &Reply, now: Instant) {
        self.idle_commands = self.idle_commands.saturating_add(1);
        if self.idle_commands > IDLE_COMMANDS {
            self.count_error(now);
        }
        if self.last.is_none() {
            self.reply(reply, now);
        }
    }

    /// Refuses a command that the rules keep out; true when it did.
    fn barred(&mut self, command: &Command, now: Instant) -> bool {
        if self.ruled {
            return false;
        }
        let may_come_first = matches!(
            command,
            Command::Hello { extended: true, .. } | Command::StartTls | Command::Noop | Command::Quit
        );
        if self.rules.relay.tls.required && self.tls.is_none() && !may_come_first {
            self.ruled(command.clone(), Ruling::Refuse(Refusal::EncryptionRequired), now);
            self.count_error(now);
            return true;
        }
        let Some(cause) = filter::offence(&self.rules.filters, command) else { return false };
        self.offence(cause);
        let refusal = Refusal::Filtered(cause);
        let ruling = match self.rules.filters.on_match {
            OnMatch::Takeover => Ruling::Takeover(refusal),
            OnMatch::Refuse => Ruling::Refuse(refusal),
        };
        self.ruled(command.clone(), ruling, now);
        true
    }

    /// Answers a line that is no command.
    pub(super) fn refuse_line(&mut self, line: &[u8], error: CommandError, now: Instant) {
        if error == CommandError::Foreign {
            // Whoever speaks HTTP here is not a mail client; nothing of what follows may run.
            self.note(Note::Foreign);
            return self.close_with(&Refusal::Command(error), SessionEnd::Gateway, now);
        }
        self.refuse_command(&Refusal::of_line(line, error), now);
    }
}
