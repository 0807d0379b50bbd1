//! Everything the gateway says in its own name: one variant, one wire form.
//!
//! Owns the reply codes. Permanent (5xx) only where trying again cannot help: a verdict, a
//! policy, a malformed command. A lack of resources and other people's trouble are 4xx.

use std::net::IpAddr;

use super::address::PathError;
use super::command::CommandError;
use super::reply::Reply;
use super::voice::Voice;
use crate::config::decimal::Decimal;
use crate::config::file::{Messages, Text};
use crate::outcome::Cause;

/// Why the gateway answers in the server's place. Each variant has one wire form: see
/// [`Refusal::reply`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The line is not a command.
    #[error("{0}")]
    Command(#[from] CommandError),
    /// The path in MAIL is not taken.
    #[error("sender: {0}")]
    Sender(PathError),
    /// The path in RCPT is not taken.
    #[error("recipient: {0}")]
    Recipient(PathError),
    /// A command line beyond `limits.command-line`, or an AUTH line beyond RFC 4954 section 4.
    #[error("the line is too long")]
    LineTooLong,
    /// A control octet in a command: a bare CR or LF, a NUL.
    #[error("the line holds control octets")]
    IllegalOctets,
    /// A valid command in the wrong state (RFC 5321 section 4.1.4).
    #[error("the command is out of sequence")]
    BadSequence,
    /// DATA or BDAT when the server has accepted no recipient.
    #[error("there is no valid recipient")]
    NoRecipient,
    /// More than `limits.recipients` (RFC 5321 section 4.5.3.1.10).
    #[error("there are too many recipients")]
    TooManyRecipients,
    /// Larger than `limits.message-size`.
    #[error("the message is too large")]
    MessageTooLarge,
    /// A non-ASCII path, but the server does not offer SMTPUTF8 (RFC 6531 section 3.2).
    #[error("the server does not take internationalized addresses")]
    Utf8Unsupported,
    /// A non-ASCII path without SMTPUTF8 in MAIL (RFC 6531 section 3.5).
    #[error("an internationalized address without SMTPUTF8")]
    Utf8Undeclared,
    /// An ESMTP parameter that no extension on offer has (RFC 5321 section 4.1.1.11).
    #[error("a parameter is not known")]
    UnknownParameter,
    /// A recipient at an address literal, to which the gateway does not connect.
    #[error("the recipient's domain is an address literal")]
    AddressLiteral,
    /// A recipient without a domain, and the gateway is to find the way there.
    #[error("the recipient has no domain")]
    NoDomain,
    /// More Received fields than `relay.hopcount-limit`, or more of the gateway's own than
    /// `relay.own-hopcount-limit` (RFC 5321 section 6.3).
    #[error("too many hops")]
    TooManyHops,
    /// The server does not offer the extension that the command belongs to.
    #[error("the server does not offer {0}")]
    NotOffered(&'static str),
    /// VRFY, EXPN, ETRN or HELP, which the configuration keeps from the server.
    #[error("{0} is answered by the gateway")]
    Query(&'static str),
    /// A bare CR or LF or a NUL in a message, and the configuration refuses it.
    #[error("the message holds bare line ends or NUL octets")]
    MalformedText,
    /// A virus.
    #[error("virus {signature}")]
    Virus {
        /// The signature's name.
        signature: String,
    },
    /// Spam.
    #[error("spam with {score} points")]
    Spam {
        /// Its points.
        score: Decimal,
    },
    /// A spam scanner wants it sent again.
    #[error("spam is suspected")]
    SpamSuspected,
    /// A spam scanner wants to see whether the client tries again.
    #[error("greylisted")]
    Greylisted,
    /// No verdict, and the configuration asks for a new try.
    #[error("no verdict yet")]
    ScannerFailed,
    /// No verdict, and the configuration refuses for good.
    #[error("no verdict")]
    NotScannable,
    /// Larger than the scanner takes, and the configuration refuses for good.
    #[error("too large to be scanned")]
    TooLargeToScan,
    /// Larger than the scanner takes, and the configuration asks for a new try.
    #[error("too large to be scanned now")]
    TooLargeToScanNow,
    /// Not enough room in the spool.
    #[error("no space in the spool")]
    NoSpace,
    /// The copy for the scanner could not be written.
    #[error("the spool failed")]
    SpoolFailed,
    /// A name or an address that `filters` keeps out.
    #[error("filtered out: {}", .0.name())]
    Filtered(Cause),
    /// `starttls: require`, and the session is not encrypted.
    #[error("encryption is required")]
    EncryptionRequired,
    /// `starttls: require`, and the server does not offer STARTTLS.
    #[error("encryption is required and the server does not offer it")]
    EncryptionMissing,
    /// `auth.require`, and the client has not authenticated.
    #[error("authentication is required")]
    AuthRequired,
    /// A check of the client or of a command could not be made.
    #[error("a check could not be made")]
    CheckFailed,
    /// Block lists have the client, which has just connected.
    #[error("listed by {lists}")]
    Listed {
        /// Their domains.
        lists: String,
    },
    /// Block lists have the client, which wants to send mail.
    #[error("listed by {lists}")]
    SenderListed {
        /// Their domains.
        lists: String,
    },
    /// Block lists have the client, and the configuration asks for a new try.
    #[error("listed for now by {lists}")]
    ListedNow {
        /// Their domains.
        lists: String,
    },
    /// The sender's domain does not let this address send its mail.
    #[error("{address} may not send mail of {domain}")]
    SpfFail {
        /// The domain.
        domain: String,
        /// The address.
        address: IpAddr,
        /// What the domain says about it, in printable ASCII.
        explanation: Option<String>,
    },
    /// Whether it does cannot be found out now, and the configuration asks for a new try.
    #[error("the SPF policy cannot be looked up")]
    SpfTempError,
    /// The client has used up a quota.
    #[error("quota used up: {quota}")]
    OverQuota {
        /// Its name.
        quota: &'static str,
        /// The session ends with it.
        closing: bool,
    },
    /// The client spoke before the greeting.
    #[error("the client spoke before the greeting")]
    EarlyTalk,
    /// `limits.takeover-commands` is reached.
    #[error("too many commands after a refusal")]
    TakeoverEnds,
    /// The server does not accept the connection in time.
    #[error("the server does not accept the connection")]
    ConnectTimeout,
    /// The server cannot be reached.
    #[error("the server cannot be reached")]
    ConnectFailed,
    /// This machine has no descriptor, memory or port for the session.
    #[error("the system is short of resources")]
    Shortage,
    /// The server does not answer.
    #[error("the server does not answer")]
    ServerSilent,
    /// The server closed the connection.
    #[error("the server closed the connection")]
    ServerLost,
    /// The server does not read.
    #[error("the server does not read")]
    ServerStalled,
    /// The server broke the protocol.
    #[error("the server broke the protocol")]
    ServerProtocol,
    /// The server takes no XCLIENT from the gateway, and `inspect.xclient` requires it.
    #[error("the server takes no XCLIENT")]
    NotIntroduced,
    /// Nobody says in time where the client meant to go.
    #[error("the original destination is not told")]
    LookupTimeout,
    /// What is said of it cannot be read.
    #[error("the original destination is told in another format")]
    LookupMismatch,
    /// Nobody knows it.
    #[error("the original destination is not known")]
    LookupFailed,
    /// It is none.
    #[error("the original destination is impossible")]
    MalformedDestination,
    /// The server refused the message before its end.
    #[error("the server refused: {}", .0.summary())]
    Server(Reply),
    /// The client does not go on.
    #[error("the client does not go on")]
    ClientTimeout,
    /// The session is too old.
    #[error("the session is too old")]
    SessionTimeout,
    /// `limits.hard-errors` is reached.
    #[error("too many errors")]
    TooManyErrors,
    /// `limits.sessions` is reached.
    #[error("too many sessions")]
    TooManySessions,
    /// `limits.sessions-per-client` is reached.
    #[error("too many sessions of this client")]
    TooManySessionsOfClient,
    /// `limits.sessions-per-identity` is reached.
    #[error("too many sessions of this identity")]
    TooManySessionsOfIdentity,
    /// `limits.sessions-per-prefix` is reached.
    #[error("too many sessions of this network")]
    TooManySessionsOfPrefix,
    /// `limits.max-load` is exceeded.
    #[error("the load of the system is too high")]
    SystemLoad,
    /// The gateway stops.
    #[error("the gateway stops")]
    ShuttingDown,
    /// An operator ended the session.
    #[error("an operator ended the session")]
    Ended,
    /// The client is locked.
    #[error("the client is locked")]
    Locked {
        /// Whether the lock has no end.
        for_ever: bool,
    },
    /// The flow's lane is `reject`.
    #[error("the lane is closed")]
    LaneRejects,
}

impl Refusal {
    /// What is wrong with a command line that could not be read.
    #[must_use]
    pub fn of_line(line: &[u8], error: CommandError) -> Self {
        match (error, line.first().map(u8::to_ascii_uppercase)) {
            (CommandError::Path(path), Some(b'M')) => Self::Sender(path),
            (CommandError::Path(path), _) => Self::Recipient(path),
            (error, _) => Self::Command(error),
        }
    }

    /// The reply as the client reads it.
    #[must_use]
    pub fn reply(&self, voice: &Voice) -> Reply {
        if let Self::Server(reply) = self {
            return reply.clone();
        }
        let (code, status, text) = self.wire();
        let text = match text {
            Words::Fixed(text) => text.to_owned(),
            Words::Made(text) => text,
            Words::Key(key) => key(&voice.messages).to_string(),
        };
        let detail = self.detail(voice).map(|detail| format!(" ({detail})"));
        voice.reply(code, status, &(text + &detail.unwrap_or_default()))
    }

    /// Whether the same message may be tried again (RFC 5321 section 4.2.1).
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        let code = if let Self::Server(reply) = self { reply.code() } else { self.wire().0 };
        code / 100 == 4
    }

    /// The offence of a client that is refused so by a check.
    #[must_use]
    pub const fn offence(&self) -> Option<Cause> {
        if matches!(self, Self::SpfFail { .. }) {
            return Some(Cause::Spf);
        }
        if matches!(self, Self::Listed { .. } | Self::SenderListed { .. } | Self::ListedNow { .. }) {
            return Some(Cause::Dnsbl);
        }
        None
    }

    /// What is appended to the text.
    fn detail(&self, voice: &Voice) -> Option<String> {
        if let Self::Virus { signature } = self {
            let unknown = voice.messages.unknown_virus.as_str();
            return Some(if signature.is_empty() { unknown.to_owned() } else { signature.clone() });
        }
        if let Self::Spam { score } = self {
            return Some(score.to_string());
        }
        if let Self::OverQuota { quota, .. } = self {
            return Some((*quota).to_owned());
        }
        if let Self::Filtered(cause) = self { Some(cause.what().to_owned()) } else { None }
    }

    /// The table: reply code (RFC 5321), status (RFC 3463), text.
    fn wire(&self) -> (u16, &'static str, Words) {
        match self {
            Self::Command(CommandError::Unknown) => (500, "5.5.2", Words::Fixed("Command not recognized")),
            Self::Command(CommandError::Forbidden) => {
                (502, "5.5.1", Words::Key(|texts| &texts.unimpl_command))
            }
            Self::Command(CommandError::Foreign) => {
                (221, "2.7.0", Words::Fixed("I can break rules, too. Goodbye"))
            }
            Self::Command(CommandError::Argument | CommandError::Path(_)) => {
                (501, "5.5.4", Words::Fixed("Syntax error in parameters or arguments"))
            }
            Self::Sender(PathError::Syntax | PathError::NotUtf8) => {
                (501, "5.1.7", Words::Fixed("Bad sender address syntax"))
            }
            Self::Sender(PathError::TooLong) => (501, "5.1.7", Words::Fixed("Sender address too long")),
            Self::Sender(PathError::Route) => (501, "5.1.7", Words::Fixed("Source routes are not taken")),
            Self::Recipient(PathError::Syntax | PathError::NotUtf8) => {
                (501, "5.1.3", Words::Fixed("Bad recipient address syntax"))
            }
            Self::Recipient(PathError::TooLong) => (501, "5.1.3", Words::Fixed("Recipient address too long")),
            Self::Recipient(PathError::Route) => (501, "5.1.3", Words::Fixed("Source routes are not taken")),
            Self::LineTooLong => (500, "5.5.2", Words::Fixed("Line too long")),
            Self::IllegalOctets => {
                (501, "5.5.2", Words::Fixed("Bare line ends and control characters are not allowed"))
            }
            Self::BadSequence => (503, "5.5.1", Words::Key(|texts| &texts.proto_error)),
            Self::NoRecipient => (554, "5.5.1", Words::Fixed("No valid recipients")),
            Self::TooManyRecipients => (452, "4.5.3", Words::Fixed("Too many recipients")),
            Self::MessageTooLarge => (552, "5.3.4", Words::Key(|texts| &texts.too_large)),
            Self::Utf8Unsupported => {
                (550, "5.6.7", Words::Fixed("The server does not take internationalized addresses"))
            }
            Self::Utf8Undeclared => (553, "5.6.7", Words::Fixed("SMTPUTF8 is required with this address")),
            Self::UnknownParameter => (555, "5.5.4", Words::Fixed("Unsupported parameter")),
            Self::AddressLiteral => (550, "5.1.2", Words::Fixed("Address literals are not relayed to")),
            Self::NoDomain => (550, "5.1.2", Words::Fixed("The recipient address needs a domain")),
            Self::TooManyHops => (554, "5.4.6", Words::Fixed("Too many hops: the message loops")),
            Self::NotOffered(extension) => (502, "5.5.1", Words::Made(format!("{extension} is not offered"))),
            Self::Query("VRFY") => (252, "2.1.5", Words::Fixed("Send some mail, I'll try my best")),
            Self::Query("HELP") => (214, "2.0.0", Words::Fixed("See RFC 5321")),
            Self::Query(_) => (502, "5.5.1", Words::Key(|texts| &texts.unimpl_command)),
            Self::MalformedText => {
                (550, "5.5.2", Words::Fixed("Bare line ends and NUL octets are not allowed"))
            }
            Self::Virus { .. } => (550, "5.7.1", Words::Key(|texts| &texts.virus_found)),
            Self::Spam { .. } => (550, "5.7.1", Words::Key(|texts| &texts.spam_found)),
            Self::SpamSuspected => {
                (451, "4.7.1", Words::Fixed("The message is not taken now, try again later"))
            }
            Self::Greylisted => (451, "4.7.1", Words::Fixed("Greylisted, try again later")),
            Self::ScannerFailed => (451, "4.7.1", Words::Key(|texts| &texts.scanner_failed)),
            Self::NotScannable => (550, "5.7.1", Words::Key(|texts| &texts.scanner_failed)),
            Self::TooLargeToScan => (552, "5.3.4", Words::Fixed("The message is too large to be scanned")),
            Self::TooLargeToScanNow => {
                (452, "4.3.4", Words::Fixed("The message is too large to be scanned, try again later"))
            }
            Self::NoSpace => (452, "4.3.1", Words::Key(|texts| &texts.no_space)),
            Self::SpoolFailed => (451, "4.3.0", Words::Key(|texts| &texts.spool_open_fail)),
            Self::Filtered(_) => (550, "5.7.1", Words::Key(|texts| &texts.filtered)),
            Self::EncryptionRequired => (530, "5.7.0", Words::Fixed("Must issue a STARTTLS command first")),
            // The server may offer it again, and whoever hid it may be gone (RFC 3207 section 6).
            Self::EncryptionMissing => {
                (451, "4.7.4", Words::Fixed("Encryption is required, but the server does not offer it"))
            }
            Self::AuthRequired => (530, "5.7.0", Words::Key(|texts| &texts.auth_required)),
            Self::CheckFailed => (451, "4.7.1", Words::Fixed("A check could not be made, try again later")),
            // RFC 5321 section 4.3.2 has 554 for a greeting and 550 for MAIL.
            Self::Listed { lists } => {
                (554, "5.7.1", Words::Made(format!("Your address is listed by {lists}")))
            }
            Self::SenderListed { lists } => {
                (550, "5.7.1", Words::Made(format!("Your address is listed by {lists}")))
            }
            Self::ListedNow { lists } => {
                (421, "4.7.1", Words::Made(format!("Your address is listed by {lists}, try again later")))
            }
            // RFC 7372 section 3.2.
            Self::SpfFail { domain, address, explanation } => {
                let said = explanation.as_ref().map(|text| format!("; {domain} says: {text}"));
                let said = said.unwrap_or_default();
                (550, "5.7.23", Words::Made(format!("SPF: {address} may not send mail of {domain}{said}")))
            }
            Self::SpfTempError => {
                (451, "4.7.24", Words::Fixed("The SPF policy cannot be looked up, try again later"))
            }
            Self::OverQuota { closing: true, .. } => (421, "4.7.0", Words::Key(|texts| &texts.over_quota)),
            Self::OverQuota { closing: false, .. } => (450, "4.7.1", Words::Key(|texts| &texts.over_quota)),
            Self::EarlyTalk => (554, "5.5.1", Words::Key(|texts| &texts.early_talk)),
            Self::TakeoverEnds => (554, "5.5.0", Words::Key(|texts| &texts.transaction_failed)),
            Self::ConnectTimeout => (421, "4.4.1", Words::Key(|texts| &texts.connect_timeout)),
            Self::ConnectFailed => (421, "4.4.1", Words::Key(|texts| &texts.cannot_connect)),
            Self::Shortage => (421, "4.3.2", Words::Key(|texts| &texts.no_resources)),
            Self::ServerSilent => (421, "4.4.2", Words::Fixed("The server does not answer, try again later")),
            Self::ServerLost => {
                (421, "4.4.2", Words::Fixed("Lost the connection to the server, try again later"))
            }
            Self::ServerStalled => (451, "4.4.2", Words::Fixed("The server does not read, try again later")),
            Self::ServerProtocol => {
                (451, "4.5.0", Words::Fixed("The server broke the protocol, try again later"))
            }
            // System incorrectly configured: the operator's affair, not the client's.
            Self::NotIntroduced => {
                (421, "4.3.5", Words::Fixed("The server takes no word for its clients, try again later"))
            }
            // Directory server failure.
            Self::LookupTimeout => (421, "4.4.3", Words::Key(|texts| &texts.lookup_timeout)),
            Self::LookupMismatch => (421, "4.4.3", Words::Key(|texts| &texts.lookup_mismatch)),
            Self::LookupFailed => (421, "4.4.3", Words::Key(|texts| &texts.lookup_failed)),
            Self::MalformedDestination => (421, "4.4.3", Words::Key(|texts| &texts.malformed_ip)),
            Self::Server(_) => (451, "4.5.0", Words::Fixed("The server refused the message")),
            Self::ClientTimeout => (421, "4.4.2", Words::Key(|texts| &texts.session_timeout)),
            Self::SessionTimeout => {
                (421, "4.4.2", Words::Fixed("The session has lasted too long, closing connection"))
            }
            Self::TooManyErrors => (421, "4.7.0", Words::Fixed("Too many errors, closing connection")),
            Self::TooManySessions => (421, "4.3.2", Words::Key(|texts| &texts.max_reached)),
            Self::TooManySessionsOfClient => (421, "4.7.0", Words::Key(|texts| &texts.max_per_host)),
            Self::TooManySessionsOfIdentity => (421, "4.7.0", Words::Key(|texts| &texts.max_per_ident)),
            Self::TooManySessionsOfPrefix => (421, "4.7.0", Words::Key(|texts| &texts.max_per_prefix)),
            Self::SystemLoad => (421, "4.3.2", Words::Key(|texts| &texts.system_load)),
            Self::ShuttingDown => (421, "4.3.2", Words::Key(|texts| &texts.temp_unavail)),
            Self::Ended => {
                (421, "4.3.2", Words::Fixed("The session was ended by the operator, try again later"))
            }
            Self::Locked { for_ever: false } => (421, "4.7.0", Words::Key(|texts| &texts.virus_locked)),
            Self::Locked { for_ever: true } => (554, "5.7.1", Words::Key(|texts| &texts.virus_locked)),
            Self::LaneRejects => (554, "5.7.1", Words::Key(|texts| &texts.lane_rejects)),
        }
    }
}

/// Where the text of a reply comes from.
enum Words {
    /// The operator cannot change it.
    Fixed(&'static str),
    /// The same, but it depends.
    Made(String),
    /// A key of `messages`.
    Key(fn(&Messages) -> &Text),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_passes_is_temporary_and_verdicts_are_not() {
        for refusal in [
            Refusal::OverQuota { quota: "messages", closing: false },
            Refusal::OverQuota { quota: "messages", closing: true },
            Refusal::ScannerFailed,
            Refusal::SpamSuspected,
            Refusal::Greylisted,
            Refusal::NoSpace,
            Refusal::SpoolFailed,
            Refusal::ConnectFailed,
            Refusal::Shortage,
            Refusal::ServerProtocol,
            Refusal::TooManyRecipients,
            Refusal::TooManySessions,
            Refusal::TooManySessionsOfIdentity,
            Refusal::TooManySessionsOfPrefix,
            Refusal::SystemLoad,
        ] {
            assert!(refusal.is_temporary(), "{refusal}");
        }
        assert!(!Refusal::Virus { signature: "x".into() }.is_temporary());
        assert!(!Refusal::Spam { score: Decimal::whole(9) }.is_temporary());
        assert!(!Refusal::MessageTooLarge.is_temporary());
    }

    #[test]
    fn the_status_class_agrees_with_the_code() {
        for refusal in [
            Refusal::Command(CommandError::Unknown),
            Refusal::Command(CommandError::Foreign),
            Refusal::Query("VRFY"),
            Refusal::TooLargeToScanNow,
            Refusal::Virus { signature: "Eicar".into() },
            Refusal::Spam { score: Decimal::whole(9) },
            Refusal::Greylisted,
            Refusal::LaneRejects,
            Refusal::SpfFail {
                domain: "a.example".into(),
                address: "192.0.2.1".parse().unwrap(),
                explanation: Some("see a.example".into()),
            },
            Refusal::SpfTempError,
            Refusal::Locked { for_ever: true },
            Refusal::Locked { for_ever: false },
        ] {
            let reply = refusal.reply(&Voice { name: "gw.test".to_owned(), ..Voice::default() }).summary();
            assert_eq!(reply.as_bytes().first(), reply.as_bytes().get(4), "{reply}");
        }
    }
}
