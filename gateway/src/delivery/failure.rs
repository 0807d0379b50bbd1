//! Why a destination, or a server of it, cannot have a message.

use std::fmt;

use crate::smtp::client::Status;

/// An enhanced status code and a sentence for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether it is for good, and what kind it is of (RFC 3463).
    pub status: Status,
    /// What happened.
    pub reason: String,
}

impl Failure {
    /// 4.`subject`.`detail`.
    #[must_use]
    pub fn transient(subject: u16, detail: u16, reason: impl Into<String>) -> Self {
        Self { status: Status::transient(subject, detail), reason: reason.into() }
    }

    /// 5.`subject`.`detail`.
    #[must_use]
    pub fn permanent(subject: u16, detail: u16, reason: impl Into<String>) -> Self {
        Self { status: Status::permanent(subject, detail), reason: reason.into() }
    }

    /// The same, to be tried again.
    #[must_use]
    pub fn softened(self) -> Self {
        Self { status: self.status.softened(), ..self }
    }

    /// The worse of two for those who wait: while one of them may pass, nothing is lost for good.
    #[must_use]
    pub fn or_temporary(self, other: Self) -> Self {
        if self.status.is_permanent() && !other.status.is_permanent() { other } else { self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.reason)
    }
}
