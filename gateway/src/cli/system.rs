//! `gateway check --system`.

use anyhow::Context as _;

use super::socket;
use crate::config::Config;
use crate::datapath::probe::{self, State};

/// Prints what this machine has and lacks for `config`; says whether the gateway can run on it.
pub(super) fn examine(config: &Config, json: bool) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(probe::examine(config)).context("cannot look at this machine")?;
    let good = findings.iter().all(|finding| finding.state != State::Missing);
    if json {
        socket::say(&format!("{}\n", serde_json::json!({ "findings": findings, "good": good })))?;
        return Ok(good);
    }
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    text.push_str(if good { "this machine: good\n" } else { "this machine: the gateway cannot run\n" });
    socket::say(&text)?;
    Ok(good)
}
