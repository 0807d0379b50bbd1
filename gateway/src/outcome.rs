//! One structured record for each message and for each session.
//!
//! Owns what a record says; `telemetry` writes it, counts it and shows it. A record never holds
//! message content or credentials.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::handoff::Engine;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::flow::{FlowFacts, SessionId};
use crate::intercept::identity::Identity;
use crate::ipc::flow::FlowEnd;
use crate::tls::TlsFacts;

mod spf;
mod verdict;

pub use spf::{Spf, SpfIdentity, SpfResult};
pub use verdict::{Finding, Kind, Rating, ScanResult, Scanner, Skip, SpamAction, Verdict};

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageRecord {
    /// The session it came in.
    pub session: SessionId,
    /// Its number in the session, from 1.
    pub transaction: u32,
    /// Who sent it.
    pub client: ClientAddr,
    /// Who that is behind an address that many share.
    pub identity: Option<Identity>,
    /// Where it was meant to go.
    pub destination: OriginalDst,
    /// The client's HELO or EHLO name.
    pub helo: String,
    /// Reverse path, without angle brackets; empty for bounces.
    pub sender: String,
    /// Forward paths the server accepted.
    pub recipients: Vec<String>,
    /// How many forward paths were refused.
    pub recipients_refused: u32,
    /// The first of those.
    pub refused: Vec<String>,
    /// Octets of the message as scanned and forwarded, without dot-stuffing.
    pub size: u64,
    /// What the scanners said.
    pub verdict: Verdict,
    /// Whether its sender's domain lets the client send its mail, where that was asked.
    pub spf: Option<Spf>,
    /// What was done.
    pub action: MessageAction,
    /// The reply the client read at the end.
    pub reply: String,
    /// From the end of the message to the verdict.
    pub scan_time: Duration,
    /// From MAIL to the final reply.
    pub time: Duration,
}

/// An envelope of which something was refused, and that came to no message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvelopeRecord {
    /// The session it came in.
    pub session: SessionId,
    /// Who sent it.
    pub client: ClientAddr,
    /// Who that is, where several share an address.
    pub identity: Option<Identity>,
    /// Where it was meant to go.
    pub destination: OriginalDst,
    /// The client's HELO or EHLO name.
    pub helo: String,
    /// Reverse path, without angle brackets; empty for bounces.
    pub sender: String,
    /// The reverse path was refused.
    pub sender_refused: bool,
    /// How many forward paths were refused.
    pub recipients_refused: u32,
    /// The first of those.
    pub refused: Vec<String>,
    /// The last reply that refused one of them.
    pub reply: String,
}

/// What was done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageAction {
    /// The server has it and said so.
    Passed,
    /// The gateway refused it for good.
    Refused,
    /// The gateway refused it for the time being.
    Deferred,
    /// The server refused it.
    ServerRefused,
    /// Its client or server went away before its end.
    Aborted,
    /// The gateway has it in its queue and said so.
    Queued,
}

/// What became of one session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session.
    pub session: SessionId,
    /// Who opened it.
    pub client: ClientAddr,
    /// Who that is behind an address that many share.
    pub identity: Option<Identity>,
    /// Where it was meant to go.
    pub destination: OriginalDst,
    /// The lane it ended in: `inspect`, `splice`, `relay`, `reject`, `takeover`.
    pub lane: String,
    /// The client's last HELO or EHLO name.
    pub helo: String,
    /// Octets from the client.
    pub from_client: u64,
    /// Octets from the server.
    pub from_server: u64,
    /// How its octets were moved once nobody read them.
    pub engine: Option<Engine>,
    /// What more is known of a session that the kernel carried in the end.
    pub handed_off: Option<HandedOff>,
    /// Messages begun.
    pub messages: u32,
    /// What the client has done in the inspect lane.
    pub conduct: Conduct,
    /// From accept to close.
    pub time: Duration,
    /// How it ended.
    pub end: SessionEnd,
    /// What the kernel noted of its first packet.
    pub facts: Option<FlowFacts>,
    /// What the client said of itself when it began TLS.
    pub tls: Option<TlsFacts>,
    /// The block lists that have the client, as far as any were asked.
    pub listed: Vec<String>,
}

/// What a client has done in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conduct {
    /// The server has offered it AUTH.
    pub auth_offered: bool,
    /// The server has accepted its AUTH.
    pub authenticated: bool,
    /// The server has refused its AUTH at least once.
    pub auth_rejected: bool,
    /// The last offence.
    pub cause: Option<Cause>,
}

/// Something a client has done for which it may be locked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It spoke before the greeting.
    EarlyTalk,
    /// `filters.helo`.
    RegexHelo,
    /// `filters.mail`.
    RegexMailFrom,
    /// `filters.rcpt`.
    RegexRcptTo,
    /// Block lists have it.
    Dnsbl,
    /// It sends mail of a domain that does not let it.
    Spf,
}

impl Cause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::EarlyTalk, Self::RegexHelo, Self::RegexMailFrom, Self::RegexRcptTo, Self::Dnsbl, Self::Spf];

    /// What the offence is in, for the client.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::EarlyTalk => "early talk",
            Self::RegexHelo => "HELO name",
            Self::RegexMailFrom => "sender",
            Self::RegexRcptTo => "recipient",
            Self::Dnsbl => "address on block lists",
            Self::Spf => "SPF",
        }
    }

    /// One word for records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EarlyTalk => "early-talk",
            Self::RegexHelo => "regex-helo",
            Self::RegexMailFrom => "regex-mail-from",
            Self::RegexRcptTo => "regex-rcpt-to",
            Self::Dnsbl => "dnsbl",
            Self::Spf => "spf",
        }
    }
}

/// What is known of a session since the kernel carries it. Its octets are counted as they pass:
/// those that were sent again are counted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOff {
    /// Packets from the client.
    pub packets_from_client: u64,
    /// Packets from the server.
    pub packets_from_server: u64,
    /// Whether an earlier process had handed it off: what was before is known by that one's notes.
    pub taken_over: bool,
    /// How the flow ended.
    pub end: FlowEnd,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionEnd {
    /// QUIT, answered by the server.
    Quit,
    /// The client closed.
    Client,
    /// The server closed, or said 421.
    Server,
    /// The server could not be reached.
    Connect,
    /// A deadline passed.
    Timeout,
    /// The gateway ended it: a refusal, a limit, too many errors.
    Gateway,
    /// The server broke the protocol.
    Protocol,
    /// An operator ended it.
    Operator,
    /// Its client was locked.
    Locked,
    /// The gateway stops.
    Shutdown,
    /// The gateway's own trouble: files, memory, sockets.
    Error,
}
