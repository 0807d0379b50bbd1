//! A message from its first octet to what became of it.

use std::time::Instant;

use bytes::BytesMut;

use super::{Action, Input, Server};
use crate::outcome::{MessageAction, SessionEnd};
use crate::queue::QueueId;
use crate::smtp::refusal::Refusal;
use crate::smtp::report::MessageDone;

impl Server {
    pub(super) fn begin_message(&mut self) {
        if let Some(transaction) = self.transaction.as_mut().filter(|open| !open.copied) {
            transaction.copied = true;
            self.idle_commands = 0;
            self.act(Action::BeginMessage);
        }
    }

    pub(super) fn count_octets(&mut self, octets: usize) {
        if let Some(transaction) = &mut self.transaction {
            transaction.size = transaction.size.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX));
        }
    }

    /// The verdict on the message that [`Action::EndMessage`] announced: `None` where it passes and is
    /// being put on stable storage. A refusal may come earlier, for a message that cannot be copied.
    pub fn decided(&mut self, refusal: Option<Refusal>, now: Instant) {
        match refusal {
            None if matches!(self.input, Input::Verdict) => {
                self.input = Input::Storing;
                self.clocks.verdict = now;
            }
            None => {}
            Some(refusal) if matches!(self.input, Input::Verdict) => {
                self.input = Input::Command;
                self.end_refused(&refusal, now);
            }
            Some(refusal) => self.refuse_message(refusal),
        }
        self.pump(now);
    }

    /// The message is on stable storage under this name, or is not.
    pub fn stored(&mut self, stored: Result<QueueId, Refusal>, now: Instant) {
        if !matches!(self.input, Input::Storing) {
            return;
        }
        self.input = Input::Command;
        match stored {
            Ok(id) => {
                let reply = self.rules.voice.reply(250, "2.0.0", &format!("Ok: queued as {id}"));
                self.message_done(MessageAction::Queued, reply.summary());
                self.end_transaction();
                self.reply(&reply, now);
            }
            Err(refusal) => self.end_refused(&refusal, now),
        }
        if self.client_lost {
            self.finish(SessionEnd::Client, now);
        }
        self.pump(now);
    }

    /// The message will not be taken; its client is told where it expects the reply.
    pub(super) fn refuse_message(&mut self, refusal: Refusal) {
        let between_chunks = self.transaction.as_ref().is_some_and(|transaction| transaction.copied);
        match &mut self.input {
            Input::Text(text) if text.refused.is_none() => text.refused = Some(refusal),
            Input::Chunk(chunk) if chunk.refused.is_none() => {
                chunk.refused = Some(refusal);
                chunk.message_refused = true;
            }
            Input::Command if between_chunks => {
                self.abort_copy();
                self.message_refused(&refusal);
                if let Some(transaction) = &mut self.transaction {
                    transaction.failed = true;
                    transaction.doomed = Some(refusal);
                }
                return;
            }
            Input::Text(_) | Input::Chunk(_) | Input::Command | Input::Verdict | Input::Storing => return,
        }
        self.abort_copy();
    }

    pub(super) fn abort_copy(&mut self) {
        self.content = BytesMut::new();
        self.act(Action::AbortMessage);
    }

    /// The end of a refused message: its reply.
    pub(super) fn end_refused(&mut self, refusal: &Refusal, now: Instant) {
        self.message_refused(refusal);
        self.end_transaction();
        if refusal.reply(&self.rules.voice).is_closing() {
            let locked = matches!(refusal, Refusal::Locked { .. });
            let end = if locked { SessionEnd::Locked } else { SessionEnd::Gateway };
            self.close_with(refusal, end, now);
        } else {
            self.refuse(refusal, now);
        }
    }

    /// Records a message as refused.
    pub(super) fn message_refused(&mut self, refusal: &Refusal) {
        let action = if refusal.is_temporary() { MessageAction::Deferred } else { MessageAction::Refused };
        self.message_done(action, refusal.reply(&self.rules.voice).summary());
    }

    /// A message that was begun will not be completed.
    pub(super) fn abort_message(&mut self, why: &str) {
        if self.transaction.as_ref().is_some_and(|transaction| transaction.copied) {
            self.abort_copy();
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
}
