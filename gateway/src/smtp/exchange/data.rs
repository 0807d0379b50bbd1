//! DATA and its text (RFC 5321 section 4.1.1.4).

use std::time::Instant;

use super::message::HeldEnd;
use super::queue::Expected;
use super::{Action, Exchange, Input};
use crate::config::file::{BareNewline, Nul};
use crate::smtp::body::{BodyDecoder, Oddities};
use crate::smtp::command::Command;
use crate::smtp::question::{Question, Step};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::report::Note;

/// The text that is being read.
#[derive(Debug)]
pub(super) struct Text {
    decoder: BodyDecoder,
    noted: Oddities,
    /// When the server asked for it.
    pub(super) since: Instant,
    /// The message is refused; the rest of its text is thrown away.
    pub(super) refused: Option<Refusal>,
}

impl Exchange {
    pub(super) fn data(&mut self, now: Instant) {
        let Some(transaction) = &self.transaction else {
            return self.refuse_command(&Refusal::BadSequence, now);
        };
        if transaction.chunked || transaction.failed || transaction.asked == 0 {
            let refusal = if transaction.asked == 0 { Refusal::NoRecipient } else { Refusal::BadSequence };
            return self.refuse_command(&refusal, now);
        }
        if self.asks(Step::Data) {
            let question = Question::Data { envelope: transaction.envelope.clone() };
            return self.ask(question, Some(Command::Data), now);
        }
        self.forward("DATA", Expected::Data, true, now);
    }

    pub(super) fn data_answered(&mut self, reply: &Reply, now: Instant) {
        if reply.code() != 354 {
            return;
        }
        self.clocks.block = now;
        self.input = Input::Text(Text {
            decoder: BodyDecoder::default(),
            noted: Oddities::default(),
            since: now,
            refused: None,
        });
        self.begin_message();
        let header = self.take_header();
        self.send_server(header.as_bytes(), now);
    }

    /// Reads a stretch of text; false when there is none.
    pub(super) fn read_text(&mut self, now: Instant) -> bool {
        let Input::Text(text) = &mut self.input else { return false };
        if self.client_in.is_empty() {
            return false;
        }
        if self.to_server.is_empty() {
            self.clocks.server_write = now;
        }
        let before = (self.content.len(), self.to_server.len());
        let stretch = self.client_in.get(..super::HIGH_WATER).unwrap_or(&self.client_in);
        // Most texts pass as they are, and their end with them.
        self.content.reserve(stretch.len());
        self.to_server.reserve(stretch.len());
        let progress = text.decoder.decode(stretch, &mut self.content, &mut self.to_server);
        bytes::Buf::advance(&mut self.client_in, progress.consumed);
        let found = text.decoder.oddities();
        let noted = std::mem::replace(&mut text.noted, found);
        let refused = text.refused.is_some();
        // The record tells the whole size, whenever the refusal came.
        let size = self.content.len().saturating_sub(before.0);
        self.count_octets(u64::try_from(size).unwrap_or(u64::MAX));
        if refused {
            self.content.truncate(before.0);
            self.to_server.truncate(before.1);
        } else if let Some(refusal) = self.judge_text(found, noted) {
            self.refuse_message(refusal, now);
        }
        if progress.ended {
            self.end_text(now);
        }
        true
    }

    /// Whether the text as far as it is known is refused.
    fn judge_text(&mut self, found: Oddities, noted: Oddities) -> Option<Refusal> {
        if found.bare_newline && !noted.bare_newline {
            self.note(Note::BareNewline);
        }
        if found.nul && !noted.nul {
            self.note(Note::Nul);
        }
        let inspect = &self.rules.inspect;
        let malformed = found.bare_newline && inspect.bare_newline == BareNewline::Reject
            || found.nul && inspect.nul == Nul::Reject;
        if malformed {
            return Some(Refusal::MalformedText);
        }
        let limit = self.rules.limits.message_size.bytes();
        let size = self.transaction.as_ref().map_or(0, |transaction| transaction.size);
        (limit != 0 && size > limit).then_some(Refusal::MessageTooLarge)
    }

    fn end_text(&mut self, now: Instant) {
        let Input::Text(text) = std::mem::replace(&mut self.input, Input::Command) else { return };
        match text.refused {
            Some(refusal) => self.end_refused(&refusal, now),
            None => {
                self.input = Input::Verdict(HeldEnd::Dot);
                self.clocks.verdict = now;
                self.act(Action::EndMessage);
            }
        }
    }
}
