//! Octets that pass unread: what each way of moving them costs, beside plain forwarding.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::gateway::Settings;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::process;

use super::bulk::{self, Session};
use super::peer::{self, Means, Peer, Running};
use super::report::{Fact, Report, Row};
use super::usage;
use crate::interrupt::Interrupt;
use crate::say;

/// Of the router, for the session.
const SOCKETS: Fact = Fact { heading: "sockets", key: "sockets" };
/// Of all processors, for whatever they do: forwarding is nobody's process.
const MACHINE: Fact = Fact { heading: "CPU s/GB", key: "cpu_seconds_per_gigabyte" };
/// Of the processes alone that stand between client and server.
const PROCESSES: Fact = Fact { heading: "of processes", key: "process_cpu_seconds_per_gigabyte" };

/// Ways through the router, in the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Peer(Peer),
    Engine(&'static str),
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Peer(Peer::Forwarding),
        Self::Engine("handoff"),
        Self::Engine("splice"),
        Self::Engine("copy"),
        Self::Peer(Peer::Haproxy),
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Peer(peer) => peer.name(),
            Self::Engine(engine) => engine,
        }
    }

    /// Starts it on the lab's router.
    fn start(self, lab: &Lab, binary: &Path) -> anyhow::Result<Running> {
        let (peer, splice) = match self {
            Self::Peer(peer) => (peer, Vec::new()),
            Self::Engine(engine) => (Peer::Gateway, vec![("engine", engine)]),
        };
        let settings = Settings { splice, ..Settings::default() };
        peer.start(lab, &Means { binary, settings: &settings, clamd_conf: None })
    }
}

/// Measures single sessions, round by round.
pub(crate) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let (rounds, span) = if quick { (3, Duration::from_secs(1)) } else { (7, Duration::from_secs(4)) };
    let mut rows: Vec<_> = Way::ALL.iter().map(|way| Row::new(way.name())).collect();
    for round in 1..=rounds {
        for (way, row) in Way::ALL.iter().zip(&mut rows) {
            interrupt.check()?;
            say::line(&format!("round {round} of {rounds}: {}", way.name()));
            measure(*way, binary, span, row).with_context(|| format!("{} in round {round}", way.name()))?;
        }
    }
    Ok(Report { family: "splice", unit: "Gbit/s", yardstick: "forwarding", rows })
}

/// One session on a network of its own.
fn measure(way: Way, binary: &Path, span: Duration, row: &mut Row) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    bulk::serve(lab.server(), Family::V4.smtp())?;
    let _running = way.start(&lab, binary)?;
    let handed_off = || Ok(way != Way::Engine("handoff") || sockets(&lab)? == 0);
    let session = Session::open(lab.client(), Family::V4.smtp(), handed_off)?;
    row.add(SOCKETS, number(sockets(&lab)?)?);
    let processes = peer::processes(&lab)?;
    let before = (usage::machine()?, usage::processes(&processes)?);
    let (octets, took) = session.burst(span)?;
    let machine = usage::machine()?.saturating_sub(before.0);
    let own = usage::processes(&processes)?.saturating_sub(before.1);
    #[expect(clippy::cast_precision_loss, reason = "a measurement, not a sum of money")]
    let gigabytes = octets as f64 / 1e9;
    row.values.push(gigabytes * 8.0 / took.as_secs_f64());
    row.add(MACHINE, machine.as_secs_f64() / gigabytes);
    row.add(PROCESSES, own.as_secs_f64() / gigabytes);
    Ok(())
}

/// TCP connections of the router.
pub(super) fn sockets(lab: &Lab) -> anyhow::Result<usize> {
    let list = process::done(lab.router().command("ss").args(["-Htn", "state", "established"]))?;
    Ok(list.lines().filter(|line| !line.trim().is_empty()).count())
}

/// A small number as one that is measured.
pub(super) fn number(count: usize) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}
