//! Octets that pass unread: what each way of moving them costs, beside plain forwarding.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::gateway::Settings;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::process;
use nix::unistd::Pid;

use super::bulk::{self, Session};
use super::idle;
use super::peer::{self, Means, Peer, Running};
use super::report::{Fact, Report, Row};
use super::usage;
use crate::interrupt::Interrupt;
use crate::say;

/// Of the router, for the session.
const SOCKETS: Fact = Fact { heading: "sockets", key: "sockets" };
/// Of an idle session: user space and maps of eBPF.
const MEMORY: Fact = Fact { heading: "octets idle", key: "bytes_per_idle_session" };
/// Of all processors, for whatever they do: forwarding is nobody's process.
const MACHINE: Fact = Fact { heading: "CPU s/GB", key: "cpu_seconds_per_gigabyte" };
/// The same, beside what plain forwarding took in the same round.
const RELATIVE: Fact = Fact { heading: "CPU ratio", key: "cpu_ratio" };
/// Of the processes alone that stand between client and server.
const PROCESSES: Fact = Fact { heading: "of processes", key: "process_cpu_seconds_per_gigabyte" };

/// Idle sessions, to know what each keeps.
const IDLE: usize = 200;

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

    fn hands_off(self) -> bool {
        self == Self::Engine("handoff")
    }

    /// Starts it on the lab's router.
    fn start(self, lab: &Lab, binary: &Path) -> anyhow::Result<Running> {
        let (peer, splice) = match self {
            Self::Peer(peer) => (peer, Vec::new()),
            Self::Engine(engine) => (Peer::Gateway, vec![("engine", engine)]),
        };
        let settings = Settings { splice, limits: idle::limits(), ..Settings::default() };
        peer.start(lab, &Means { binary, settings: &settings, clamd_conf: None })
    }
}

/// Measures single sessions. All are open at once, each on a network of its own, and send in turn: what
/// the machine does beside comes and goes within one round.
pub(crate) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let (rounds, span) =
        if quick { (15, Duration::from_millis(250)) } else { (40, Duration::from_millis(500)) };
    let (mut ways, mut memory) = (Vec::new(), Vec::new());
    for way in Way::ALL {
        interrupt.check()?;
        say::line(&format!("a session by way of {}", way.name()));
        let mut open = Open::new(way, binary).with_context(|| way.name())?;
        let kept =
            idle::keep(&open.lab, &open.processes, way.hands_off(), IDLE).with_context(|| way.name())?;
        memory.push(kept.user + kept.maps);
        // What the first octets of all take is no round's.
        open.session.burst(span)?;
        ways.push(open);
    }
    say::line(&format!("{rounds} rounds of {} ms each", span.as_millis()));
    let mut rows: Vec<_> = Way::ALL.iter().map(|way| Row::new(way.name())).collect();
    for ((open, octets), row) in ways.iter().zip(memory).zip(&mut rows) {
        row.add(SOCKETS, number(sockets(&open.lab)?)?);
        row.add(MEMORY, octets);
    }
    for round in 0..rounds {
        interrupt.check()?;
        let mut turn: Vec<_> = ways.iter_mut().zip(&mut rows).collect();
        if round % 2 == 1 {
            turn.reverse();
        }
        for (open, row) in turn {
            open.measure(span, row).with_context(|| format!("{} in round {round}", row.name))?;
        }
        relate(&mut rows);
    }
    Ok(Report { family: "splice", unit: "Gbit/s", yardstick: "forwarding", rows })
}

/// Adds what each way took of the processors in the last round, beside what forwarding took.
fn relate(rows: &mut [Row]) {
    let last = |row: &Row| row.facts.iter().find(|(fact, _)| *fact == MACHINE)?.1.last().copied();
    let Some(forwarding) = rows.first().and_then(last) else { return };
    for row in rows {
        if let Some(own) = last(row) {
            row.add(RELATIVE, own / forwarding);
        }
    }
}

/// One session on a network of its own. Fields are dropped in order, the network last.
struct Open {
    session: Session,
    processes: Vec<Pid>,
    _running: Running,
    lab: Lab,
}

impl Open {
    fn new(way: Way, binary: &Path) -> anyhow::Result<Self> {
        let lab = Lab::new()?;
        for netns in [lab.client(), lab.router(), lab.server()] {
            // One that paces itself, as BBR does, measures its own clock and not the way.
            netns.sysctl("ipv4/tcp_congestion_control", "reno")?;
        }
        bulk::serve(lab.server(), Family::V4.smtp())?;
        let running = way.start(&lab, binary)?;
        let handed_off = || Ok(!way.hands_off() || sockets(&lab)? == 0);
        let session = Session::open(lab.client(), Family::V4.smtp(), handed_off)?;
        let processes = peer::processes(&lab)?;
        Ok(Self { session, processes, _running: running, lab })
    }

    fn measure(&mut self, span: Duration, row: &mut Row) -> anyhow::Result<()> {
        let before = (usage::machine()?, usage::processes(&self.processes)?);
        let (octets, took) = self.session.burst(span)?;
        let machine = usage::machine()?.saturating_sub(before.0);
        let own = usage::processes(&self.processes)?.saturating_sub(before.1);
        #[expect(clippy::cast_precision_loss, reason = "a measurement, not a sum of money")]
        let gigabytes = octets as f64 / 1e9;
        row.values.push(gigabytes * 8.0 / took.as_secs_f64());
        row.add(MACHINE, machine.as_secs_f64() / gigabytes);
        row.add(PROCESSES, own.as_secs_f64() / gigabytes);
        Ok(())
    }
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

#[cfg(test)]
pub(super) fn names_of_rows() -> Vec<String> {
    Way::ALL.iter().map(|way| format!("splice.{}", way.name())).collect()
}
