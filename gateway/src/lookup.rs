//! Asking the machine that has redirected a flow where the flow was meant to go.
//!
//! Owns what is asked and answered, and how that looks on the wire: [`sealed`] by default,
//! [`smtp_gated`] and [`ident`] for what is there already. Without sockets and clocks: both sides,
//! the gateway and `gateway helper`, are made of it.

use std::net::SocketAddr;

use crate::config::file::{Lookup, LookupFormat};
use crate::intercept::identity::Identity;

pub mod ident;
pub mod replay;
pub mod sealed;
pub mod smtp_gated;

/// A connection as the gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Where it comes from: the client, or the router that gave it an address of its own.
    pub client: SocketAddr,
    /// Where it went to: one of the gateway's listeners.
    pub gateway: SocketAddr,
}

/// What the router knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has redirected the flow.
    Found {
        /// Where the client meant it to go.
        destination: SocketAddr,
        /// Who the client is in the network behind the router.
        identity: Option<Identity>,
    },
    /// It knows of no such flow.
    Unknown,
}

/// Tells a question from its repetitions, and an answer from those to other questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(pub [u8; 16]);

/// Why octets are no question or no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Another length, mark or version.
    #[error("another format")]
    Format,
    /// Sealed with another secret, or changed on its way.
    #[error("another secret")]
    Secret,
    /// It is no answer to what was asked.
    #[error("no answer to the question")]
    Other,
    /// Addresses of two families, or without a port.
    #[error("impossible addresses")]
    Address,
}

/// One of the formats of a datagram.
#[derive(Clone, Debug)]
pub enum Wire {
    /// [`sealed`].
    Sealed(sealed::Key),
    /// [`smtp_gated`].
    SmtpGated(smtp_gated::Secret),
}

impl Wire {
    /// The format that the configuration wants, if its secret fits.
    #[must_use]
    pub fn of(lookup: &Lookup) -> Option<Self> {
        match lookup.format {
            LookupFormat::Sealed => sealed::Key::new(lookup.secret()).map(Self::Sealed),
            LookupFormat::SmtpGated => {
                lookup.number().map(|number| Self::SmtpGated(smtp_gated::Secret(number)))
            }
        }
    }

    /// The datagram that asks, at `wall` time in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`Unusable::Address`] where the format has no such addresses.
    pub fn ask(&self, question: Question, nonce: Nonce, wall: u64) -> Result<Vec<u8>, Unusable> {
        match self {
            Self::Sealed(key) => Ok(sealed::ask(key, question, nonce, wall)),
            Self::SmtpGated(secret) => smtp_gated::ask(*secret, question, nonce),
        }
    }

    /// Reads a datagram that asks: what, with which nonce and when.
    ///
    /// # Errors
    ///
    /// [`Unusable`]; nothing is to be answered.
    pub fn asked(&self, datagram: &[u8]) -> Result<Asked, Unusable> {
        match self {
            Self::Sealed(key) => sealed::asked(key, datagram),
            Self::SmtpGated(secret) => smtp_gated::asked(*secret, datagram),
        }
    }

    /// The datagram that answers.
    ///
    /// # Errors
    ///
    /// [`Unusable::Address`] where the format has no such addresses.
    pub fn answer(&self, asked: &Asked, answer: &Answer, wall: u64) -> Result<Vec<u8>, Unusable> {
        match self {
            Self::Sealed(key) => Ok(sealed::answer(key, asked, answer, wall)),
            Self::SmtpGated(secret) => smtp_gated::answer(*secret, asked, answer),
        }
    }

    /// Reads a datagram that answers `question`, which was asked with one of `nonces`.
    ///
    /// # Errors
    ///
    /// [`Unusable`]; another answer may come.
    pub fn answered(
        &self,
        datagram: &[u8],
        question: Question,
        nonces: &[Nonce],
    ) -> Result<Answer, Unusable> {
        match self {
            Self::Sealed(key) => sealed::answered(key, datagram, question, nonces),
            Self::SmtpGated(_) => smtp_gated::answered(datagram, nonces),
        }
    }
}

/// A question as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is asked.
    pub question: Question,
    /// What the answer has to repeat.
    pub nonce: Nonce,
    /// When it was asked, in milliseconds since 1970, where the format says so.
    pub sent: Option<u64>,
}

#[cfg(test)]
mod tests;
