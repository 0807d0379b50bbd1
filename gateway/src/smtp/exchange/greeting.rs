//! The server's greeting, and clients that do not wait for it (RFC 5321 section 3.1).

use std::time::Instant;

use super::{Exchange, Phase};
use crate::config::file::EarlyTalk;
use crate::outcome::{Cause, SessionEnd};
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::report::Note;

impl Exchange {
    /// Looks at a client that speaks before the greeting; always waits.
    pub(super) fn early_talk(&mut self, now: Instant) -> bool {
        if !self.client_in.is_empty() && matches!(self.phase, Phase::Greeting { talked: false }) {
            self.phase = Phase::Greeting { talked: true };
            self.note(Note::EarlyTalk);
            if self.rules.inspect.early_talk == EarlyTalk::Refuse {
                self.offence(Cause::EarlyTalk);
                self.say(&Refusal::EarlyTalk, now);
                self.finish(SessionEnd::Gateway, now);
            }
        }
        false
    }

    pub(super) fn greeted(&mut self, reply: &Reply, now: Instant) {
        self.phase = Phase::Relay;
        self.clocks.enter(now);
        self.relay_reply(reply, now);
        if reply.is_closing() {
            self.finish(SessionEnd::Server, now);
        }
    }
}
