//! A mail transaction: MAIL and RCPT (RFC 5321 section 3.3).

use std::time::Instant;

use super::hop::Hops;
use super::parameter::{self, MailParameters};
use super::{Action, Question, Server, Step};
use crate::queue::Recipient;
use crate::smtp::address::Path;
use crate::smtp::command::{Command, Parameters};
use crate::smtp::line_end::LineEnds;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::report::{Envelope, EnvelopeRefused};

/// A transaction from its MAIL command on.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) started: Instant,
    /// As the client wrote it, for checks and records.
    pub(super) envelope: Envelope,
    pub(super) parameters: MailParameters,
    /// The reverse-path as the queue has it.
    pub(super) sender: String,
    /// The forward-paths as the queue has them.
    pub(super) recipients: Vec<Recipient>,
    /// Octets of the message so far.
    pub(super) size: u64,
    /// Its Received fields.
    pub(super) hops: Hops,
    /// Its line ends, where it comes in chunks.
    pub(super) line_ends: LineEnds,
    /// Its copy was begun.
    pub(super) copied: bool,
    /// Its text comes in chunks (RFC 3030).
    pub(super) chunked: bool,
    /// The last reply that refused a recipient; what becomes of the message tells it no more.
    pub(super) refusal: Option<String>,
    /// A chunk was refused: only RSET, EHLO and QUIT go on.
    pub(super) failed: bool,
    /// The message is refused, which the next chunk is to be told.
    pub(super) doomed: Option<Refusal>,
}

impl Server {
    pub(super) fn mail(&mut self, sender: Path, parameters: Parameters, now: Instant) {
        if self.hello.is_none() || self.transaction.is_some() {
            return self.refuse_command(&Refusal::BadSequence, now);
        }
        let read = match parameter::mail(&parameters) {
            Ok(read) => read,
            Err(refusal) => return self.refuse_command(&refusal, now),
        };
        let limit = self.rules.limits.message_size.bytes();
        if limit != 0 && read.size.is_some_and(|size| size > limit) {
            return self.refuse(&Refusal::MessageTooLarge, now);
        }
        if !sender.is_ascii() && !read.smtputf8 {
            return self.refuse_command(&Refusal::Utf8Undeclared, now);
        }
        let Some(address) = sender.unquoted() else {
            return self.refuse_command(&Refusal::Sender(crate::smtp::address::PathError::Syntax), now);
        };
        if self.asks(Step::Mail) {
            let question = Question::Mail { sender: sender.as_str().to_owned(), size: read.size };
            return self.ask(question, Some(Command::Mail { sender, parameters }), now);
        }
        self.transaction = Some(Transaction {
            started: now,
            envelope: Envelope { sender: sender.as_str().to_owned(), ..Envelope::default() },
            parameters: read,
            sender: address,
            recipients: Vec::new(),
            size: 0,
            hops: Hops::new(&self.rules.voice.name),
            line_ends: LineEnds::default(),
            copied: false,
            chunked: false,
            refusal: None,
            failed: false,
            doomed: None,
        });
        self.reply(&Reply::new(250, "2.1.0 Ok"), now);
    }

    pub(super) fn rcpt(&mut self, recipient: Path, parameters: Parameters, now: Instant) {
        let Some(transaction) = self.transaction.as_ref().filter(|open| !open.chunked && !open.failed) else {
            return self.refuse_command(&Refusal::BadSequence, now);
        };
        if transaction.recipients.len() >= self.rules.limits.recipients {
            let refusal = Refusal::TooManyRecipients;
            self.recipient_refused(recipient.as_str().to_owned(), &refusal);
            return self.refuse(&refusal, now);
        }
        let smtputf8 = transaction.parameters.smtputf8;
        let sender = transaction.envelope.sender.clone();
        let read = match self.read_recipient(&recipient, &parameters, smtputf8) {
            Ok(read) => read,
            Err(refusal) => {
                self.recipient_refused(recipient.as_str().to_owned(), &refusal);
                return self.refuse_command(&refusal, now);
            }
        };
        if self.asks(Step::Rcpt) {
            let question = Question::Rcpt { sender, recipient: recipient.as_str().to_owned() };
            return self.ask(question, Some(Command::Rcpt { recipient, parameters }), now);
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.envelope.recipients.push(recipient.as_str().to_owned());
            transaction.recipients.push(read);
            self.recipients = self.recipients.saturating_add(1);
        }
        self.reply(&Reply::new(250, "2.1.5 Ok"), now);
    }

    fn read_recipient(
        &self,
        path: &Path,
        parameters: &Parameters,
        smtputf8: bool,
    ) -> Result<Recipient, Refusal> {
        if !path.is_ascii() && !smtputf8 {
            return Err(Refusal::Utf8Undeclared);
        }
        let syntax = Refusal::Recipient(crate::smtp::address::PathError::Syntax);
        let mut address = path.unquoted().ok_or(syntax)?;
        if self.terms.routes {
            match path.domain() {
                Some(domain) if domain.starts_with('[') => return Err(Refusal::AddressLiteral),
                Some(_) => {}
                // RFC 5321 section 4.5.1.
                None if address.eq_ignore_ascii_case("postmaster") => {
                    address = format!("{address}@{}", self.rules.voice.name);
                }
                None => return Err(Refusal::NoDomain),
            }
        }
        parameter::recipient(address, parameters)
    }

    /// A command that is refused, for the record.
    pub(super) fn path_refused(&mut self, command: &Command, refusal: &Refusal) {
        match command {
            Command::Mail { sender, .. } => {
                let envelope = Envelope { sender: sender.as_str().to_owned(), ..Envelope::default() };
                let reply = refusal.reply(&self.rules.voice).summary();
                let refused = EnvelopeRefused { envelope, sender_refused: true, reply };
                self.act(Action::EnvelopeRefused(refused));
            }
            Command::Rcpt { recipient, .. } => self.recipient_refused(recipient.as_str().to_owned(), refusal),
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

    fn recipient_refused(&mut self, recipient: String, refusal: &Refusal) {
        let reply = refusal.reply(&self.rules.voice).summary();
        if let Some(transaction) = &mut self.transaction {
            transaction.envelope.note_refused(recipient);
            transaction.refusal = Some(reply);
        }
    }

    /// The transaction is over: tells what of its envelope was refused, unless the record of its
    /// message does.
    pub(super) fn envelope_done(&mut self) {
        let Some(transaction) = self.transaction.as_mut().filter(|open| !open.copied) else { return };
        let Some(reply) = transaction.refusal.take() else { return };
        let envelope = transaction.envelope.clone();
        self.act(Action::EnvelopeRefused(EnvelopeRefused { envelope, sender_refused: false, reply }));
    }

    /// Forgets the transaction (RFC 5321 section 4.1.1.5).
    pub(super) fn reset(&mut self) {
        self.abort_message("the client reset the transaction");
        self.end_transaction();
    }

    /// The transaction is over, and so is what was said of its submitter (XFORWARD).
    pub(super) fn end_transaction(&mut self) {
        if self.transaction.is_some() {
            self.envelope_done();
            self.transaction = None;
            self.told.forget_forwarded();
        }
    }
}
