//! A message from its first octet to what became of it.

use std::time::Instant;

use bytes::BytesMut;

use super::queue::Expected;
use super::{Action, Exchange, Input, Phase};
use crate::outcome::{MessageAction, SessionEnd};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::report::MessageDone;

/// The end of a message, held back until the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeldEnd {
    /// The final dot line of DATA.
    Dot,
    /// The last octet of the last chunk.
    Octet(u8),
    /// The last chunk as a whole, which is empty.
    EmptyChunk,
}

impl Exchange {
    pub(super) fn begin_message(&mut self) {
        if let Some(transaction) = self.transaction.as_mut().filter(|open| !open.copied) {
            transaction.copied = true;
            self.act(Action::BeginMessage);
        }
    }

    /// The operator's header for the top of the message that the server gets, once for each.
    /// Scanners see the message as the client sent it; signatures (RFC 6376 section 5.4.2) do not
    /// cover headers above theirs.
    pub(super) fn take_header(&mut self) -> String {
        let begins = self.transaction.as_mut().is_some_and(|open| !std::mem::replace(&mut open.headed, true));
        if begins { self.terms.header.clone().unwrap_or_default() } else { String::new() }
    }

    pub(super) fn count_octets(&mut self, octets: u64) {
        if let Some(transaction) = &mut self.transaction {
            transaction.size = transaction.size.saturating_add(octets);
        }
    }

    /// The verdict is clean: the end goes to the server.
    pub(super) fn pass_message(&mut self, now: Instant) {
        let (Phase::Relay, Input::Verdict(held)) = (&self.phase, &self.input) else { return };
        let held = *held;
        self.input = Input::Command;
        match held {
            HeldEnd::Dot => self.send_server(b".\r\n", now),
            HeldEnd::Octet(octet) => self.send_server(&[octet], now),
            HeldEnd::EmptyChunk => self.send_chunk_line(0, true, now),
        }
        self.queue.push(Expected::EndOfData, true, now);
    }

    /// The message never reaches its end: the server is left without it, and the client reads
    /// the refusal where it expects the reply.
    pub(super) fn refuse_message(&mut self, refusal: Refusal, now: Instant) {
        let between_chunks = self.is_between_chunks();
        match &mut self.input {
            Input::Text(text) if text.refused.is_none() => text.refused = Some(refusal.clone()),
            Input::Chunk(chunk) if chunk.refused.is_none() => {
                chunk.refused = Some(refusal.clone());
                chunk.message_refused = true;
            }
            Input::Verdict(_) => {
                self.input = Input::Command;
                self.drop_server();
                self.end_refused(&refusal, now);
                return;
            }
            Input::Command if between_chunks => {
                self.drop_server();
                self.queue.give_up(&refusal.reply(&self.rules.voice));
                self.message_refused(&refusal);
            }
            Input::Text(_) | Input::Chunk(_) | Input::Command | Input::AuthResponse => return,
        }
        self.content = BytesMut::new();
        self.act(Action::AbortMessage);
        self.drop_server();
        self.take_over(&refusal, now);
    }

    /// The end of a refused message: its reply, and what follows is answered by the gateway.
    pub(super) fn end_refused(&mut self, refusal: &Refusal, now: Instant) {
        self.tally.refused(refusal);
        self.message_refused(refusal);
        let reply = refusal.reply(&self.rules.voice);
        if reply.is_closing() {
            let locked = matches!(refusal, Refusal::Locked { .. });
            self.answer_last(reply, if locked { SessionEnd::Locked } else { SessionEnd::Server });
        } else {
            self.queue.push_own(reply);
        }
        self.take_over(refusal, now);
    }

    /// Records a message as refused.
    pub(super) fn message_refused(&mut self, refusal: &Refusal) {
        let action = if matches!(refusal, Refusal::Server(_)) {
            MessageAction::ServerRefused
        } else if refusal.is_temporary() {
            MessageAction::Deferred
        } else {
            MessageAction::Refused
        };
        self.message_done(action, refusal.reply(&self.rules.voice).summary());
    }

    /// Whether a message is begun, and its next chunk has not come.
    fn is_between_chunks(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.copied)
            && !self.queue.awaits_end_of_data()
    }

    /// The server has answered the end of data.
    pub(super) fn message_answered(&mut self, reply: &Reply) {
        let action = if reply.is_positive() { MessageAction::Passed } else { MessageAction::ServerRefused };
        self.message_done(action, reply.summary());
        self.transaction = None;
    }

    /// A message that was begun will not be completed.
    pub(super) fn abort_message(&mut self, why: &str) {
        self.content = BytesMut::new();
        if self.transaction.as_ref().is_some_and(|transaction| transaction.copied) {
            self.act(Action::AbortMessage);
            self.message_done(MessageAction::Aborted, why.to_owned());
        }
    }

    fn message_done(&mut self, action: MessageAction, reply: String) {
        if let Some(transaction) = self.transaction.as_mut().filter(|open| open.copied) {
            transaction.copied = false;
            transaction.refusal = None;
            let done = MessageDone {
                envelope: transaction.envelope.clone(),
                size: transaction.size,
                action,
                reply,
                started: transaction.started,
            };
            self.act(Action::MessageDone(done));
        }
    }

    /// Whether a message is being read or judged.
    pub(super) const fn is_in_message(&self) -> bool {
        matches!(self.phase, Phase::Relay | Phase::Takeover(_))
            && matches!(self.input, Input::Text(_) | Input::Chunk(_) | Input::Verdict(_))
    }
}
