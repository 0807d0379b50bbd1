//! Mail that is taken and brought: how much a second is on stable storage, and how much is delivered,
//! beside Postfix on the same disk.

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

/// Until the last message was answered with 250.
const ACCEPTED: Fact = Fact { heading: "accepted/s", key: "accepted_per_second" };
const PROCESSES: Fact = Fact { heading: "CPU us/message", key: "process_cpu_microseconds_per_message" };
const PEERS: [Peer; 2] = [Peer::Postfix, Peer::Gateway];
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures every load, round by round, Postfix and the gateway in turn.
pub(super) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let (rounds, messages) = if quick { (3, 1_000) } else { (5, 5_000) };
    let new = Load::profiled(false);
    let loads = [
        ("new-64", new, messages),
        ("kept-64", Load::profiled(true), messages),
        ("new-8-1mb", new.of_sessions(8).of_octets(1024 * 1024), messages / 20),
    ];
    let mut rows = Vec::new();
    for (group, load, messages) in loads {
        let mut group_rows = PEERS.map(|peer| Row::within(group, peer.name()));
        for round in 1..=rounds {
            for (peer, row) in PEERS.iter().zip(&mut group_rows) {
                interrupt.check()?;
                say::line(&format!("{group}, round {round} of {rounds}: {}", peer.name()));
                measure(load, *peer, binary, messages, row)
                    .with_context(|| format!("{group}, {} in round {round}", peer.name()))?;
            }
        }
        rows.extend(group_rows);
    }
    Ok(Report { family: "delivery", unit: "messages delivered/s", yardstick: Peer::Postfix.name(), rows })
}

fn measure(load: Load, peer: Peer, binary: &Path, messages: usize, row: &mut Row) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let drain = Drain::start(&lab)?;
    let settings = settings(&lab);
    let _running = peer.start(&lab, &Means { binary, settings: &settings, clamd_conf: None })?;
    // The first message of all starts processes and makes files.
    inspect::send(&lab, load, 1)?;
    wait::until(PATIENCE, "delivery of the first message", || Ok((drain.messages() == 1).then_some(())))?;
    let before = usage::processes(&peer::processes(&lab)?)?;
    let began = wait::now();
    inspect::send(&lab, load, messages)?;
    let accepted = began.elapsed();
    wait::until(PATIENCE, "delivery of all messages", || Ok((drain.messages() > messages).then_some(())))?;
    let delivered = began.elapsed();
    let own = usage::processes(&peer::processes(&lab)?)?.saturating_sub(before);
    let count = number(messages)?;
    row.values.push(count / delivered.as_secs_f64());
    row.add(ACCEPTED, count / accepted.as_secs_f64());
    row.add(PROCESSES, own.as_secs_f64() * 1e6 / count);
    Ok(())
}

/// A gateway that takes what comes and brings it where its client meant it to go.
fn settings(lab: &Lab) -> Settings {
    let queue = lab.directory().join("gateway/queue");
    let more = format!("queue:\n  directory: {}\n  min-free: 1MiB\n", queue.display());
    Settings {
        limits: inspect::limits(),
        lanes: vec!["{client: [192.0.2.0/24], lane: relay, target: original}"],
        more,
        ..Settings::default()
    }
}
