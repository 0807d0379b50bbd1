//! A client arrives, is let in and greeted (RFC 5321 section 3.1).

use std::time::Instant;

use super::{Note, Phase, Question, Server, Step};
use crate::config::file::EarlyTalk;
use crate::outcome::{Cause, SessionEnd};
use crate::smtp::question::Ruling;
use crate::smtp::refusal::Refusal;

impl Server {
    /// The session begins, for the first time or behind XCLIENT.
    pub(super) fn arrive(&mut self, now: Instant) {
        self.phase = Phase::Arrival { greets: None, talked: false };
        self.clocks.enter(now);
        if self.asks(Step::Connect) {
            self.ask(Question::Connect, None, now);
        } else {
            self.let_in(now);
        }
    }

    /// The client is let in; it is greeted when it has shown that it waits for that.
    fn let_in(&mut self, now: Instant) {
        let greets = now.checked_add(self.rules.relay.greeting_delay.duration());
        if let Phase::Arrival { talked, .. } = self.phase {
            self.phase = Phase::Arrival { greets, talked };
            if self.rules.relay.greeting_delay.duration().is_zero() {
                self.greet(now);
            }
        }
    }

    pub(super) fn greet(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Arrival { greets: Some(_), .. }) {
            self.phase = Phase::Open;
            self.clocks.enter(now);
            let greeting = self.rules.voice.greeting();
            self.reply(&greeting, now);
        }
    }

    /// Rules on whether a client is let in.
    pub(super) fn admit(&mut self, ruling: Ruling, now: Instant) {
        match ruling {
            Ruling::Pass => self.let_in(now),
            Ruling::Refuse(refusal) | Ruling::Takeover(refusal)
                if !refusal.reply(&self.rules.voice).is_closing() =>
            {
                // The refusal stands in the greeting's place, and the client is waited for.
                self.refuse(&refusal, now);
                self.phase = Phase::Open;
                self.take_no_more(&refusal, true, now);
            }
            Ruling::Refuse(refusal) | Ruling::Takeover(refusal) | Ruling::Close(refusal) => {
                self.refuse(&refusal, now);
                self.finish(SessionEnd::Gateway, now);
            }
        }
    }

    /// Looks at a client that speaks before the greeting; always waits.
    pub(super) fn early_talk(&mut self, now: Instant) -> bool {
        let Phase::Arrival { greets, talked: false } = self.phase else { return false };
        if !self.client_in.is_empty() {
            self.phase = Phase::Arrival { greets, talked: true };
            self.note(Note::EarlyTalk);
            if self.rules.inspect.early_talk == EarlyTalk::Refuse {
                self.offence(Cause::EarlyTalk);
                self.refuse(&Refusal::EarlyTalk, now);
                self.finish(SessionEnd::Gateway, now);
            }
        }
        false
    }

    /// Notes what the client has done, for its record and for those who count offences.
    pub(super) fn offence(&mut self, cause: Cause) {
        self.conduct.cause = Some(cause);
        self.note(Note::Offence(cause));
    }
}
