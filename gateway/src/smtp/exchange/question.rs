//! Questions that are put to others before a step goes on.
//!
//! Asked only at the steps in [`super::Rules::asks`]. Until the ruling comes, the command has no
//! place in the queue yet and nothing behind it is read, so that replies keep their order and
//! what the client pipelines waits in its buffer.

use std::time::Instant;

use super::{Action, Exchange, Phase};
use crate::outcome::SessionEnd;
use crate::smtp::command::Command;
use crate::smtp::question::{Question, Ruling, Step};
use crate::smtp::refusal::Refusal;

/// What waits for a ruling.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) since: Instant,
    /// The command in question; none at [`Step::Connect`].
    command: Option<Command>,
}

impl Asked {
    /// The command that waits.
    pub(super) fn into_command(self) -> Option<Command> {
        self.command
    }
}

impl Exchange {
    /// The ruling on the question that [`Action::Ask`] put. One that nobody waits for any more
    /// changes nothing.
    pub fn answered(&mut self, ruling: Ruling, now: Instant) {
        let Some(asked) = self.asked.take() else { return };
        self.clocks.command = now;
        if let Some(cause) = ruling.refusal().and_then(Refusal::offence) {
            self.offence(cause);
        }
        match asked.command {
            None => self.admit(ruling, now),
            Some(command) => self.ruled(command, ruling, now),
        }
        self.pump(now);
    }

    /// Whether the server is to be connected to.
    #[must_use]
    pub const fn wants_server_connection(&self) -> bool {
        matches!(self.phase, Phase::Connect) && self.asked.is_none()
    }

    /// Whether others are to be asked at `step`, and have not been just now.
    pub(super) fn asks(&self, step: Step) -> bool {
        self.rules.asks.contains(step) && !self.ruled
    }

    /// Puts a question; `command` waits for the ruling.
    pub(super) fn ask(&mut self, question: Question, command: Option<Command>, now: Instant) {
        self.asked = Some(Asked { since: now, command });
        self.act(Action::Ask(question));
    }

    /// A client is let in, or not.
    fn admit(&mut self, ruling: Ruling, now: Instant) {
        match ruling {
            Ruling::Pass => self.clocks.enter(now),
            Ruling::Refuse(refusal) | Ruling::Takeover(refusal)
                if !refusal.reply(&self.rules.voice).is_closing() =>
            {
                // RFC 5321 section 3.1: the refusal stands in the greeting's place, and the
                // client is waited for.
                self.say(&refusal, now);
                self.take_over(&refusal, now);
            }
            Ruling::Refuse(refusal) | Ruling::Takeover(refusal) | Ruling::Close(refusal) => {
                self.say(&refusal, now);
                self.finish(SessionEnd::Gateway, now);
            }
        }
    }

    /// Whether the command in hand has been ruled on just now.
    pub(super) const fn is_ruled(&self) -> bool {
        self.ruled
    }

    pub(super) fn ruled(&mut self, command: Command, ruling: Ruling, now: Instant) {
        if let Ruling::Refuse(refusal) | Ruling::Takeover(refusal) | Ruling::Close(refusal) = &ruling {
            self.path_refused(&command, refusal);
        }
        match (ruling, command) {
            (Ruling::Pass, command) => {
                // What the server has said meanwhile may have put the command out of place.
                self.ruled = true;
                self.relay(command, now);
                self.ruled = false;
            }
            (Ruling::Refuse(refusal), Command::Bdat { size, last }) => {
                self.skip_chunk(size, last, refusal, now);
            }
            (Ruling::Takeover(refusal), Command::Bdat { size, last }) => {
                self.drop_server();
                self.take_over(&refusal, now);
                self.skip_chunk(size, last, refusal, now);
            }
            (Ruling::Refuse(refusal) | Ruling::Takeover(refusal) | Ruling::Close(refusal), _)
                if refusal.reply(&self.rules.voice).is_closing() =>
            {
                self.close_with(&refusal);
            }
            (Ruling::Refuse(refusal), _) => self.answer(&refusal),
            (Ruling::Takeover(refusal), _) => self.answer_and_take_over(refusal),
            (Ruling::Close(refusal), _) => self.close_with(&refusal),
        }
    }

    fn close_with(&mut self, refusal: &Refusal) {
        self.tally.refused(refusal);
        self.answer_last(refusal.reply(&self.rules.voice), SessionEnd::Gateway);
    }
}
