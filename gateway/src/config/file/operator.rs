//! What operators ask the gateway through: `control`.

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
