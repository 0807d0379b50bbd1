//! One command that has to succeed, with its output on the user's terminal.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use gateway_tests::process::shown;

use crate::say;

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Cargo of the toolchain that runs this, in the workspace.
///
/// What `cargo run` tells this program of its own package is taken out of the environment: build scripts
/// that look at it would run again each time somebody builds without this program, and everything
/// above them with it.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace());
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_str().is_some_and(is_of_package)) {
        command.env_remove(name);
    }
    command
}

/// Whether cargo sets a variable for the package that it builds or runs (The Cargo Book, chapter
/// "Environment Variables").
fn is_of_package(variable: &str) -> bool {
    let names = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_PACKAGE"];
    names.iter().any(|prefix| variable.starts_with(prefix)) || variable == "OUT_DIR"
}

/// Says what is done, does it, and fails when the command fails.
pub(crate) fn run(what: &str, command: &mut Command) -> anyhow::Result<()> {
    say::doing(what);
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{what}: `{}` failed", shown(command));
    }
    Ok(())
}
