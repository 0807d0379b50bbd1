//! The processes themselves: `process`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::ByteCount;

/// The processes themselves, where no service manager sees to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Process {
    /// Whether the process that reads the mail is kept from all files but its own (Landlock) and
    /// from system calls that it does not need (seccomp). What a reload adds must not need folders that
    /// are new since the start. Changes only with a restart or `gateway upgrade`.
    pub sandbox: Sandbox,
    /// File that holds the process number of the gateway while it runs. Its folder is made where it is
    /// missing, below one that is there. Empty (`''`): none.
    pub pid_file: PathBuf,
    /// First group of the process that reads the mail, in place of the one of `user`. Empty: that
    /// one. Ignored when the gateway is not started as root.
    pub group: String,
    /// Scheduling priority of all processes, from -20 (first) to 19 (last), as in nice(1).
    pub priority: i8,
    /// Largest core file of the process that reads the mail; it holds mail. 0: none is written.
    pub core_size: ByteCount,
    /// Largest file that process may write (setrlimit(2), `RLIMIT_FSIZE`). 0: no limit.
    pub file_size: ByteCount,
    /// Most address space of that process (`RLIMIT_AS`); one process serves all sessions. 0: no
    /// limit.
    pub address_space: ByteCount,
}

/// Whether the process that reads the mail is kept from what it does not need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// As far as the kernel can; the log says how far.
    #[default]
    BestEffort,
    /// Altogether, or the gateway does not start. Needs Linux 6.12 with Landlock.
    Require,
    /// No.
    Off,
}
