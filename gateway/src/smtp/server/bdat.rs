//! BDAT: text in counted chunks (RFC 3030).
//!
//! A chunk's octets are never searched for an end: the count alone says where commands go on, whether the
//! chunk is taken or thrown away.

use std::time::Instant;

use bytes::BytesMut;

use super::{HIGH_WATER, Input, Question, Server, Step};
use crate::queue::Body;
use crate::smtp::command::Command;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;

/// The chunk that is being read.
#[derive(Debug)]
pub(super) struct Chunk {
    size: u64,
    /// Octets still to come.
    left: u64,
    last: bool,
    /// When its command came.
    pub(super) since: Instant,
    /// Its octets are thrown away and this is the answer.
    pub(super) refused: Option<Refusal>,
    /// The answer belongs to the message, not to the chunk.
    pub(super) message_refused: bool,
}

impl Server {
    pub(super) fn bdat(&mut self, size: u64, last: bool, now: Instant) {
        self.clocks.block = now;
        let doom = self.transaction.as_mut().and_then(|transaction| transaction.doomed.take());
        let refused = doom.or_else(|| self.judge_chunk(size));
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
        }
        self.input =
            Input::Chunk(Chunk { size, left: size, last, since: now, refused, message_refused: false });
    }

    fn judge_chunk(&self, size: u64) -> Option<Refusal> {
        let Some(transaction) = self.transaction.as_ref().filter(|open| !open.failed) else {
            return Some(Refusal::BadSequence);
        };
        if transaction.recipients.is_empty() {
            return Some(Refusal::NoRecipient);
        }
        let limit = self.rules.limits.message_size.bytes();
        (limit != 0 && transaction.size.saturating_add(size) > limit).then_some(Refusal::MessageTooLarge)
    }

    /// Throws the octets of a chunk away, which are not commands, and answers it with `refusal`.
    pub(super) fn skip_chunk(&mut self, size: u64, refusal: Refusal, now: Instant) {
        self.clocks.block = now;
        self.input = Input::Chunk(Chunk {
            size,
            left: size,
            last: false,
            since: now,
            refused: Some(refusal),
            message_refused: false,
        });
    }

    /// Reads a stretch of the chunk; false when there is none.
    pub(super) fn read_chunk(&mut self, now: Instant) -> bool {
        let Input::Chunk(chunk) = &mut self.input else { return false };
        if chunk.left == 0 {
            self.end_chunk(now);
            return true;
        }
        let stretch = usize::try_from(chunk.left).unwrap_or(usize::MAX).min(self.client_in.len());
        let stretch = stretch.min(HIGH_WATER);
        if stretch == 0 {
            return false;
        }
        chunk.left = chunk.left.saturating_sub(u64::try_from(stretch).unwrap_or(u64::MAX));
        let is_end = chunk.last && chunk.left == 0;
        let octets = self.client_in.split_to(stretch);
        if chunk.refused.is_some() {
            return true;
        }
        self.take_octets(octets, is_end);
        true
    }

    /// Adds octets of a chunk to the message: as they are where the client said that they have no lines,
    /// and else with line ends that have one reading.
    fn take_octets(&mut self, octets: BytesMut, is_end: bool) {
        let Some(transaction) = &mut self.transaction else { return };
        if transaction.parameters.body == Body::BinaryMime {
            self.count_octets(octets.len());
            let none = Default::default();
            match self.judge_content(&octets, none, none) {
                Some(refusal) => self.refuse_message(refusal),
                None => self.content.unsplit(octets),
            }
            return;
        }
        let noted = transaction.line_ends.oddities();
        let mut content = BytesMut::with_capacity(octets.len());
        transaction.line_ends.decode(&octets, &mut content);
        if is_end {
            transaction.line_ends.finish(&mut content);
        }
        let found = transaction.line_ends.oddities();
        self.count_octets(content.len());
        match self.judge_content(&content, found, noted) {
            Some(refusal) => self.refuse_message(refusal),
            None => self.content.unsplit(content),
        }
    }

    fn end_chunk(&mut self, now: Instant) {
        let Input::Chunk(chunk) = std::mem::replace(&mut self.input, Input::Command) else { return };
        match chunk.refused {
            Some(refusal) if chunk.message_refused && chunk.last => self.end_refused(&refusal, now),
            Some(refusal) => {
                self.refuse_command(&refusal, now);
                self.chunk_failed(&refusal);
            }
            None if chunk.last => self.await_verdict(now),
            None => {
                let reply = Reply::new(250, &format!("2.0.0 {} octets received", chunk.size));
                self.reply(&reply, now);
            }
        }
    }

    /// RFC 3030 section 2: after a failed chunk the transaction waits for RSET.
    fn chunk_failed(&mut self, refusal: &Refusal) {
        let Some(transaction) = &mut self.transaction else { return };
        transaction.failed = true;
        if transaction.copied {
            self.abort_copy();
            self.message_refused(refusal);
        }
    }
}
