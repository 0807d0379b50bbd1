//! `cargo xtask bench`: how fast, measured side by side in one run.
//!
//! Every family runs its rows in turn, round by round, so that whatever else the machine does falls
//! on all of them; what counts is the ratio of a row to its yardstick, never a number alone.

mod bulk;
mod idle;
mod packet;
mod report;
mod splice;
mod usage;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::interrupt::Interrupt;
use crate::{ebpf, machine, say, setup, step};

use report::Report;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Family {
    /// Octets that pass unread: the engines of the splice lane, HAProxy, plain forwarding.
    Splice,
    /// Sessions in which nothing passes: sockets and memory, by engine.
    Idle,
    /// The kernel program: nanoseconds by the packet, instructions of the verifier, memory of entries.
    Packet,
    /// Everything.
    All,
}

/// Measures `family` and prints a table; `json` gets the same for machines.
pub(crate) fn run(family: Family, quick: bool, json: Option<&Path>) -> anyhow::Result<()> {
    if !machine::is_root() {
        bail!("the bench makes network namespaces and loads an eBPF program: run it as root");
    }
    setup::all()?;
    setup::peers()?;
    ebpf::build()?;
    step::run(
        "build the gateway, optimized",
        &mut step::cargo(&["build", "--release", "--package", "gateway"]),
    )?;
    let interrupt = Interrupt::catch()?;
    let binary = step::target().join("release/gateway");
    let mut reports: Vec<Report> = Vec::new();
    let wanted = |one| family == one || family == Family::All;
    if wanted(Family::Splice) {
        reports.push(splice::run(&binary, quick, &interrupt)?);
    }
    if wanted(Family::Idle) {
        reports.push(idle::run(&binary, quick, &interrupt)?);
    }
    if wanted(Family::Packet) {
        reports.extend(packet::run(quick)?);
    }
    for report in &reports {
        for line in report.table() {
            say::line(&line);
        }
    }
    if let Some(path) = json {
        let text = report::json(&reports);
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Whether `program` can be run here.
fn is_there(program: &str) -> bool {
    Command::new(program).arg("-v").output().is_ok_and(|output| output.status.success())
}
