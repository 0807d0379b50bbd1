//! Mail that is taken and brought: how much a second is on stable storage, and how much is delivered,
//! beside Postfix on the same disk.
//!
//! The family `relay` is the first half alone: nobody is there who would take the mail, and it stays in the
//! queue.

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
/// The loads by name.
const GROUPS: [&str; 3] = ["new-64", "kept-64", "new-8-1mb"];
const PATIENCE: Duration = Duration::from_secs(300);

/// How far mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Into the queue.
    Accepted,
    /// To its server.
    Delivered,
}

/// Measures every load, round by round, Postfix and the gateway in turn.
pub(super) fn run(until: Until, binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let (rounds, messages) = if quick { (3, 1_000) } else { (5, 5_000) };
    let new = Load::profiled(false);
    let loads = [
        (new, messages),
        (Load::profiled(true), messages),
        (new.of_sessions(8).of_octets(1024 * 1024), messages / 20),
    ];
    let mut rows = Vec::new();
    for (group, (load, messages)) in GROUPS.into_iter().zip(loads) {
        let mut group_rows = PEERS.map(|peer| Row::within(group, peer.name()));
        for round in 1..=rounds {
            for (peer, row) in PEERS.iter().zip(&mut group_rows) {
                interrupt.check()?;
                say::line(&format!("{group}, round {round} of {rounds}: {}", peer.name()));
                measure(until, load, *peer, binary, messages, row)
                    .with_context(|| format!("{group}, {} in round {round}", peer.name()))?;
            }
        }
        rows.extend(group_rows);
    }
    let (family, unit) = match until {
        Until::Accepted => ("relay", "messages accepted/s"),
        Until::Delivered => ("delivery", "messages delivered/s"),
    };
    Ok(Report { family, unit, yardstick: Peer::Postfix.name(), rows })
}

fn measure(
    until: Until,
    load: Load,
    peer: Peer,
    binary: &Path,
    messages: usize,
    row: &mut Row,
) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let drain = (until == Until::Delivered).then(|| Drain::start(&lab)).transpose()?;
    let arrival = |count: usize, what: &str| match &drain {
        Some(drain) => wait::until(PATIENCE, what, || Ok((drain.messages() >= count).then_some(()))),
        None => Ok(()),
    };
    let settings = settings(&lab);
    let _running = peer.start(&lab, &Means { binary, settings: &settings, clamd_conf: None })?;
    // The first message of all starts processes and makes files.
    inspect::send(&lab, load, 1)?;
    arrival(1, "delivery of the first message")?;
    let before = usage::processes(&peer::processes(&lab)?)?;
    let began = wait::now();
    inspect::send(&lab, load, messages)?;
    let accepted = began.elapsed();
    arrival(1 + messages, "delivery of all messages")?;
    let delivered = began.elapsed();
    let own = usage::processes(&peer::processes(&lab)?)?.saturating_sub(before);
    let count = number(messages)?;
    row.values.push(count / delivered.as_secs_f64());
    if until == Until::Delivered {
        row.add(ACCEPTED, count / accepted.as_secs_f64());
    }
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

#[cfg(test)]
pub(super) fn names_of_rows() -> Vec<String> {
    let groups = |family: &'static str| {
        GROUPS
            .into_iter()
            .flat_map(move |group| PEERS.map(|peer| format!("{family}.{group}.{}", peer.name())))
    };
    groups("relay").chain(groups("delivery")).collect()
}
