//! What is written down: `log`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// Where and how records are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Log {
    /// Where records go.
    pub target: LogTarget,
    /// How a record is written.
    pub format: LogFormat,
    /// Least severe level that is written.
    pub level: LogLevel,
    /// Facility of what syslog and the journal get.
    pub facility: Facility,
    /// How a mail address is written, in `mail-from`, `rcpt-to` and the texts of replies.
    pub addresses: LogAddresses,
    /// Which senders are written, and whether as digests whatever `addresses` says. Empty: none.
    pub mail_from: Vec<Logged>,
    /// The same for recipients. A record names at most twenty and says how many more there were.
    pub rcpt_to: Vec<Logged>,
    /// Longest address that is written, in characters; longer ones are cut off with `...`. Digests
    /// are of whole addresses. 0: no limit.
    pub address_length: usize,
    /// Key of the digests: HMAC-SHA-256 with it, so that nobody who has the log but not the key can
    /// try addresses. Left out: plain SHA-256. Gateways with the same key write the same digests.
    pub hash_key: Option<Secret>,
    /// Whether the names in HELO and EHLO are written.
    pub helo: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            target: LogTarget::Stderr,
            format: LogFormat::Logfmt,
            level: LogLevel::Info,
            facility: Facility::Mail,
            addresses: LogAddresses::Masked,
            mail_from: vec![Logged::Accepted, Logged::Rejected],
            rcpt_to: vec![Logged::Accepted, Logged::Rejected],
            address_length: 254,
            hash_key: None,
            helo: true,
        }
    }
}

/// Where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// Standard error, which systemd passes to its journal.
    Stderr,
    /// The journal, with every value as a field.
    Journald,
    /// The local syslog socket.
    Syslog,
}

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// `key=value` pairs.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// Least severe level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// The gateway stops or loses mail.
    Error,
    /// An operator should look.
    Warn,
    /// One line for each message and each session.
    Info,
    /// One line for each command.
    Debug,
    /// One line for each read and write.
    Trace,
}

/// How a mail address is written, from the form that tells most to the one that tells least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogAddresses {
    /// As it is.
    Full,
    /// The domain, and the first letter of the local part.
    Masked,
    /// A digest: the first 32 hexadecimal digits of SHA-256 over the address in lower case. The
    /// same address has the same digest in every record.
    Hashed,
    /// Not at all, whatever `mail-from` and `rcpt-to` say.
    Off,
}

/// Which addresses are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Logged {
    /// Those that the server has accepted.
    Accepted,
    /// Those that the server or the gateway has refused.
    Rejected,
    /// Both only as digests, as with `addresses: hashed`.
    Hashed,
}

/// Facility of syslog (RFC 5424 section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
#[expect(missing_docs, reason = "they are what syslog.conf(5) calls them")]
pub enum Facility {
    User = 1,
    Mail = 2,
    Daemon = 3,
    Auth = 4,
    News = 7,
    Authpriv = 10,
    Local0 = 16,
    Local1 = 17,
    Local2 = 18,
    Local3 = 19,
    Local4 = 20,
    Local5 = 21,
    Local6 = 22,
    Local7 = 23,
}
