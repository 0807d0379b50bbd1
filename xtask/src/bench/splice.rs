//! Octets that pass unread: what each way of moving them costs, beside plain forwarding.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::process::Daemon;
use gateway_tests::{process, wait};
use nix::unistd::Pid;

use super::bulk::{self, Session};
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
    Forwarding,
    Gateway(&'static str),
    Haproxy,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Forwarding,
        Self::Gateway("handoff"),
        Self::Gateway("splice"),
        Self::Gateway("copy"),
        Self::Haproxy,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Forwarding => "forwarding",
            Self::Gateway(engine) => engine,
            Self::Haproxy => "haproxy",
        }
    }
}

/// Measures single sessions, round by round.
pub(crate) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let (rounds, span) = if quick { (3, Duration::from_secs(1)) } else { (7, Duration::from_secs(4)) };
    let mut rows: Vec<_> = Way::ALL.iter().map(|way| Row::new(way.name())).collect();
    for round in 1..=rounds {
        for (way, row) in Way::ALL.iter().zip(&mut rows) {
            interrupt.check()?;
            if *way == Way::Haproxy && !super::is_there("haproxy") {
                bail!(
                    "haproxy is not there: `cargo xtask bench` installs it, unless XTASK_NO_PACKAGES is set"
                );
            }
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
    let means = Means::start(way, &lab, binary)?;
    let handed_off = || Ok(way != Way::Gateway("handoff") || sockets(&lab)? == 0);
    let session = Session::open(lab.client(), Family::V4.smtp(), handed_off)?;
    row.add(SOCKETS, number(sockets(&lab)?)?);
    let processes = means.processes()?;
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

/// What runs on the router.
enum Means {
    Nothing,
    Gateway(Gateway),
    Haproxy(Daemon),
}

impl Means {
    /// Its processes.
    fn processes(&self) -> anyhow::Result<Vec<Pid>> {
        Ok(match self {
            Self::Nothing => Vec::new(),
            Self::Gateway(gateway) => vec![gateway.daemon().pid(), gateway.proxy()?],
            Self::Haproxy(daemon) => vec![daemon.pid()],
        })
    }

    fn start(way: Way, lab: &Lab, binary: &Path) -> anyhow::Result<Self> {
        match way {
            Way::Forwarding => Ok(Self::Nothing),
            Way::Gateway(engine) => {
                let settings = Settings { splice: vec![("engine", engine)], ..Settings::default() };
                Gateway::start_binary(binary, lab, &settings, &[]).map(Self::Gateway)
            }
            Way::Haproxy => haproxy(lab).map(Self::Haproxy),
        }
    }
}

/// HAProxy as a TCP proxy that splices where it sees fit, reached by a redirect.
fn haproxy(lab: &Lab) -> anyhow::Result<Daemon> {
    let mut config = String::new();
    writeln!(config, "global\n    maxconn 100\ndefaults\n    mode tcp\n    option splice-auto")?;
    writeln!(config, "    timeout connect 5s\n    timeout client 60s\n    timeout server 60s")?;
    writeln!(config, "listen smtp\n    bind :10025\n    server smtp {}", Family::V4.smtp())?;
    let path = lab.directory().join("haproxy.cfg");
    fs::write(&path, config)?;
    let rules = "add table ip bench; \
                 add chain ip bench prerouting { type nat hook prerouting priority dstnat; }; \
                 add rule ip bench prerouting iifname lan0 tcp dport 25 redirect to :10025";
    process::done(lab.router().command("nft").arg(rules))?;
    let mut command = lab.router().command("haproxy");
    let daemon = Daemon::start("haproxy", lab.directory(), command.arg("-db").arg("-f").arg(path))?;
    wait::until(Duration::from_secs(10), "HAProxy's start", || {
        let listening = process::done(lab.router().command("ss").args(["-Hltn", "sport = :10025"]))?;
        Ok((!listening.trim().is_empty()).then_some(()))
    })?;
    Ok(daemon)
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
