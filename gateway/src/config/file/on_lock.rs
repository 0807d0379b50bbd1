//! The section `on-lock`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// What is run when a client is locked for what it has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct OnLock {
    /// A program that is run once for each lock, without a shell; not for locks of operators. What is
    /// known of the offence is its environment, and nothing else is in it. Empty (`''`): none.
    pub script: PathBuf,
    /// The account that it runs as where the gateway is started as root. It has no capability and can
    /// gain none, so that sudo(8) is of no use to it.
    pub user: String,
    /// How long it may run, with all it has started; then what is left of that is killed.
    pub time_limit: Span,
    /// How many may run at the same time, 1 to 64. Some more wait; those beyond are counted, not run.
    pub at_once: usize,
}

impl OnLock {
    /// Whether anybody is told of locks.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.script.as_os_str().is_empty()
    }
}

impl Default for OnLock {
    fn default() -> Self {
        Self {
            script: PathBuf::new(),
            user: "gateway-action".to_owned(),
            time_limit: Span::seconds(30),
            at_once: 4,
        }
    }
}
