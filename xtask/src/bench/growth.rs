//! What a message costs as something grows that it must not depend on: rules, locks, the queue, sessions; and as it
//! grows itself.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::Settings;
use gateway_tests::lab::Lab;
use gateway_tests::wait;

use super::held::{Locked, Waiting};
use super::inspect::{self, Load};
use super::peer::{self, Drain, Means, Peer};
use super::report::{Fact, Report, Row};
use super::splice::number;
use super::usage;
use crate::interrupt::Interrupt;
use crate::say;

/// What grows, and its sizes, the first of which is the yardstick of the rest.
#[derive(Clone, Copy)]
struct Curve {
    family: &'static str,
    sizes: [u32; 4],
    yardstick: &'static str,
}

const RULES: Curve = Curve { family: "growth-rules", sizes: [10, 100, 1_000, 10_000], yardstick: "10" };
const LOCKS: Curve =
    Curve { family: "growth-locks", sizes: [10, 1_000, 100_000, 1_000_000], yardstick: "10" };
const QUEUE: Curve =
    Curve { family: "growth-queue", sizes: [10, 1_000, 100_000, 1_000_000], yardstick: "10" };
const SESSIONS: Curve = Curve { family: "growth-sessions", sizes: [8, 64, 256, 512], yardstick: "8" };
const OCTETS: Curve = Curve {
    family: "growth-octets",
    sizes: [1024, 16 * 1024, 256 * 1024, 4 * 1024 * 1024],
    yardstick: "1024",
};
const CURVES: [Curve; 5] = [RULES, LOCKS, QUEUE, SESSIONS, OCTETS];

const UNIT: &str = "CPU microseconds of the gateway a message";
const RATE: Fact = Fact { heading: "messages/s", key: "messages_per_second" };
/// From the beginning of its process until it serves.
const START: Fact = Fact { heading: "start s", key: "start_seconds" };
/// Memory of the proxy process, once it serves.
const PROXY: Fact = Fact { heading: "proxy MiB", key: "proxy_mebibytes" };
/// Memory of the datapath process.
const DATAPATH: Fact = Fact { heading: "datapath MiB", key: "datapath_mebibytes" };
/// Memory of the maps of eBPF, as far as the kernel tells.
const MAPS: Fact = Fact { heading: "maps MiB", key: "map_mebibytes" };

/// The gateway as it is started at one size, and what goes through it.
pub(super) struct Stage {
    pub(super) lab: Lab,
    pub(super) settings: Settings,
    pub(super) load: Load,
}

/// Measures the gateway alone, at each size in turn; of all curves, or of the one of this name.
///
/// # Errors
///
/// Also when there is no curve of the name that is asked for.
pub(super) fn run(
    binary: &Path,
    quick: bool,
    only: Option<&str>,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Report>> {
    let (rounds, span) = if quick { (3, Duration::from_secs(2)) } else { (5, Duration::from_secs(3)) };
    let bench = Bench { binary, rounds, span, interrupt };
    let new = Load::profiled(false).of_sessions(8);
    let wanted = |curve: &Curve| only.is_none_or(|only| curve.family == only);
    ensure!(
        CURVES.iter().any(wanted),
        "no such curve; there are {}",
        CURVES.map(|curve| curve.family).join(", ")
    );
    let mut reports = Vec::new();
    if wanted(&RULES) {
        reports.push(bench.curve(RULES, |_, rules| stage(settings(rules), new))?);
    }
    if wanted(&LOCKS) {
        let locked = Locked::prepare(binary, &LOCKS.sizes, interrupt)?;
        reports.push(bench.curve(LOCKS, |place, _| locked.stage(place))?);
    }
    if wanted(&QUEUE) {
        let waiting = Waiting::prepare(&QUEUE.sizes, interrupt)?;
        reports.push(bench.curve(QUEUE, |place, _| waiting.stage(place))?);
    }
    if wanted(&SESSIONS) {
        let load = |sessions| anyhow::Ok(new.of_sessions(u16::try_from(sessions)?));
        reports.push(bench.curve(SESSIONS, |_, sessions| stage(settings(0), load(sessions)?))?);
    }
    if wanted(&OCTETS) {
        reports.push(bench.curve(OCTETS, |_, octets| stage(settings(0), new.of_octets(octets)))?);
    }
    Ok(reports)
}

/// How each curve is measured.
struct Bench<'a> {
    binary: &'a Path,
    rounds: u32,
    span: Duration,
    interrupt: &'a Interrupt,
}

