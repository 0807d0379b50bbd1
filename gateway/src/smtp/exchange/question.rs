//! Questions that are put to others before a step goes on.
//!
//! Asked only at the steps in [`super::Rules::asks`]. Until the ruling comes, the command has no
//! place in the queue yet and nothing behind it is read, so that replies keep their order and
//! what the client pipelines waits in its buffer.

use std::time::Instant;

use super::{Action, Envelope, Exchange, Phase};
use crate::outcome::SessionEnd;
use crate::smtp::command::Command;
use crate::smtp::refusal::Refusal;

/// A step of a session at which others may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// A client has connected; its server is not connected to yet.
    Connect,
    /// HELO or EHLO.
    Hello,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// A text is about to come: DATA, or the first BDAT.
    Data,
}

/// A set of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps(u8);

impl Steps {
    /// The steps of this set and those of `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `step` is one of them.
    #[must_use]
    pub const fn contains(self, step: Step) -> bool {
        self.0 & 1 << step as u8 != 0
    }
}

impl FromIterator<Step> for Steps {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        steps.into_iter().fold(Self::default(), |all, step| Self(all.0 | 1 << step as u8))
    }
}

/// What is asked at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// May this client have a session?
    Connect,
    /// May the client call itself so?
    Hello {
        /// The name in HELO or EHLO.
        name: String,
    },
    /// May it try to authenticate?
    Auth,
    /// May it send mail from there?
    Mail {
        /// Reverse path, without angle brackets; empty for bounces.
        sender: String,
        /// The message's size as announced (RFC 1870).
        size: Option<u64>,
    },
    /// May it send mail to there?
    Rcpt {
        /// Reverse path of the transaction.
        sender: String,
        /// Forward path, without angle brackets.
        recipient: String,
    },
    /// May the text of the message come?
    Data {
        /// Who sends it to whom, with the recipients that the server accepted.
        envelope: Envelope,
    },
}

impl Question {
    /// The step it is asked at.
    #[must_use]
    pub const fn step(&self) -> Step {
        match self {
            Self::Connect => Step::Connect,
            Self::Hello { .. } => Step::Hello,
            Self::Auth => Step::Auth,
            Self::Mail { .. } => Step::Mail,
            Self::Rcpt { .. } => Step::Rcpt,
            Self::Data { .. } => Step::Data,
        }
    }
}

/// What is ruled on a question, from the mildest on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The step goes on.
    Pass,
    /// This command is refused, and the session goes on. At [`Step::Connect`] the same as
    /// `Takeover`.
    Refuse(Refusal),
    /// The command is refused, the server is left, and the gateway takes the session over.
    Takeover(Refusal),
    /// The command is refused and the session ends.
    Close(Refusal),
}

impl Ruling {
    /// What the client is told; none where the step goes on.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Pass => None,
            Self::Refuse(refusal) | Self::Takeover(refusal) | Self::Close(refusal) => Some(refusal),
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_the_steps_it_was_made_of() {
        let steps: Steps = [Step::Connect, Step::Rcpt].into_iter().collect();
        let all = steps.and([Step::Data].into_iter().collect());
        for (step, first, both) in [
            (Step::Connect, true, true),
            (Step::Hello, false, false),
            (Step::Auth, false, false),
            (Step::Mail, false, false),
            (Step::Rcpt, true, true),
            (Step::Data, false, true),
        ] {
            assert_eq!((steps.contains(step), all.contains(step)), (first, both), "{step:?}");
        }
    }
}
