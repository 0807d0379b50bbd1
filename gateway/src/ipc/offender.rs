//! What is told of a client that was locked for what it has done: to the process that runs the
//! operator's script, and to the operator's server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::flow::SessionId;
use crate::intercept::identity::Identity;
use crate::outcome::Cause;
use crate::policy::lock::{Offence, Who};
use crate::policy::quota::Quota;

/// Octets of a text from the network that are told.
pub const TOLD_LENGTH: usize = 512;

/// A text from the network: at most [`TOLD_LENGTH`] octets, without control characters, so that it
/// ends neither a line nor a variable. It is no less a stranger's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Told(String);

/// A text that [`Told::new`] would have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a text that is told is too long, or has control characters")]
pub struct Unfit;

impl Told {
    /// As much of `text` as is told; control characters become `?`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let kept = text.get(..text.floor_char_boundary(TOLD_LENGTH)).unwrap_or_default();
        Self(kept.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Told {
    type Error = Unfit;

    fn try_from(text: String) -> Result<Self, Unfit> {
        let fits = text.len() <= TOLD_LENGTH && !text.chars().any(char::is_control);
        if fits { Ok(Self(text)) } else { Err(Unfit) }
    }
}

/// What was found, in the words of smtp-gated's `FOUND` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// A virus.
    Virus,
    /// Spam.
    Spam,
    /// More sessions than a client may have.
    MaxHost,
    /// More sessions than an identity may have.
    MaxIdent,
    /// The client's address on a block list.
    Dnsbl,
    /// A sender whose domain does not let the client send.
    Spf,
    /// A HELO name that `filters` keeps out.
    RegexHelo,
    /// A sender that `filters` keeps out.
    RegexMailFrom,
    /// A recipient that `filters` keeps out.
    RegexRcptTo,
    /// Words before the greeting.
    EarlyTalk,
    /// A quota that is used up.
    RateLimit(Quota),
    /// Too many servers.
    FanOut,
}

impl Found {
    /// What is found when a client has done this.
    #[must_use]
    pub fn of(offence: &Offence) -> Self {
        match offence {
            Offence::Virus { .. } => Self::Virus,
            Offence::Spam { .. } => Self::Spam,
            Offence::MaxHost => Self::MaxHost,
            Offence::MaxIdent => Self::MaxIdent,
            Offence::Dnsbl { .. } => Self::Dnsbl,
            Offence::Spf { .. } => Self::Spf,
            Offence::Regex(Cause::RegexHelo) => Self::RegexHelo,
            Offence::Regex(Cause::RegexMailFrom) => Self::RegexMailFrom,
            Offence::Regex(_) => Self::RegexRcptTo,
            Offence::EarlyTalk => Self::EarlyTalk,
            Offence::RateLimit { quota } => Self::RateLimit(*quota),
            Offence::FanOut { .. } => Self::FanOut,
        }
    }

    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Virus => "VIRUS",
            Self::Spam => "SPAM",
            Self::MaxHost => "MAX_HOST",
            Self::MaxIdent => "MAX_IDENT",
            Self::Dnsbl => "DNSBL",
            Self::Spf => "SPF",
            Self::RegexHelo => "REGEX_HELO",
            Self::RegexMailFrom => "REGEX_MAIL_FROM",
            Self::RegexRcptTo => "REGEX_RCPT_TO",
            Self::EarlyTalk => "EARLYTALK",
            Self::RateLimit(Quota::MailRejects) => "RATELIMIT_MAILFROM_REJECTS",
            Self::RateLimit(Quota::RcptRejects) => "RATELIMIT_RCPTTO_REJECTS",
            Self::RateLimit(Quota::AuthRejects) => "RATELIMIT_AUTH_REJECTS",
            Self::RateLimit(Quota::Connections) => "RATELIMIT_CONNECTIONS",
            Self::RateLimit(Quota::Messages) => "RATELIMIT_MESSAGES",
            Self::RateLimit(Quota::Recipients) => "RATELIMIT_RECIPIENTS",
            Self::RateLimit(Quota::Bytes) => "RATELIMIT_BYTES",
            Self::RateLimit(Quota::Destinations) => "RATELIMIT_DESTINATIONS",
            Self::FanOut => "FAN_OUT",
        }
    }
}

