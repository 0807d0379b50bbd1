//! Copies of messages: `spool`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::ByteCount;

/// The copy of a message that scanners see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Spool {
    /// Folder for copies larger than `memory`; it must belong to the account `user` alone.
    pub directory: PathBuf,
    /// Largest copy that stays in memory; each session may hold one.
    pub memory: ByteCount,
    /// Name of a header field that stands above the message in the copy only, such as
    /// `X-Proxy-Spool-Info`: scanners and who looks at a kept copy read there who sent it. Empty:
    /// none. The server never gets it.
    pub header: String,
    /// Outcomes after which the copy stays in `directory` for you to look at; you remove it. Empty:
    /// copies are always removed.
    pub leave_on: Vec<LeaveOn>,
    /// Free space in `directory` below which new messages are answered with 452.
    pub min_free: ByteCount,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/spool/gateway"),
            memory: ByteCount::kib(256),
            header: String::new(),
            leave_on: Vec::new(),
            min_free: ByteCount::mib(64),
        }
    }
}

/// An outcome after which the copy of a message is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveOn {
    /// A scanner found a virus.
    Virus,
    /// A scanner found it to be spam.
    Spam,
    /// A scanner failed.
    Error,
    /// Always.
    Always,
}
