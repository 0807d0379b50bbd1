//! The operator's side: `control`, `log`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The control socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Control {
    /// Path of the socket. Empty (`''`): no control socket.
    pub socket: PathBuf,
    /// Group whose members may look; to change something is left to root and the account `user`.
    /// Empty: only those two may look.
    pub group: String,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/gateway/control.sock"), group: String::new() }
    }
}

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
    /// How much of mail addresses stands in records.
    pub addresses: LogAddresses,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            target: LogTarget::Stderr,
            format: LogFormat::Logfmt,
            level: LogLevel::Info,
            addresses: LogAddresses::Masked,
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
    /// The local syslog socket, facility mail.
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

/// How much of mail addresses stands in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogAddresses {
    /// As they are.
    Full,
    /// The domain, and the first letter of the local part.
    Masked,
    /// Not at all.
    Off,
}
