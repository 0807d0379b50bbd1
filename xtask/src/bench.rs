//! `cargo xtask bench`: how fast, measured side by side in one run.
//!
//! Every family runs its rows in turn, round by round, so that whatever else the machine does falls
//! on all of them; what counts is the ratio of a row to its yardstick, never a number alone.

mod bulk;
mod chart;
mod console;
mod crowd;
mod delivery;
mod growth;
mod held;
mod idle;
mod inspect;
mod instant;
mod latency;
#[cfg(test)]
mod ledger;
mod packet;
mod peer;
mod place;
pub(crate) mod profile;
mod report;
mod splice;
mod syn;
mod usage;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::interrupt::Interrupt;
use crate::{ebpf, machine, say, setup, step};

use delivery::Until;
use report::Report;

/// The README's pictures.
const CHARTS: &str = "config/charts";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Family {
    /// Messages through the inspect lane, and how long commands and messages take, beside other proxies.
    Inspect,
    /// Octets that pass unread: the engines of the splice lane, HAProxy, plain forwarding.
    Splice,
    /// Sessions in which nothing passes: memory in the inspect lane; sockets and memory behind STARTTLS,
    /// by engine.
    Idle,
    /// The kernel program: nanoseconds by the packet, instructions of the verifier, memory of entries.
    Packet,
    /// Mail that is taken and queued, beside Postfix.
    Relay,
    /// Mail that is taken, queued and delivered, beside Postfix.
    Delivery,
    /// New sessions, and the SYNs of a client that is locked.
    Syn,
    /// What `gateway top` costs, and the gateway behind it, with more and more sessions.
    Console,
    /// What a session costs with more lane rules, more sessions, longer messages, more locks, more mail that
    /// waits.
    Growth,
    /// Everything.
    All,
}

/// How to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Fewer and shorter rounds.
    #[arg(long)]
    quick: bool,
    /// Write the results to this file, for machines.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw what the README shows of these families into this folder of the project, as SVG. Without a name it is
    /// where the README looks.
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_missing_value = CHARTS)]
    charts: Option<PathBuf>,
    /// Measure this binary of the gateway, and build none: to compare versions.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Of `inspect` this load alone, such as `kept-64`, also one that `--quick` leaves out; of `growth` this curve,
    /// such as `growth-queue`.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Measures `family`, prints a table and writes what else is wanted.
pub(crate) fn run(family: Family, options: &Options) -> anyhow::Result<()> {
    let Options { quick, json, charts, binary, only } = options;
    let quick = *quick;
    ensure!(
        only.is_none() || matches!(family, Family::Inspect | Family::Growth),
        "`--only` is for `inspect` and `growth`"
    );
    let binary = prepare(binary.as_deref())?;
    setup::peers()?;
    let interrupt = Interrupt::catch()?;
    let about = place::about(&binary)?;
    let mut reports: Vec<Report> = Vec::new();
    let wanted: &[Family] = if family == Family::All { &Family::ALL } else { &[family] };
    for one in wanted {
        reports.extend(one.measure(&binary, quick, only.as_deref(), &interrupt)?);
        // After each, so that one that fails takes nothing from those before.
        if let Some(path) = json {
            let text = report::json(&reports);
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(folder) = charts {
            // A path that is not whole is one in the project, wherever this runs.
            chart::write(&reports, &about, &step::workspace().join(folder))?;
        }
    }
    for report in &reports {
        for line in report.table() {
            say::line(&line);
        }
    }
    say::line("");
    say::line(&about);
    Ok(())
}

impl Family {
    /// Those that there are, in the order in which they are measured.
    const ALL: [Self; 9] = [
        Self::Inspect,
        Self::Splice,
        Self::Idle,
        Self::Packet,
        Self::Relay,
        Self::Delivery,
        Self::Syn,
        Self::Console,
        Self::Growth,
    ];

    fn measure(
        self,
        binary: &Path,
        quick: bool,
        only: Option<&str>,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Vec<Report>> {
        Ok(match self {
            Self::Inspect => {
                let mut reports = Vec::new();
                if only != Some(latency::NAME) {
                    reports.push(inspect::run(binary, quick, only, interrupt)?);
                }
                if only.is_none_or(|only| only == latency::NAME) {
                    reports.extend(latency::run(binary, quick, interrupt)?);
                }
                reports
            }
            Self::Splice => vec![splice::run(binary, quick, interrupt)?],
            Self::Idle => {
                vec![crowd::run(binary, quick, interrupt)?, idle::run(binary, quick, interrupt)?]
            }
            Self::Packet => packet::run(quick)?,
            Self::Relay => vec![delivery::run(Until::Accepted, binary, quick, interrupt)?],
            Self::Delivery => vec![delivery::run(Until::Delivered, binary, quick, interrupt)?],
            Self::Syn => syn::run(binary, quick, interrupt)?,
            Self::Console => vec![console::run(binary, quick, interrupt)?],
            Self::Growth => growth::run(binary, quick, only, interrupt)?,
            Self::All => bail!("all families are measured one by one"),
        })
    }
}

/// Installs what measuring needs, and builds what is measured unless it is `given`; returns the gateway's
/// binary.
fn prepare(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if !machine::is_root() {
        bail!("the bench makes network namespaces and loads an eBPF program: run it as root");
    }
    setup::all()?;
    if let Some(given) = given {
        return given.canonicalize().with_context(|| format!("no binary {}", given.display()));
    }
    ebpf::build()?;
    step::run(
        "build the gateway, optimized",
        &mut step::cargo(&["build", "--release", "--package", "gateway"]),
    )?;
    Ok(step::target().join("release/gateway"))
}