impl Bench<'_> {
    /// A row for each size; `set` makes the stage of a size, by its place and by itself.
    fn curve(
        &self,
        Curve { family, sizes, yardstick }: Curve,
        set: impl Fn(usize, u32) -> anyhow::Result<Stage>,
    ) -> anyhow::Result<Report> {
        let mut rows = sizes.map(|size| Row::new(size.to_string()));
        for round in 1..=self.rounds {
            for (place, (size, row)) in sizes.into_iter().zip(&mut rows).enumerate() {
                self.interrupt.check()?;
                say::line(&format!("{family}, round {round} of {}: {size}", self.rounds));
                set(place, size)
                    .and_then(|stage| measure(&stage, self.binary, self.span, row))
                    .with_context(|| format!("{family}, {size} in round {round}"))?;
            }
        }
        Ok(Report { family, unit: UNIT, yardstick, rows: rows.into() })
    }
}

fn stage(settings: Settings, load: Load) -> anyhow::Result<Stage> {
    Ok(Stage { lab: peer::lab()?, settings, load })
}

/// A configuration with so many lane rules that no client of the lab matches. The kernel decides every other one by
/// itself; the rest is the proxy's to decide.
fn settings(rules: u32) -> Settings {
    let mut more = String::new();
    if rules > 0 {
        more.push_str("lanes:\n");
    }
    for rule in 0..rules {
        // 10.0.0.0/8 has room for them all, each a network of its own.
        let (high, low) = (rule / 256 % 256, rule % 256);
        let server = if rule % 2 == 0 { "" } else { ", server: [203.0.113.0/24], port: [25]" };
        writeln!(more, "  - {{client: [10.{high}.{low}.0/24]{server}, lane: bypass}}").ok();
    }
    Settings { limits: inspect::limits(), more, ..Settings::default() }
}

/// Starts the gateway, and sends messages for about `span`, each in a session of its own.
fn measure(stage: &Stage, binary: &Path, span: Duration, row: &mut Row) -> anyhow::Result<()> {
    const MEBIBYTE: f64 = 1024.0 * 1024.0;
    let Stage { lab, settings, load } = stage;
    let drain = Drain::start(lab)?;
    let began = wait::now();
    let running = Peer::Gateway.start(lab, &Means { binary, settings, clamd_conf: None })?;
    row.add(START, began.elapsed().as_secs_f64());
    let gateway = running.gateway.as_ref().context("no gateway")?;
    let (datapath, proxy) = (gateway.daemon().pid(), gateway.proxy()?);
    // The first ones start what is started once, and tell how many there must be to fill the span.
    let warm = load.warm();
    let took = inspect::send(lab, *load, warm)?;
    inspect::wait_for(&drain, warm)?;
    let messages = inspect::enough(warm, took, span, *load);
    let before = usage::processes(&peer::processes(lab)?)?;
    let began = wait::now();
    inspect::send(lab, *load, messages)?;
    inspect::wait_for(&drain, warm + messages)?;
    let took = began.elapsed();
    let own = usage::processes(&peer::processes(lab)?)?.saturating_sub(before);
    let count = number(messages)?;
    row.values.push(own.as_secs_f64() * 1e6 / count);
    row.add(RATE, count / took.as_secs_f64());
    let mebibytes = |octets: u64| anyhow::Ok(number(usize::try_from(octets)?)? / MEBIBYTE);
    row.add(PROXY, mebibytes(usage::memory(&[proxy])?)?);
    row.add(DATAPATH, mebibytes(usage::memory(&[datapath])?)?);
    row.add(MAPS, mebibytes(usage::maps(datapath)?)?);
    Ok(())
}

#[cfg(test)]
pub(super) fn names_of_rows() -> Vec<String> {
    let rows = |curve: Curve| curve.sizes.map(|size| format!("{}.{size}", curve.family));
    CURVES.into_iter().flat_map(rows).collect()
}