/// How far the dialogue had come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scene {
    /// The client's last HELO or EHLO name.
    pub helo: Told,
    /// Its last reverse path, without angle brackets.
    pub sender: Told,
    /// Recipients that the server has accepted in the session.
    pub recipients: u64,
    /// Octets of the message at hand.
    pub size: u64,
    /// The number in the session of the transaction at hand, or of the next one; 0: there is no
    /// dialogue.
    pub transaction: u32,
    /// What is known of its AUTH.
    pub auth: Auth,
}

/// How a client stands with AUTH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// The server has offered it.
    pub offered: bool,
    /// The server has accepted it.
    pub accepted: bool,
    /// The server has refused it at least once.
    pub rejected: bool,
}

/// A client that was locked, and what was known of its session then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offender {
    /// The gateway's name.
    pub gateway: Told,
    /// What was found.
    pub found: Found,
    /// What more there is to say of that: a signature, a score, block lists, a domain.
    pub detail: Told,
    /// The lock's name, as `gateway lock remove` takes it.
    pub lock: Who,
    /// How long the lock holds; `None`: for ever.
    pub duration: Option<Duration>,
    /// The session.
    pub session: SessionId,
    /// The client.
    pub client: ClientAddr,
    /// Where it meant to go.
    pub destination: OriginalDst,
    /// The gateway's socket that accepted it.
    pub listener: Option<SocketAddr>,
    /// Who it is behind an address that many share.
    pub identity: Option<Identity>,
    /// Open sessions of the same client, or of the same identity.
    pub sessions: usize,
    /// How far the dialogue had come.
    pub scene: Scene,
}

/// Something to run for an offender. Told by the datapath process alone, since it names a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// The program.
    pub script: PathBuf,
    /// How long it may run.
    pub limit: Duration,
    /// How many may run at the same time.
    pub at_once: usize,
    /// What it is about.
    pub offender: Offender,
}

/// How a script, or a call of a server, ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "end")]
pub enum End {
    /// With success.
    Done,
    /// Not with success, or it was not even begun.
    Failed {
        /// Why.
        reason: String,
    },
    /// It took too long, and was ended.
    Overdue,
    /// Too many others were waiting.
    LeftOut,
}

/// What became of an errand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The lock's name.
    pub lock: Who,
    /// How it ended.
    pub end: End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_is_told_in_bounds_and_ends_no_line() {
        assert_eq!(Told::new("a\nEVIL=1\0`id`").as_str(), "a?EVIL=1?`id`");
        let long = Told::new(&"\u{e9}".repeat(2_000));
        assert_eq!(long.as_str().len(), TOLD_LENGTH);
        let read = |text: &str| serde_json::from_value::<Told>(serde_json::json!(text));
        assert_eq!(read(long.as_str()).unwrap(), long);
        assert!(read(&"x".repeat(TOLD_LENGTH + 1)).is_err(), "the proxy is not believed");
        assert!(read("a\nb").is_err());
    }

    #[test]
    fn what_is_found_has_the_words_of_smtp_gated() {
        let quota = |quota| Found::of(&Offence::RateLimit { quota }).name();
        assert_eq!(quota(Quota::MailRejects), "RATELIMIT_MAILFROM_REJECTS");
        assert_eq!(quota(Quota::RcptRejects), "RATELIMIT_RCPTTO_REJECTS");
        assert_eq!(Found::of(&Offence::Regex(Cause::RegexMailFrom)).name(), "REGEX_MAIL_FROM");
        assert_eq!(Found::of(&Offence::EarlyTalk).name(), "EARLYTALK");
    }
}
