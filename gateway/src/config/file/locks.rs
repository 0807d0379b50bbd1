//! The section `locks`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::condition::Network;
use crate::config::units::Span;

/// Locks: networks whose new flows are held off for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Locks {
    /// What becomes of a locked client's new flows, unless the lock says otherwise.
    pub action: LockAction,
    /// How long a lock holds, unless it says otherwise.
    #[serde(rename = "for")]
    pub duration: Span,
    /// Networks that no lock touches: your own mail servers, the machine you administer from.
    pub exempt: Vec<Network>,
}

impl Default for Locks {
    fn default() -> Self {
        Self { action: LockAction::Reset, duration: Span::seconds(3600), exempt: Vec::new() }
    }
}

/// What becomes of a locked client's new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LockAction {
    /// The kernel drops them: the client waits in vain.
    Drop,
    /// The kernel answers with a reset: the client is told that nobody listens.
    Reset,
    /// The gateway answers with one SMTP reply, 4xx while the lock has an end.
    Reject,
}

impl LockAction {
    /// The name in `gateway.yaml`, in metrics and in the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reset => "reset",
            Self::Reject => "reject",
        }
    }
}
