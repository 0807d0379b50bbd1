//! What goes in and comes out beside octets: rules, terms, actions.

use bytes::Bytes;

use crate::config::file::{Config, Filters, Inspect, Limits, Relay, Timeouts};
use crate::smtp::fault::Fault;
use crate::smtp::question::{Question, Steps};
use crate::smtp::report::{EnvelopeRefused, MessageDone, Note};
use crate::smtp::voice::Voice;

/// What the operator wants of every session.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The gateway's name and texts in its replies.
    pub voice: Voice,
    /// The relay lane.
    pub relay: Relay,
    /// What is done with bare line ends, NUL octets and early talkers.
    pub inspect: Inspect,
    /// What names and addresses must match.
    pub filters: Filters,
    /// Ceilings.
    pub limits: Limits,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Faults of which the postmaster hears; with none, what is said is not written down.
    pub faults: Vec<Fault>,
    /// The steps at which [`Action::Ask`] is wanted.
    pub asks: Steps,
}

impl Rules {
    /// The rules that `config` sets, with `name` for the gateway; nobody is asked.
    #[must_use]
    pub fn new(config: &Config, name: String) -> Self {
        Self {
            voice: Voice { name, messages: config.messages.clone() },
            relay: config.relay.clone(),
            inspect: config.inspect.clone(),
            filters: config.filters.clone(),
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            faults: Fault::wanted(&config.delivery.trouble_shooting.notify_classes),
            asks: Steps::default(),
        }
    }
}

/// What holds for one session only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// STARTTLS is offered: there is a certificate.
    pub starttls: bool,
    /// The client may say by XCLIENT and XFORWARD whom it speaks for.
    pub trusted: bool,
    /// The gateway itself finds out where recipients' domains are, so that each needs one.
    pub routes: bool,
}

/// TLS as it was agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSession {
    /// Version, such as `TLSv1.3`.
    pub version: String,
    /// Cipher suite by its registered name, such as `TLS_AES_256_GCM_SHA384`.
    pub suite: String,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A step waits for a ruling: get it and call [`super::Server::answered`].
    Ask(Question),
    /// A message begins: open its copy and start the scanners.
    BeginMessage,
    /// The next octets of the message, for its copy.
    Content(Bytes),
    /// The message is complete: get the verdict, then call [`super::Server::decided`]; where it passes,
    /// put it on stable storage and call [`super::Server::stored`].
    EndMessage,
    /// The message will not be completed: throw its copy away.
    AbortMessage,
    /// What became of a message whose copy was begun.
    MessageDone(MessageDone),
    /// An envelope of which something was refused is over, and came to no message.
    EnvelopeRefused(EnvelopeRefused),
    /// As soon as what waits for the client is written, begin TLS and call [`super::Server::secured`] or
    /// [`super::Server::handshake_failed`].
    StartTls,
    /// A trusted client has said whom it speaks for: see [`super::Server::told`].
    Introduced,
    /// Something an operator counts.
    Note(Note),
}
