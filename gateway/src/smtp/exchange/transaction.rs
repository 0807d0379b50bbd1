//! A mail transaction: MAIL and RCPT (RFC 5321 section 3.3).

use std::time::Instant;

use super::queue::Expected;
use super::{Exchange, Phase, Question, Step};
use crate::smtp::address::Path;
use crate::smtp::command::{Command, Parameters};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;

/// Who sends a message to whom, as far as the server agreed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Reverse path without angle brackets; empty for bounces.
    pub sender: String,
    /// Forward paths the server accepted.
    pub recipients: Vec<String>,
    /// How many the server refused.
    pub refused: u32,
}

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
            return self.answer(&Refusal::TooManyRecipients);
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
        if !reply.is_positive() {
            self.transaction = None;
        }
    }

    pub(super) fn rcpt_answered(&mut self, recipient: String, reply: &Reply) {
        if let Some(transaction) = &mut self.transaction {
            if reply.is_positive() {
                transaction.envelope.recipients.push(recipient);
            } else {
                transaction.envelope.refused = transaction.envelope.refused.saturating_add(1);
                transaction.asked = transaction.asked.saturating_sub(1);
            }
        }
    }

    /// RSET, EHLO or HELO: the server has forgotten the transaction (RFC 5321 section 4.1.1.5).
    pub(super) fn reset_answered(&mut self, reply: &Reply) {
        if reply.is_positive() {
            self.abort_message("the client reset the transaction");
            self.transaction = None;
        }
    }

    /// Whether the server understands the path (RFC 6531 section 3.2).
    fn takes_path(&self, path: &Path) -> bool {
        path.is_ascii() || self.offers.smtputf8 || matches!(self.phase, Phase::Takeover(_))
    }
}
