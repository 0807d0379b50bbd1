//! A mail transaction: MAIL and RCPT (RFC 5321 section 3.3).

use std::time::Instant;

use super::queue::Expected;
use super::{Action, Exchange, Phase};
use crate::smtp::address::Path;
use crate::smtp::command::{Command, Parameters};
use crate::smtp::question::{Question, Step};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::report::{Envelope, EnvelopeRefused, Note, Rejected};

/// A transaction from its MAIL command on.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) started: Instant,
    pub(super) envelope: Envelope,
    /// RCPT commands forwarded.
    pub(super) asked: usize,
    /// Octets of the message so far.
    pub(super) size: u64,
    /// Its copy was begun.
    pub(super) copied: bool,
    /// The server has been given the operator's header.
    pub(super) headed: bool,
    /// Its text comes in chunks (RFC 3030).
    pub(super) chunked: bool,
    /// The last reply that refused a recipient; what becomes of the message tells it no more.
    pub(super) refusal: Option<String>,
    /// A chunk was refused: only RSET, EHLO and QUIT go on.
    pub(super) failed: bool,
}

impl Exchange {
    pub(super) fn mail(&mut self, sender: Path, parameters: Parameters, now: Instant) {
        if self.transaction.is_some() {
            // RFC 5321 section 4.1.4: MAIL is not allowed inside a transaction.
            return self.refuse_command(&Refusal::BadSequence, now);
        }
        let limit = self.rules.limits.message_size.bytes();
        if limit != 0 && parameters.size().is_some_and(|size| size > limit) {
            return self.answer(&Refusal::MessageTooLarge);
        }
        if !self.takes_path(&sender) {
            return self.refuse_command(&Refusal::Utf8Unsupported, now);
        }
        if self.asks(Step::Mail) {
            let question = Question::Mail { sender: sender.as_str().to_owned(), size: parameters.size() };
            return self.ask(question, Some(Command::Mail { sender, parameters }), now);
        }
        self.transaction = Some(Transaction {
            started: now,
            envelope: Envelope { sender: sender.as_str().to_owned(), ..Envelope::default() },
            asked: 0,
            size: 0,
            copied: false,
            headed: false,
            chunked: false,
            refusal: None,
            failed: false,
        });
        let command = Command::Mail { sender, parameters };
        self.forward(&command.to_line(), Expected::Mail, false, now);
    }

    pub(super) fn rcpt(&mut self, recipient: Path, parameters: Parameters, now: Instant) {
        let (takes_path, asks) = (self.takes_path(&recipient), self.asks(Step::Rcpt));
        let limit = self.rules.limits.recipients;
        let Some(transaction) = self.transaction.as_mut().filter(|open| !open.chunked && !open.failed) else {
            return self.refuse_command(&Refusal::BadSequence, now);
        };
        if limit != 0 && transaction.asked >= limit {
            let refusal = Refusal::TooManyRecipients;
            self.path_refused(&Command::Rcpt { recipient, parameters }, &refusal);
            return self.answer(&refusal);
        }
        if !takes_path {
            return self.refuse_command(&Refusal::Utf8Unsupported, now);
        }
        if asks {
            let sender = transaction.envelope.sender.clone();
            let question = Question::Rcpt { sender, recipient: recipient.as_str().to_owned() };
            return self.ask(question, Some(Command::Rcpt { recipient, parameters }), now);
        }
        transaction.asked = transaction.asked.saturating_add(1);
        let name = recipient.as_str().to_owned();
        let command = Command::Rcpt { recipient, parameters };
        self.forward(&command.to_line(), Expected::Rcpt(name), false, now);
    }

    pub(super) fn mail_answered(&mut self, reply: &Reply) {
        if !reply.is_positive()
            && let Some(transaction) = self.transaction.take()
        {
            self.sender_refused(transaction.envelope.sender, reply);
            self.note_rejection(Rejected::Mail, reply);
        }
    }

    /// Notes that the server has refused a command for good, unless for its syntax: x0z (RFC 5321
    /// section 4.2.1), as an AUTH that the client has cancelled.
    pub(super) fn note_rejection(&mut self, rejected: Rejected, reply: &Reply) {
        if reply.code() >= 510 {
            self.note(Note::Rejected(rejected));
        }
    }

    pub(super) fn rcpt_answered(&mut self, recipient: String, reply: &Reply) {
        if let Some(transaction) = &mut self.transaction {
            if reply.is_positive() {
                transaction.envelope.recipients.push(recipient);
                self.recipients = self.recipients.saturating_add(1);
            } else {
                transaction.asked = transaction.asked.saturating_sub(1);
                self.recipient_refused(recipient, reply.summary());
            }
        }
        self.note_rejection(Rejected::Rcpt, reply);
    }

    /// A command that the gateway keeps from the server, for the record.
    pub(super) fn path_refused(&mut self, command: &Command, refusal: &Refusal) {
        let reply = refusal.reply(&self.rules.voice);
        match command {
            Command::Mail { sender, .. } => self.sender_refused(sender.as_str().to_owned(), &reply),
            Command::Rcpt { recipient, .. } => {
                self.recipient_refused(recipient.as_str().to_owned(), reply.summary());
            }
            Command::Hello { .. }
            | Command::Data
            | Command::Bdat { .. }
            | Command::Rset
            | Command::Noop
            | Command::Quit
            | Command::StartTls
            | Command::Auth { .. }
            | Command::Query { .. } => {}
        }
    }

    fn sender_refused(&mut self, sender: String, reply: &Reply) {
        let envelope = Envelope { sender, ..Envelope::default() };
        let refused = EnvelopeRefused { envelope, sender_refused: true, reply: reply.summary() };
        self.act(Action::EnvelopeRefused(refused));
    }

    fn recipient_refused(&mut self, recipient: String, reply: String) {
        let Some(transaction) = &mut self.transaction else { return };
        transaction.envelope.note_refused(recipient);
        transaction.refusal = Some(reply);
    }

    /// The transaction is over: tells what of its envelope was refused, unless the record of its
    /// message does.
    pub(super) fn envelope_done(&mut self) {
        let Some(transaction) = self.transaction.as_mut().filter(|open| !open.copied) else { return };
        let Some(reply) = transaction.refusal.take() else { return };
        let envelope = transaction.envelope.clone();
        self.act(Action::EnvelopeRefused(EnvelopeRefused { envelope, sender_refused: false, reply }));
    }

    /// RSET, EHLO or HELO: the server has forgotten the transaction (RFC 5321 section 4.1.1.5).
    pub(super) fn reset_answered(&mut self, reply: &Reply) {
        if reply.is_positive() {
            self.abort_message("the client reset the transaction");
            self.envelope_done();
            self.transaction = None;
        }
    }

    /// Whether the server understands the path (RFC 6531 section 3.2).
    fn takes_path(&self, path: &Path) -> bool {
        path.is_ascii() || self.offers.smtputf8 || matches!(self.phase, Phase::Takeover(_))
    }
}
