//! Sessions after STARTTLS in which nothing passes: what each keeps, by engine.

use std::cell::Cell;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::wait;
use nix::unistd::Pid;

use super::bulk::{self, Session};
use super::report::{Fact, Report, Row};
use super::splice::{number, sockets};
use super::usage;
use crate::interrupt::Interrupt;
use crate::say;

const SOCKETS: Fact = Fact { heading: "sockets", key: "sockets" };
const MAPS: Fact = Fact { heading: "map octets", key: "map_bytes" };
/// `splice.engine`.
const ENGINES: [&str; 3] = ["splice", "handoff", "copy"];
/// Words that each says before it falls silent; a handoff waits for a quiet moment between them.
const WORDS: u32 = 4;
/// Sessions that are there before the first measurement: what the first of all costs is no session's.
const BEFORE: usize = 20;

/// Measures sessions by the hundred, engine by engine.
pub(crate) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let (rounds, sessions) = if quick { (1, 200) } else { (3, 1_000) };
    let mut rows = ENGINES.map(Row::new);
    for round in 1..=rounds {
        for (engine, row) in ENGINES.into_iter().zip(&mut rows) {
            interrupt.check()?;
            say::line(&format!("round {round} of {rounds}: {sessions} idle sessions, {engine}"));
            measure(engine, binary, sessions, row).with_context(|| format!("{engine} in round {round}"))?;
        }
    }
    Ok(Report {
        family: "idle",
        unit: "octets of user space a session",
        yardstick: "splice",
        rows: rows.into(),
    })
}

fn measure(engine: &'static str, binary: &Path, sessions: usize, row: &mut Row) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    bulk::serve(lab.server(), Family::V4.smtp())?;
    let settings = Settings { splice: vec![("engine", engine)], limits: limits(), ..Settings::default() };
    let gateway = Gateway::start_binary(binary, &lab, &settings, &[])?;
    let processes = [gateway.daemon().pid(), gateway.proxy()?];
    let kept = keep(&lab, &processes, engine == "handoff", sessions)?;
    row.values.push(kept.user);
    row.add(MAPS, kept.maps);
    row.add(SOCKETS, kept.sockets);
    Ok(())
}

/// More sessions of one client than are measured.
pub(super) fn limits() -> Vec<(&'static str, &'static str)> {
    vec![("sessions", "5000"), ("sessions-per-client", "5000")]
}

/// What an idle session keeps on the router.
pub(super) struct Kept {
    /// Octets of user space.
    pub(super) user: f64,
    /// Octets of the maps of eBPF.
    pub(super) maps: f64,
    pub(super) sockets: f64,
}

/// Opens sessions, lets them fall silent, and says what each of them keeps of these processes.
pub(super) fn keep(lab: &Lab, processes: &[Pid], handed_off: bool, sessions: usize) -> anyhow::Result<Kept> {
    let open = |count| {
        let others = if handed_off { sockets(lab)? } else { 0 };
        let opened = silent_ones(lab, count)?;
        if handed_off {
            wait::until(Duration::from_secs(30), "handoff of all", || {
                Ok((sockets(lab)? <= others).then_some(()))
            })?;
        }
        anyhow::Ok(opened)
    };
    let now = || {
        let maps = processes.iter().map(|process| usage::maps(*process)).sum::<anyhow::Result<_>>()?;
        anyhow::Ok([usage::memory(processes)?, maps, u64::try_from(sockets(lab)?)?])
    };
    let _first = open(BEFORE)?;
    let before = now()?;
    let _others = open(sessions)?;
    let after = now()?;
    let each = |place: usize| {
        let more = after[place].saturating_sub(before[place]);
        anyhow::Ok(number(usize::try_from(more)?)? / number(sessions)?)
    };
    Ok(Kept { user: each(0)?, maps: each(1)?, sockets: each(2)? })
}

/// So many sessions that say no more. Most of the time they pause between their words, so that many may be opened at once.
fn silent_ones(lab: &Lab, count: usize) -> anyhow::Result<Vec<Session>> {
    const TOGETHER: usize = 10;
    thread::scope(|scope| {
        let some = |first: usize| (first..count).step_by(TOGETHER).map(|_| silent(lab)).collect();
        let threads: Vec<_> = (0..TOGETHER).map(|first| scope.spawn(move || some(first))).collect();
        let mut sessions = Vec::new();
        for thread in threads {
            let opened: anyhow::Result<Vec<_>> =
                thread.join().map_err(|_| anyhow!("opening sessions panicked"))?;
            sessions.extend(opened?);
        }
        Ok(sessions)
    })
}

/// A session that has said a few words, and says no more.
fn silent(lab: &Lab) -> anyhow::Result<Session> {
    let words = Cell::new(0);
    Session::open(lab.client(), Family::V4.smtp(), || {
        words.set(words.get() + 1);
        Ok(words.get() >= WORDS)
    })
}

#[cfg(test)]
pub(super) fn names_of_rows() -> Vec<String> {
    ENGINES.map(|engine| format!("idle.{engine}")).into()
}
