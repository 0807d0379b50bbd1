//! What the proxy tells the datapath process of locks.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::file::LockAction;
use crate::policy::lock::{Lock, Who};

/// Locks in one message, or networks.
pub const BATCH: usize = 200;

/// Changes in one message: each may carry what is known of a cause, written with escapes.
pub const CHANGES: usize = 50;

/// What has become of a lock or of an exemption, for a process that takes the table over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum LockChange {
    /// The lock of a network or of an identity.
    Lock {
        /// Whose.
        who: Who,
        /// When it was changed: seconds since 1970.
        at: u64,
        /// It; `None`: it was removed.
        lock: Option<Lock>,
    },
    /// An operator has exempted a network, or has taken that back.
    Exempt {
        /// The network.
        net: IpNet,
        /// Whether it is exempt.
        exempt: bool,
    },
}

/// A lock to be enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// The clients.
    pub net: IpNet,
    /// What becomes of their new flows.
    pub action: LockAction,
    /// How long it still holds; `None`: for ever.
    pub left: Option<Duration>,
}

/// What is to be done with locks in the kernel. Each is at most [`BATCH`] long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum LockOrder {
    /// From here to [`Self::Complete`] all locks are told.
    Begin,
    /// Enforce these.
    Set {
        /// The locks.
        locks: Vec<Enforced>,
    },
    /// Locks that were not told since [`Self::Begin`] are none.
    Complete,
    /// These are over.
    Remove {
        /// Their networks.
        nets: Vec<IpNet>,
    },
    /// No lock touches these networks, beside those of the configuration.
    Exempt {
        /// All of them.
        nets: Vec<IpNet>,
    },
    /// End the flows of these clients that the kernel carries.
    Cut {
        /// The clients.
        net: IpNet,
        /// Their lock's action: `drop` drops, the others reset both ends.
        action: LockAction,
    },
}

/// What the kernel has counted of a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// New flows that met it.
    pub count: u64,
    /// How long ago the last of them was.
    pub ago: Option<Duration>,
}
