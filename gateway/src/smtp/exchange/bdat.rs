//! BDAT: text in counted chunks (RFC 3030).
//!
//! A chunk's octets are never searched for an end: the count alone says where commands go on,
//! whether the chunk is relayed or thrown away.

use std::time::Instant;

use super::message::HeldEnd;
use super::queue::Expected;
use super::{Action, Exchange, Input};
use crate::smtp::command::Command;
use crate::smtp::question::{Question, Step};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;

/// The chunk that is being read.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Octets still to come.
    left: u64,
    last: bool,
    /// The very last octet of a message, held back as the dot is.
    held: Option<u8>,
    /// When its command came.
    pub(super) since: Instant,
    /// It is not relayed; its octets are thrown away and this is the answer.
    pub(super) refused: Option<Refusal>,
    /// The answer belongs to the message, not to the chunk.
    pub(super) message_refused: bool,
}

impl Exchange {
    pub(super) fn bdat(&mut self, size: u64, last: bool, now: Instant) {
        self.clocks.block = now;
        let refused = self.judge_chunk(size);
        if refused.is_none() {
            if let Some(transaction) = self.transaction.as_ref().filter(|open| !open.copied)
                && self.asks(Step::Data)
            {
                let question = Question::Data { envelope: transaction.envelope.clone() };
                return self.ask(question, Some(Command::Bdat { size, last }), now);
            }
            if let Some(transaction) = &mut self.transaction {
                transaction.chunked = true;
            }
            self.begin_message();
            // An empty last chunk is held back as a whole.
            if !(last && size == 0) {
                self.send_chunk_line(size, last, now);
            }
        }
        self.input =
            Input::Chunk(Chunk { left: size, last, held: None, since: now, refused, message_refused: false });
    }

    /// Sends a BDAT line; the first chunk of a message is larger by the header on top.
    pub(super) fn send_chunk_line(&mut self, size: u64, last: bool, now: Instant) {
        let header = self.take_header();
        let more = u64::try_from(header.len()).unwrap_or(u64::MAX);
        let line = Command::Bdat { size: size.saturating_add(more), last }.to_line();
        self.send_server(line.as_bytes(), now);
        self.send_server(b"\r\n", now);
        self.send_server(header.as_bytes(), now);
    }

    fn judge_chunk(&self, size: u64) -> Option<Refusal> {
        let transaction = match &self.transaction {
            _ if !self.offers.chunking => return Some(Refusal::NotOffered("CHUNKING")),
            None => return Some(Refusal::BadSequence),
            Some(transaction) if transaction.failed => return Some(Refusal::BadSequence),
            Some(transaction) => transaction,
        };
        if transaction.envelope.recipients.is_empty() {
            return Some(Refusal::NoRecipient);
        }
        let limit = self.rules.limits.message_size.bytes();
        (limit != 0 && transaction.size.saturating_add(size) > limit).then_some(Refusal::MessageTooLarge)
    }

    /// Reads a stretch of the chunk; false when there is none.
    pub(super) fn read_chunk(&mut self, now: Instant) -> bool {
        let Input::Chunk(chunk) = &mut self.input else { return false };
        if chunk.left == 0 {
            self.end_chunk(now);
            return true;
        }
        let stretch = usize::try_from(chunk.left).unwrap_or(usize::MAX).min(self.client_in.len());
        let stretch = stretch.min(super::HIGH_WATER);
        if stretch == 0 {
            return false;
        }
        chunk.left = chunk.left.saturating_sub(u64::try_from(stretch).unwrap_or(u64::MAX));
        let octets = self.client_in.split_to(stretch);
        if chunk.refused.is_some() {
            return true;
        }
        let mut relayed = &octets[..];
        if chunk.last
            && chunk.left == 0
            && let Some((held, before)) = octets.split_last()
        {
            chunk.held = Some(*held);
            relayed = before;
        }
        self.content.extend_from_slice(&octets);
        self.send_server(relayed, now);
        self.count_octets(u64::try_from(stretch).unwrap_or(u64::MAX));
        true
    }

    /// Throws the octets of a chunk away, which are not commands, and answers it with `refusal`.
    pub(super) fn skip_chunk(&mut self, size: u64, last: bool, refusal: Refusal, now: Instant) {
        self.clocks.block = now;
        self.input = Input::Chunk(Chunk {
            left: size,
            last,
            held: None,
            since: now,
            refused: Some(refusal),
            message_refused: false,
        });
    }

    fn end_chunk(&mut self, now: Instant) {
        let Input::Chunk(chunk) = std::mem::replace(&mut self.input, Input::Command) else { return };
        match chunk.refused {
            Some(refusal) if chunk.message_refused => self.end_refused(&refusal, now),
            Some(refusal) => {
                self.refuse_command(&refusal, now);
                self.chunk_failed(&refusal);
            }
            None if chunk.last => {
                self.input = Input::Verdict(chunk.held.map_or(HeldEnd::EmptyChunk, HeldEnd::Octet));
                self.clocks.verdict = now;
                self.act(Action::EndMessage);
            }
            None => self.queue.push(Expected::Chunk, true, now),
        }
    }

    pub(super) fn chunk_answered(&mut self, reply: &Reply) {
        if !reply.is_positive() {
            self.chunk_failed(&Refusal::Server(reply.clone()));
        }
    }

    /// RFC 3030 section 2: after a failed chunk the transaction waits for RSET.
    fn chunk_failed(&mut self, refusal: &Refusal) {
        let Some(transaction) = &mut self.transaction else { return };
        transaction.failed = true;
        if transaction.copied {
            self.act(Action::AbortMessage);
            self.message_refused(refusal);
        }
    }
}
