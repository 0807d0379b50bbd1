//! `cargo xtask run -- …`: the daemon, built and started.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;

use crate::{ebpf, machine, say, setup, step};

/// Builds everything and becomes `gateway ARGUMENTS`, as root unless that is not wanted.
pub(crate) fn run(unprivileged: bool, arguments: &[String]) -> anyhow::Result<()> {
    if !unprivileged {
        setup::build_tools()?;
        ebpf::build()?;
    }
    step::run("build the gateway", &mut step::cargo(&["build", "--package", "gateway"]))?;
    let binary = step::target().join("debug/gateway");
    let mut command = if unprivileged || machine::is_root() {
        Command::new(&binary)
    } else {
        say::line(
            "The gateway loads programs into the kernel and changes routing: it has to be root for that.",
        );
        say::line(&format!("sudo runs: {} {}", binary.display(), arguments.join(" ")));
        let mut command = Command::new("sudo");
        command.args(["--prompt", "Password of %u to run the gateway as root: ", "--"]).arg(&binary);
        command
    };
    command.args(arguments);
    // Returns only when it cannot start.
    Err(command.exec()).with_context(|| format!("cannot run {}", binary.display()))
}
