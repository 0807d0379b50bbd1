//! Why a scan has no result.

use std::io;
use std::time::Duration;

use super::connection::CONNECT_TIMEOUT;
use super::step::Step;
use crate::spool;

/// Why a scan has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("the connection was not accepted within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    #[error("the connection broke while sending: {0}")]
    Send(#[source] io::Error),
    #[error("the connection broke before the answer: {0}")]
    Receive(#[source] io::Error),
    #[error("HTTP: {0}")]
    Http(#[source] hyper::Error),
    #[error("the scanner closed the connection without a complete answer")]
    NoAnswer,
    #[error("deadline passed while {}", .0.doing())]
    Deadline(Step),
    #[error("the scanner answered before it had the whole message")]
    EarlyAnswer,
    #[error("the scanner answered: {0}")]
    Answer(String),
    #[error("left alone after failures in a row; next try in {} s", .0.as_secs())]
    LeftAlone(Duration),
    #[error(transparent)]
    Spool(#[from] spool::Error),
    #[error("the scanner is shut down")]
    Stopped,
}

impl Failure {
    /// Whether it tells that the scanner is not there. What depends on the message, or on the
    /// gateway's own part, does not: else a stranger's message could shut the scanner off for all.
    pub(super) const fn is_absence(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::ConnectTimeout
            | Self::Send(_)
            | Self::Receive(_)
            | Self::Http(_)
            | Self::NoAnswer
            | Self::Deadline(Step::Connect | Step::Send | Step::Answer) => true,
            Self::Deadline(Step::Message | Step::Place)
            | Self::EarlyAnswer
            | Self::Answer(_)
            | Self::LeftAlone(_)
            | Self::Spool(_)
            | Self::Stopped => false,
        }
    }

    /// Whether it tells that the scanner is there.
    pub(super) const fn is_presence(&self) -> bool {
        matches!(self, Self::Answer(_) | Self::EarlyAnswer)
    }
}
