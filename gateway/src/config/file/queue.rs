//! Mail that waits to be delivered: `queue`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::ByteCount;

/// The queue of mail that the gateway has taken and not yet delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Queue {
    /// Folder of the queue, such as `/var/spool/gateway/queue`; it must belong to the account `user`
    /// alone, and its file system must keep what fsync(2) has put there. Where it cannot be used, the
    /// gateway does not start. Left out: there is no queue, and no lane may be `relay`. Mail that is in it
    /// is delivered also when no lane is `relay` any more. Takes effect at start.
    pub directory: Option<PathBuf>,
    /// Free space in `directory` below which messages are answered with 452. Takes effect at start.
    pub min_free: ByteCount,
}

impl Default for Queue {
    fn default() -> Self {
        Self { directory: None, min_free: ByteCount::mib(64) }
    }
}
