//! The processes themselves: `process`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::ByteCount;

/// The processes themselves, where no service manager sees to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Process {
    /// File that holds the process number of the gateway while it runs. Empty (`''`): none.
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
