//! What a session tells of itself: envelopes, what became of messages, what operators count.

use std::time::Instant;

use crate::outcome::{Cause, MessageAction};

/// Refused paths whose names are kept; a session must not be able to fill memory with more.
const REFUSED_KEPT: usize = 20;

/// Who sends a message to whom, as far as the server agreed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Reverse path without angle brackets; empty for bounces.
    pub sender: String,
    /// Forward paths the server accepted.
    pub recipients: Vec<String>,
    /// How many the server or the gateway refused.
    pub refused: u32,
    /// The first of those, at most twenty.
    pub refused_paths: Vec<String>,
}

impl Envelope {
    /// Counts a forward path that was refused.
    pub(super) fn note_refused(&mut self, path: String) {
        self.refused = self.refused.saturating_add(1);
        if self.refused_paths.len() < REFUSED_KEPT {
            self.refused_paths.push(path);
        }
    }
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
