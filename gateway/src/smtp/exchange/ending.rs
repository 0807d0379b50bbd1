//! The end of a session: who leaves first, and what is still to be said.

use std::time::Instant;

use bytes::BytesMut;

use super::{Action, Exchange, Input, Phase};
use crate::outcome::SessionEnd;
use crate::smtp::refusal::Refusal;

impl Exchange {
    /// The client is gone: nothing can be written to it either.
    pub fn client_lost(&mut self, now: Instant) {
        self.client_closed = true;
        self.client_lost = true;
        self.to_client = BytesMut::new();
        if !self.queue.awaits_end_of_data() {
            self.abort_message("the client went away");
            self.finish(SessionEnd::Client, now);
        }
    }

    /// The operator or the gateway's stop ends the session.
    pub fn end(&mut self, end: SessionEnd, now: Instant) {
        if self.finished(now).is_none() {
            let refusal = if end == SessionEnd::Operator { Refusal::Ended } else { Refusal::ShuttingDown };
            self.abort_message(&refusal.to_string());
            self.say(&refusal, now);
            self.finish(end, now);
        }
    }

    /// How the session ended, once nothing is left to write or waiting for it is in vain.
    #[must_use]
    pub fn finished(&self, now: Instant) -> Option<SessionEnd> {
        let Phase::Closing(end) = self.phase else { return None };
        (self.to_client.is_empty() || self.clocks.close_passed(now)).then_some(end)
    }

    /// Whether what waits for the client is the last that it hears.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// Closes the connection to the server; what it still has to say is of no interest.
    pub(super) fn drop_server(&mut self) {
        if self.server_up {
            self.server_up = false;
            self.to_server = BytesMut::new();
            self.server_in = BytesMut::new();
            self.act(Action::DropServer);
        }
    }

    /// Ends the session as soon as the client has read what waits for it.
    pub(super) fn finish(&mut self, end: SessionEnd, now: Instant) {
        if !self.is_closing() {
            self.envelope_done();
            self.drop_server();
            self.phase = Phase::Closing(end);
            self.clocks.enter(now);
        }
    }

    /// The client has closed its side: ends the session once its last commands are answered.
    pub(super) fn client_left(&mut self, now: Instant) {
        match (&self.phase, &self.input) {
            (Phase::Closing(_) | Phase::Spliced, _) => {}
            (_, Input::Text(_) | Input::Chunk(_)) => {
                self.abort_message("the client went away");
                self.finish(SessionEnd::Client, now);
            }
            (Phase::Relay, Input::Verdict(_)) => {}
            (Phase::Relay, _) if !self.queue.is_empty() || self.has_command_waiting() => {}
            (Phase::Connect | Phase::Greeting { .. }, _) if !self.client_in.is_empty() => {}
            _ => self.finish(SessionEnd::Client, now),
        }
    }

    fn has_command_waiting(&self) -> bool {
        self.deferred.is_some() || self.asked.is_some()
    }
}
