//! What a message costs as more clients are locked, and as more mail waits in the queue.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::gateway::Settings;
use gateway_tests::lab::Lab;
use gateway_tests::wait;

use super::inspect::{self, Load};
use super::peer::{self, Drain, Means, Peer};
use super::report::{Fact, Report, Row};
use super::splice::number;
use super::usage;
use crate::interrupt::Interrupt;
use crate::say;

/// Sizes; the first of them is the yardstick of the rest. A million messages take too long to be put
/// into a queue for each round.
const LOCKS: [u32; 4] = [10, 1_000, 100_000, 1_000_000];
const WAITING: [u32; 4] = [10, 1_000, 10_000, 100_000];
const YARDSTICK: &str = "10";

const PROCESSES: Fact = Fact { heading: "CPU us/message", key: "process_cpu_microseconds_per_message" };

/// What is done at one size.
type Measure = fn(&Path, u32, usize, &mut Row) -> anyhow::Result<()>;

/// Measures the gateway alone, at each size in turn.
pub(super) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Vec<Report>> {
    let (rounds, sizes, messages) = if quick { (1, 2, 200) } else { (5, 4, 4_000) };
    let curves: [(&str, &str, [u32; 4], Measure); 2] = [
        ("growth-locks", "messages/s", LOCKS, past_locks),
        ("growth-queue", "messages accepted/s", WAITING, behind_a_queue),
    ];
    let mut reports = Vec::new();
    for (family, unit, counts, measure) in curves {
        let counts = counts.get(..sizes).unwrap_or(&counts);
        let mut rows: Vec<_> = counts.iter().map(|count| Row::new(count.to_string())).collect();
        for round in 1..=rounds {
            for (count, row) in counts.iter().zip(&mut rows) {
                interrupt.check()?;
                say::line(&format!("{family}, round {round} of {rounds}: {count}"));
                measure(binary, *count, messages, row)
                    .with_context(|| format!("{family}, {count} in round {round}"))?;
            }
        }
        reports.push(Report { family, unit, yardstick: YARDSTICK, rows });
    }
    Ok(reports)
}

/// Messages of a client that is not locked, in sessions of their own.
fn past_locks(binary: &Path, locks: u32, messages: usize, row: &mut Row) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _drain = Drain::start(&lab)?;
    let spool = lab.directory().join("gateway/spool");
    fs::create_dir_all(&spool)?;
    write_locks(&spool.join("locks.json"), locks)?;
    let settings = Settings { limits: inspect::limits(), ..Settings::default() };
    let running = Peer::Gateway.start(&lab, &Means { binary, settings: &settings, clamd_conf: None })?;
    let gateway = running.gateway.as_ref().context("no gateway")?;
    gateway.wait_for_log("locks of an earlier release are in the state store")?;
    measure(&lab, messages, row)
}

/// So many clients, none of which is in the lab.
fn write_locks(path: &Path, locks: u32) -> anyhow::Result<()> {
    const FIRST: u32 = 0x0a00_0000;
    let mut file = BufWriter::new(File::create(path)?);
    write!(file, r#"{{"exempt":[],"locks":["#)?;
    for place in 0..locks {
        let (comma, who) = (if place == 0 { "" } else { "," }, Ipv4Addr::from(FIRST.saturating_add(place)));
        write!(
            file,
            r#"{comma}{{"who":"{who}","action":"drop","cause":"virus","detail":"Eicar","session":null,"since":1,"until":null,"offences":1,"refused":0}}"#
        )?;
    }
    write!(file, "]}}")?;
    Ok(file.flush()?)
}

/// Messages for the relay lane, while others wait for a server that does not answer.
fn behind_a_queue(binary: &Path, waiting: u32, messages: usize, row: &mut Row) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let queue = lab.directory().join("gateway/queue");
    let settings = Settings {
        limits: inspect::limits(),
        lanes: vec!["{client: [192.0.2.0/24], lane: relay, target: original}"],
        more: format!("queue:\n  directory: {}\n  min-free: 1MiB\n", queue.display()),
        ..Settings::default()
    };
    let _running = Peer::Gateway.start(&lab, &Means { binary, settings: &settings, clamd_conf: None })?;
    inspect::send(&lab, Load::profiled(true), usize::try_from(waiting)?)?;
    measure(&lab, messages, row)
}

fn measure(lab: &Lab, messages: usize, row: &mut Row) -> anyhow::Result<()> {
    let load = Load::profiled(false).of_sessions(8);
    // The first ones start what is started once.
    inspect::send(lab, load, 16)?;
    let before = usage::processes(&peer::processes(lab)?)?;
    let began = wait::now();
    inspect::send(lab, load, messages)?;
    let took: Duration = began.elapsed();
    let own = usage::processes(&peer::processes(lab)?)?.saturating_sub(before);
    let count = number(messages)?;
    row.values.push(count / took.as_secs_f64());
    row.add(PROCESSES, own.as_secs_f64() * 1e6 / count);
    Ok(())
}
