//! What goes in and comes out beside octets: rules, actions, decisions.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::config::file::{Auth, Config, Filters, Inspect, Limits, StartTls, Timeouts};
use crate::smtp::question::{Question, Steps};
use crate::smtp::refusal::Refusal;
use crate::smtp::report::{EnvelopeRefused, MessageDone, Note};
use crate::smtp::voice::Voice;

/// What the operator wants of every exchange.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The gateway's name and texts in its own replies.
    pub voice: Voice,
    /// What is let through.
    pub inspect: Inspect,
    /// What names and addresses must match.
    pub filters: Filters,
    /// What AUTH is needed for.
    pub auth: Auth,
    /// Ceilings.
    pub limits: Limits,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// The steps at which [`Action::Ask`] is wanted.
    pub asks: Steps,
}

impl Rules {
    /// The rules that `config` sets, with `name` for the gateway; nobody is asked.
    #[must_use]
    pub fn new(config: &Config, name: String) -> Self {
        Self {
            voice: Voice { name, messages: config.messages.clone() },
            inspect: config.inspect.clone(),
            filters: config.filters.clone(),
            auth: config.auth.clone(),
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            asks: Steps::default(),
        }
    }
}

/// What holds for one session only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What is done with STARTTLS.
    pub starttls: StartTls,
    /// Header lines on top of each message for the server, with their line ends.
    pub header: Option<String>,
    /// As whom the server is told the client by XCLIENT, if it is.
    pub introduction: Option<Introduction>,
}

/// What a server is told of a client by XCLIENT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its address and port.
    pub client: SocketAddr,
    /// Whether a server that does not listen gets no mail.
    pub required: bool,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A step waits for a ruling: get it and call [`super::Exchange::answered`].
    Ask(Question),
    /// A message begins: open its copy and start the scanners.
    BeginMessage,
    /// The next octets of the message, for its copy.
    Content(Bytes),
    /// The message is complete: get the verdict and call [`super::Exchange::decided`].
    EndMessage,
    /// The message will not be completed: throw its copy away.
    AbortMessage,
    /// What became of a message whose copy was begun.
    MessageDone(MessageDone),
    /// An envelope of which something was refused is over, and came to no message.
    EnvelopeRefused(EnvelopeRefused),
    /// Close the connection to the server at once, without QUIT.
    DropServer,
    /// From here on octets pass unread, as soon as what waits for both sides is written.
    Splice(Unread),
    /// Something an operator counts.
    Note(Note),
}

/// Why octets pass unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The client begins TLS.
    Encrypted,
    /// AUTH has succeeded, and the operator wants no more.
    Authenticated,
}

/// What is done with a complete message.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Its end goes to the server.
    Pass,
    /// It never reaches its end.
    Refuse(Refusal),
}
