//! The sandbox of the running proxy, in which a changed configuration has to find what it needs.

use tracing::{info, warn};

use super::reach;
use crate::config::Config;
use crate::privilege::sandbox::{Enforced, Reach};

/// The sandbox that the process is in.
pub(super) struct Walls {
    /// What may be used.
    pub(super) reach: Reach,
    /// How much of that the kernel sees to.
    pub(super) enforced: Enforced,
}

impl Walls {
    /// Says in the log how much of it there is.
    pub(super) fn tell(&self) {
        let enforced = self.enforced.name();
        match self.enforced {
            Enforced::Fully | Enforced::Off => info!(enforced, "sandbox"),
            Enforced::Partly | Enforced::SystemCalls => {
                warn!(enforced, "this kernel does not enforce all of the sandbox: see `process.sandbox`");
            }
        }
    }

    /// Whether what `config` needs is within.
    pub(super) fn hold(&self, config: &Config) -> Result<(), String> {
        if matches!(self.enforced, Enforced::Off | Enforced::SystemCalls) {
            return Ok(());
        }
        let wanted = reach::wanted(config);
        let Some(path) = self.reach.lacks(&wanted) else { return Ok(()) };
        Err(format!(
            "the running process may not use {}, which is new since its start: restart the gateway, or use \
             `gateway upgrade`; see `process.sandbox`",
            path.display()
        ))
    }
}
