//! Replies in the server's place: at once, in their turn, or as the last of the session.

use std::time::Instant;

use super::Exchange;
use crate::outcome::SessionEnd;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::tally;

/// What comes once all replies on their way are with the client.
#[derive(Debug)]
pub(super) enum Last {
    /// The session ends.
    End(SessionEnd),
    /// The gateway goes on in the server's place.
    TakeOver(Refusal),
}

impl Exchange {
    /// Answers in the server's place, behind all replies that are still to come.
    pub(super) fn answer(&mut self, refusal: &Refusal) {
        self.tally.refused(refusal);
        self.queue.push_own(refusal.reply(&self.rules.voice));
    }

    /// Writes a reply to the client at once.
    pub(super) fn say(&mut self, refusal: &Refusal, now: Instant) {
        let reply = refusal.reply(&self.rules.voice);
        tally::count(&mut self.tally.own_replies, reply.code());
        self.relay_reply(&reply, now);
    }

    pub(super) fn flush_own_replies(&mut self, now: Instant) {
        while self.clocks.delay.is_none() {
            let Some(reply) = self.queue.pop_own() else { return };
            tally::count(&mut self.tally.own_replies, reply.code());
            self.relay_reply(&reply, now);
        }
    }

    /// Answers behind all replies that are still to come, and ends the session there.
    pub(super) fn answer_last(&mut self, reply: Reply, end: SessionEnd) {
        self.queue.push_own(reply);
        self.last = Some(Last::End(end));
    }

    /// Answers behind all replies that are still to come, and goes on there in the server's place.
    pub(super) fn answer_and_take_over(&mut self, refusal: Refusal) {
        self.answer(&refusal);
        self.last = Some(Last::TakeOver(refusal));
    }

    /// Does what was to come behind the last reply; true when the client is to be read further.
    pub(super) fn come_to_last(&mut self, now: Instant) -> bool {
        if !self.queue.is_empty() {
            return false;
        }
        match self.last.take() {
            None => false,
            Some(Last::End(end)) => {
                self.finish(end, now);
                false
            }
            Some(Last::TakeOver(refusal)) => {
                self.abort_message(&refusal.to_string());
                self.drop_server();
                self.take_over(&refusal, now);
                true
            }
        }
    }
}
