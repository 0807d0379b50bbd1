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

use super::bulk::{self, Session};
use super::report::{Report, Row};
use crate::interrupt::Interrupt;
use crate::say;

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
    let _means = Means::start(way, &lab, binary)?;
    let handed_off = || Ok(way != Way::Gateway("handoff") || sockets(&lab)? == 0);
    let session = Session::open(lab.client(), Family::V4.smtp(), handed_off)?;
    row.sockets = sockets(&lab)?;
    let before = busy()?;
    let (octets, took) = session.burst(span)?;
    let busy = busy()?.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "a measurement, not a sum of money")]
    let gigabytes = octets as f64 / 1e9;
    row.values.push(gigabytes * 8.0 / took.as_secs_f64());
    row.cpu.push(busy.as_secs_f64() / gigabytes);
    Ok(())
}

/// What runs on the router.
enum Means {
    Nothing,
    Gateway(#[expect(dead_code, reason = "kept running until dropped")] Gateway),
    Haproxy(#[expect(dead_code, reason = "kept running until dropped")] Daemon),
}

impl Means {
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
fn sockets(lab: &Lab) -> anyhow::Result<usize> {
    let list = process::done(lab.router().command("ss").args(["-Htn", "state", "established"]))?;
    Ok(list.lines().filter(|line| !line.trim().is_empty()).count())
}

/// Time that all processors have spent on anything but waiting (`proc_stat(5)`).
fn busy() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|&place: &usize| ticks.get(place)).sum();
    // A tick is a hundredth of a second for user space, whatever the kernel's own (USER_HZ).
    Ok(Duration::from_millis(busy * 10))
}
