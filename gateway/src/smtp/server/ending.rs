//! The end of a session: who leaves first, and what is still to be said.

use std::time::Instant;

use bytes::BytesMut;

use super::{Input, Phase, Server};
use crate::outcome::SessionEnd;
use crate::smtp::refusal::Refusal;

impl Server {
    /// The client is gone: nothing can be written to it either.
    pub fn client_lost(&mut self, now: Instant) {
        self.client_closed = true;
        self.client_lost = true;
        self.to_client = BytesMut::new();
        self.held = BytesMut::new();
        // A message that is being stored is: nobody can say that it was not.
        if !matches!(self.input, Input::Storing) {
            self.abort_message("the client went away");
            self.finish(SessionEnd::Client, now);
        }
    }

    /// The operator or the gateway's stop ends the session. One that is putting a message on stable storage
    /// goes on until that is done.
    pub fn end(&mut self, end: SessionEnd, now: Instant) {
        if matches!(self.input, Input::Storing) {
            self.last.get_or_insert(end);
            return;
        }
        if !matches!(self.phase, Phase::Closing(_)) {
            let refusal = if end == SessionEnd::Operator { Refusal::Ended } else { Refusal::ShuttingDown };
            self.give_up(&refusal, end, now);
        }
    }

    /// How the session ended, once nothing is left to write or waiting for it is in vain.
    #[must_use]
    pub fn finished(&self, now: Instant) -> Option<SessionEnd> {
        let Phase::Closing(end) = self.phase else { return None };
        (self.to_client.is_empty() || self.clocks.close_passed(now)).then_some(end)
    }

    /// Ends the session as soon as the client has read what waits for it.
    pub(super) fn finish(&mut self, end: SessionEnd, now: Instant) {
        if !matches!(self.phase, Phase::Closing(_)) {
            self.envelope_done();
            self.transaction = None;
            self.asked = None;
            self.clocks.delay = None;
            self.flush(now);
            self.phase = Phase::Closing(end);
            self.clocks.enter(now);
        }
    }

    /// Says why, and ends the session.
    pub(super) fn give_up(&mut self, refusal: &Refusal, end: SessionEnd, now: Instant) {
        self.abort_message(&refusal.to_string());
        self.clocks.delay = None;
        // Inside a handshake there is nobody who would understand.
        if !matches!(self.phase, Phase::Handshake) {
            self.refuse(refusal, now);
        }
        self.finish(end, now);
    }

    /// The client has closed its side: ends the session once its last commands are answered.
    pub(super) fn client_left(&mut self, now: Instant) {
        match (&self.phase, &self.input) {
            (Phase::Closing(_) | Phase::Handshake, _) | (Phase::Open, Input::Verdict | Input::Storing) => {}
            (Phase::Open, Input::Text(_) | Input::Chunk(_)) => {
                self.abort_message("the client went away");
                self.finish(SessionEnd::Client, now);
            }
            _ if self.asked.is_some() || self.clocks.delay.is_some() || !self.has_room() => {}
            (Phase::Arrival { .. }, _) if !self.client_in.is_empty() => {}
            _ => self.finish(SessionEnd::Client, now),
        }
    }
}
