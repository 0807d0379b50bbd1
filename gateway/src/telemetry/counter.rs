//! The events that are counted by name.
//!
//! Owns the list; `metrics` owns the numbers and their names outside.

use super::trouble::Trouble;
use crate::config::file::LockCause;
use crate::delivery::dkim::Signature;
use crate::delivery::dsn::Kind;
use crate::delivery::record::Ending;
use crate::dns;
use crate::hooks::{Hook, Outcome};
use crate::ipc::flow::Refusal;
use crate::outcome::{Cause, SpfResult};
use crate::smtp::fault::Fault;

/// Something that is counted by name. Messages and sessions are counted with their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A flow was accepted.
    SessionAccepted,
    /// Octets read from clients.
    ClientOctets,
    /// Octets read from servers.
    ServerOctets,
    /// A reply of a server reached its client.
    ServerReply(ReplyClass),
    /// The gateway made a reply itself.
    GatewayReply(ReplyClass),
    /// Octets behind STARTTLS, before its reply, that were thrown away (RFC 3207 section 6).
    InjectedOctets,
    /// A client spoke before the server's greeting.
    EarlyTalker,
    /// A message held bare CR or LF.
    BareNewline,
    /// A message held NUL octets.
    Nul,
    /// A command was malformed or out of place.
    CommandRefused,
    /// A client spoke another protocol.
    Foreign,
    /// AUTH succeeded.
    Authenticated,
    /// AUTH failed.
    AuthFailed,
    /// MAIL came without the AUTH that `auth.require` asks for.
    AuthRequired,
    /// A client has done what it may be locked out for.
    Offence(Cause),
    /// A scanner gave no verdict.
    ScannerFailure,
    /// A message too large for the scanner.
    ScannerTooLarge,
    /// The gateway took a session over from its server.
    Takeover,
    /// A session went over to the splice lane.
    Splice,
    /// The kernel carries a session alone.
    HandedOff,
    /// The kernel does not carry a session, though it was asked to.
    HandoffRefused(Refusal),
    /// A name was looked up in the DNS.
    Lookup(dns::Outcome),
    /// The SPF policy of a sender was asked.
    Spf(SpfResult),
    /// It was decided what becomes of a recipient of a message in the queue, for now or for good.
    Delivery(Ending),
    /// A server asked for a message that is to be signed.
    Signature(Signature),
    /// A report on a message was made.
    DeliveryReport(Kind),
    /// The postmaster is told of a session, or only of how many there were.
    Notice {
        /// What went wrong in it.
        fault: Fault,
        /// He is told of this one.
        told: bool,
    },
    /// A ceiling was reached.
    Limit(Limit),
    /// A client was locked for what it has done.
    Locked(LockCause),
    /// A script or a server was told of a lock, or was not.
    Hook(Hook, Outcome),
    /// A configuration was put in force.
    Reload,
    /// A changed configuration was refused.
    ReloadRefused,
    /// A line of the log could not be written.
    LogDropped,
    /// Something an operator should look at; counted by `Telemetry::trouble`.
    Trouble(Trouble),
}

/// The first digit of a reply code (RFC 5321 section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyClass {
    /// 2yz.
    Completion,
    /// 3yz.
    Intermediate,
    /// 4yz.
    TransientFailure,
    /// 5yz.
    PermanentFailure,
}

impl ReplyClass {
    /// All of them, by digit.
    pub const ALL: [Self; 4] =
        [Self::Completion, Self::Intermediate, Self::TransientFailure, Self::PermanentFailure];

    /// The class of a reply code; none for codes that are no replies.
    #[must_use]
    pub const fn of(code: u16) -> Option<Self> {
        match code {
            200..=299 => Some(Self::Completion),
            300..=399 => Some(Self::Intermediate),
            400..=499 => Some(Self::TransientFailure),
            500..=599 => Some(Self::PermanentFailure),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Completion => "2xx",
            Self::Intermediate => "3xx",
            Self::TransientFailure => "4xx",
            Self::PermanentFailure => "5xx",
        }
    }
}

/// A ceiling of `limits`, of the spool or of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `limits.sessions`.
    Sessions,
    /// `limits.sessions-per-client`.
    SessionsPerClient,
    /// `limits.sessions-per-identity`.
    SessionsPerIdentity,
    /// `limits.sessions-per-prefix`.
    SessionsPerPrefix,
    /// `limits.max-load`.
    MaxLoad,
    /// `clients.limits`, where the proxy refuses.
    Client,
    /// `limits.message-size`.
    MessageSize,
    /// `limits.recipients`.
    Recipients,
    /// `limits.command-line`.
    CommandLine,
    /// `limits.hard-errors`.
    Errors,
    /// `limits.takeover-commands`.
    TakeoverCommands,
    /// `spool.min-free`.
    SpoolSpace,
    /// `queue.min-free`.
    QueueSpace,
    /// `quotas`.
    Quota,
}

impl Limit {
    pub(super) const ALL: [Self; 14] = [
        Self::Sessions,
        Self::SessionsPerClient,
        Self::SessionsPerIdentity,
        Self::SessionsPerPrefix,
        Self::MaxLoad,
        Self::Client,
        Self::MessageSize,
        Self::Recipients,
        Self::CommandLine,
        Self::Errors,
        Self::TakeoverCommands,
        Self::SpoolSpace,
        Self::QueueSpace,
        Self::Quota,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::SessionsPerClient => "sessions-per-client",
            Self::SessionsPerIdentity => "sessions-per-identity",
            Self::SessionsPerPrefix => "sessions-per-prefix",
            Self::MaxLoad => "max-load",
            Self::Client => "client",
            Self::MessageSize => "message-size",
            Self::Recipients => "recipients",
            Self::CommandLine => "command-line",
            Self::Errors => "hard-errors",
            Self::TakeoverCommands => "takeover-commands",
            Self::SpoolSpace => "spool-min-free",
            Self::QueueSpace => "queue-min-free",
            Self::Quota => "quotas",
        }
    }
}
