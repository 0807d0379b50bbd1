//! Questions that are put to others before a step of a session goes on, and what they rule.

use super::refusal::Refusal;
use super::report::Envelope;

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
