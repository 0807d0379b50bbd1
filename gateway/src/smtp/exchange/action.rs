//! What goes in and comes out beside octets: rules, actions, notes, decisions.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::{Envelope, Question, Steps};
use crate::config::file::{Auth, Config, Filters, Inspect, Limits, StartTls, Timeouts};
use crate::outcome::{Cause, MessageAction};
use crate::smtp::refusal::Refusal;
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

/// What became of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageDone {
    /// Who sent it to whom.
    pub envelope: Envelope,
    /// Octets of its text, without dot-stuffing.
    pub size: u64,
    /// What was done with it.
    pub action: MessageAction,
    /// The reply the client reads.
    pub reply: String,
    /// When its MAIL command came.
    pub started: Instant,
}

/// An envelope of which something was refused, and that came to no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeRefused {
    /// Who wanted to send to whom.
    pub envelope: Envelope,
    /// The sender was refused.
    pub sender_refused: bool,
    /// The last reply that refused one of them.
    pub reply: String,
}

/// Something an operator counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// The client spoke before the greeting.
    EarlyTalk,
    /// Octets behind STARTTLS that came before its reply; they are thrown away.
    Injected,
    /// A message held bare CR or LF.
    BareNewline,
    /// A message held NUL octets.
    Nul,
    /// The server broke the protocol.
    ServerProtocol,
    /// The server takes no XCLIENT from the gateway.
    NotIntroduced,
    /// The gateway answered a command itself because it was malformed or out of place.
    CommandRefused,
    /// The client speaks another protocol.
    Foreign,
    /// AUTH succeeded.
    Authenticated,
    /// AUTH failed.
    AuthFailed,
    /// The server has refused a command for good, and not for its syntax.
    Rejected(Rejected),
    /// The gateway took the session over.
    Takeover,
    /// The client has done what others may want to count, or lock it out for.
    Offence(Cause),
}

/// A command that the server has answered with 5yz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejected {
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// AUTH.
    Auth,
}

/// What is done with a complete message.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Its end goes to the server.
    Pass,
    /// It never reaches its end.
    Refuse(Refusal),
}
