//! DATA and its text (RFC 5321 section 4.1.1.4).

use std::time::Instant;

use bytes::BytesMut;

use super::{Action, HIGH_WATER, Input, Note, Question, Server, Step};
use crate::config::file::{BareNewline, Nul};
use crate::queue::Body;
use crate::smtp::body::{BodyDecoder, Oddities};
use crate::smtp::command::Command;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;

/// The text that is being read.
#[derive(Debug)]
pub(super) struct Text {
    decoder: BodyDecoder,
    noted: Oddities,
    /// When it was asked for.
    pub(super) since: Instant,
    /// The message is refused; the rest of its text is thrown away.
    pub(super) refused: Option<Refusal>,
}

impl Server {
    pub(super) fn data(&mut self, now: Instant) {
        let Some(transaction) = &self.transaction else {
            return self.refuse_command(&Refusal::BadSequence, now);
        };
        // RFC 3030 section 3: a text without lines cannot come behind DATA.
        let binary = transaction.parameters.body == Body::BinaryMime;
        if transaction.chunked || transaction.failed || binary {
            return self.refuse_command(&Refusal::BadSequence, now);
        }
        if transaction.recipients.is_empty() {
            return self.refuse_command(&Refusal::NoRecipient, now);
        }
        if self.asks(Step::Data) {
            let question = Question::Data { envelope: transaction.envelope.clone() };
            return self.ask(question, Some(Command::Data), now);
        }
        self.begin_message();
        self.clocks.block = now;
        self.input = Input::Text(Text {
            decoder: BodyDecoder::default(),
            noted: Oddities::default(),
            since: now,
            refused: None,
        });
        self.reply(&Reply::new(354, "End data with <CR><LF>.<CR><LF>"), now);
    }

    /// Reads a stretch of text; false when there is none.
    pub(super) fn read_text(&mut self, now: Instant) -> bool {
        let Input::Text(text) = &mut self.input else { return false };
        if self.client_in.is_empty() {
            return false;
        }
        let mut content = BytesMut::new();
        // What a server would be sent is of no use: the queue has the content.
        let mut wire = BytesMut::new();
        let stretch = self.client_in.get(..HIGH_WATER).unwrap_or(&self.client_in);
        let progress = text.decoder.decode(stretch, &mut content, &mut wire);
        bytes::Buf::advance(&mut self.client_in, progress.consumed);
        let found = text.decoder.oddities();
        let noted = std::mem::replace(&mut text.noted, found);
        let goes_on = text.refused.is_none();
        // The record tells the whole size, whenever the refusal came.
        self.count_octets(content.len());
        if goes_on && let Some(refusal) = self.judge_content(&content, found, noted) {
            self.refuse_message(refusal);
        } else if goes_on {
            self.content.unsplit(content);
        }
        if progress.ended {
            self.end_text(now);
        }
        true
    }

    /// Whether the message as far as it is known is refused.
    pub(super) fn judge_content(
        &mut self,
        content: &[u8],
        found: Oddities,
        noted: Oddities,
    ) -> Option<Refusal> {
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
        let transaction = self.transaction.as_mut()?;
        if limit != 0 && transaction.size > limit {
            return Some(Refusal::MessageTooLarge);
        }
        transaction.hops.read(content);
        let relay = &self.rules.relay;
        let (hops, own) = transaction.hops.counted();
        (hops > relay.hopcount_limit || own > relay.own_hopcount_limit).then_some(Refusal::TooManyHops)
    }

    fn end_text(&mut self, now: Instant) {
        let Input::Text(text) = std::mem::replace(&mut self.input, Input::Command) else { return };
        match text.refused {
            Some(refusal) => self.end_refused(&refusal, now),
            None => self.await_verdict(now),
        }
    }

    /// The message is complete.
    pub(super) fn await_verdict(&mut self, now: Instant) {
        self.input = Input::Verdict;
        self.clocks.verdict = now;
        self.act(Action::EndMessage);
    }
}
