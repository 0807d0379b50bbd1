//! `cargo xtask ci`: what has to hold before a change lands, in the order a developer runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::{ebpf, setup, step, test, tidy};

/// Stops at the first check that fails.
pub(crate) fn run(checks_only: bool) -> anyhow::Result<()> {
    step::run("formatting", &mut step::cargo(&["fmt", "--all", "--", "--check"]))?;
    tidy::run()?;
    step::run("lints", &mut step::cargo(&["clippy", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    // Not among `--all-targets`, so that `cargo test` leaves them out.
    step::run(
        "lints of the lab tests",
        &mut step::cargo(&[
            "clippy",
            "-p",
            "gateway-tests",
            "--test",
            "it",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    setup::core_source()?;
    ebpf::clippy()?;
    setup::build_tools()?;
    ebpf::build()?;
    ebpf::stack::check()?;
    step::run(
        "documentation",
        step::cargo(&["doc", "--no-deps", "--document-private-items", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    shipped_configurations()?;
    if checks_only { Ok(()) } else { test::run() }
}

/// Every configuration the project ships, read by the real binary.
fn shipped_configurations() -> anyhow::Result<()> {
    step::run("build the gateway", &mut step::cargo(&["build", "--quiet", "--package", "gateway"]))?;
    let binary = step::target().join("debug/gateway");
    let mut files = Vec::new();
    collect(&step::workspace().join("config"), &mut files)?;
    for file in files {
        let name = file.strip_prefix(step::workspace()).unwrap_or(&file).display().to_string();
        step::run(&format!("check {name}"), Command::new(&binary).args(["check", "-c"]).arg(&file))?;
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for path in entries.iter().map(fs::DirEntry::path) {
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}
