//! Ceilings and deadlines: `limits`, `timeouts`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::decimal::Decimal;
use crate::config::units::{ByteCount, Span};

/// Ceilings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Limits {
    /// Sessions open at the same time; more are answered with 421.
    pub sessions: usize,
    /// Sessions of one client address open at the same time; 0: no limit of its own.
    pub sessions_per_client: usize,
    /// Sessions of one identity behind one client address open at the same time; 0: no limit of its
    /// own. Where many clients share an address, an identity is the name that the origin has for one
    /// of them.
    pub sessions_per_identity: usize,
    /// Sessions of one network of clients open at the same time; 0: no limit of its own. Networks are
    /// as long as `ipv4-prefix` and `ipv6-prefix` say.
    pub sessions_per_prefix: usize,
    /// Leading bits of an IPv4 address that name its network.
    pub ipv4_prefix: u8,
    /// Leading bits of an IPv6 address that name its network. A customer has 64 or fewer, and any
    /// address below them.
    pub ipv6_prefix: u8,
    /// Load average of the last minute above which new sessions are answered with 421, such as
    /// twice the number of processors; 0: no limit.
    pub max_load: Decimal,
    /// Connections that the kernel keeps until they are accepted (listen(2)); not more than the
    /// sysctl `net.core.somaxconn`.
    pub backlog: u32,
    /// Largest message, header included; a larger one is refused with 552. 0: the server decides.
    pub message_size: ByteCount,
    /// Recipients of one message; RFC 5321 section 4.5.3.1.8 asks for at least 100.
    pub recipients: usize,
    /// Longest command line; RFC 5321 section 4.5.3.1.4 asks for at least 512 bytes. AUTH may have
    /// 12,288 (RFC 4954 section 4) in any case.
    pub command_line: ByteCount,
    /// Errors of a client in one session after which each reply is delayed by `error-delay`.
    pub soft_errors: u32,
    /// Errors of a client in one session after which it ends with 421.
    pub hard_errors: u32,
    /// Delay of each reply after `soft-errors` errors.
    pub error_delay: Span,
    /// Commands that are still answered after the gateway has refused a message and speaks for
    /// the server.
    pub takeover_commands: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 10_000,
            sessions_per_client: 0,
            sessions_per_identity: 0,
            sessions_per_prefix: 0,
            ipv4_prefix: 24,
            ipv6_prefix: 64,
            max_load: Decimal::default(),
            backlog: 4_096,
            message_size: ByteCount::new(0),
            recipients: 1_000,
            command_line: ByteCount::kib(2),
            soft_errors: 10,
            hard_errors: 20,
            error_delay: Span::seconds(1),
            takeover_commands: 10,
        }
    }
}

/// Deadlines of each step of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Timeouts {
    /// Until the server accepts the connection.
    pub connect: Span,
    /// Until the server's greeting is complete (RFC 5321 section 4.5.3.2.1: 5 minutes).
    pub greeting: Span,
    /// Until the client's next command is complete (section 4.5.3.2.7: 5 minutes).
    pub command: Span,
    /// Until the server's reply to a command is complete (sections 4.5.3.2.2 to 4.5.3.2.4: 5
    /// minutes).
    pub reply: Span,
    /// Until all checks of a client or of one command have answered, such as lookups in the DNS;
    /// each says for itself what becomes of a command that it has no answer for.
    pub checks: Span,
    /// Between two pieces of a message's text (section 4.5.3.2.5: 3 minutes).
    pub data_block: Span,
    /// Until all scanners have answered, from the end of the message on. Clients wait no longer
    /// than `end-of-data` for this and the server's reply together.
    pub scan: Span,
    /// Until the server's reply to the end of a message (section 4.5.3.2.6: 10 minutes).
    pub end_of_data: Span,
    /// Without a byte in either direction in the splice lane, where the end of a message cannot
    /// be seen, so that 10 minutes hold there too.
    pub idle: Span,
    /// Of the rest of a session after the gateway has refused a message and speaks for the
    /// server.
    pub takeover: Span,
    /// Of one message's text, from the go-ahead to its end, however slowly it drips.
    pub message: Span,
    /// Of a session in the inspect lane, in all.
    pub session: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span::seconds(30),
            greeting: Span::minutes(5),
            command: Span::minutes(5),
            reply: Span::minutes(5),
            checks: Span::seconds(10),
            data_block: Span::minutes(3),
            scan: Span::minutes(2),
            end_of_data: Span::minutes(10),
            idle: Span::minutes(10),
            takeover: Span::seconds(20),
            message: Span::minutes(60),
            session: Span::minutes(120),
        }
    }
}
