//! Messages through the inspect lane: how many a second, and what each costs, beside other proxies.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::clamd::Clamd;
use gateway_tests::gateway::Settings;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::wait;

use super::instant::Instant;
use super::peer::{self, Drain, Means, Peer};
use super::report::{Fact, Report, Row};
use super::splice::number;
use super::usage;
use crate::interrupt::Interrupt;
use crate::say;

/// Of all processes that a message needs: its sender and its recipient as well.
const ALL_SIDES: Fact = Fact { heading: "CPU us/message", key: "cpu_microseconds_per_message" };
/// Of the processes alone that stand between client and server.
const PROCESSES: Fact = Fact { heading: "of processes", key: "process_cpu_microseconds_per_message" };

/// Who looks at messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scanner {
    None,
    /// One that finds every message clean as soon as it is complete: the cost of asking alone.
    Instant,
    /// The real clamd.
    Clamd,
}

/// What is asked of a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    group: &'static str,
    /// Sessions at once.
    sessions: u16,
    /// Whether a session sends message after message, or ends after one.
    kept: bool,
    /// Octets of a message.
    octets: u32,
    scanner: Scanner,
    peers: &'static [Peer],
}

const SHORT: u32 = 4 * 1024;
const LONG: u32 = 1024 * 1024;
const PROXIES: &[Peer] = &[
    Peer::Forwarding,
    Peer::Gateway,
    Peer::Haproxy,
    Peer::HaproxyCopy,
    Peer::Nginx,
    Peer::ProxSmtp,
    Peer::Postfix,
];
const STREAMS: &[Peer] = &[Peer::Forwarding, Peer::Gateway, Peer::Haproxy, Peer::HaproxyCopy, Peer::Nginx];
/// HAProxy asks no scanner: it is there as the yardstick.
const SCANNING: &[Peer] = &[Peer::Haproxy, Peer::Gateway, Peer::ProxSmtp, Peer::PostfixFilter];
const FEW: &[Peer] = &[Peer::Forwarding, Peer::Gateway, Peer::Haproxy];

const fn load(group: &'static str, sessions: u16, kept: bool, peers: &'static [Peer]) -> Load {
    Load { group, sessions, kept, octets: SHORT, scanner: Scanner::None, peers }
}

const QUICK: &[Load] = &[
    load("new-64", 64, false, FEW),
    load("kept-64", 64, true, FEW),
    Load { scanner: Scanner::Instant, ..load("new-64-instant", 64, false, &[Peer::Haproxy, Peer::Gateway]) },
];

const ALL: &[Load] = &[
    load("new-8", 8, false, PROXIES),
    load("new-64", 64, false, PROXIES),
    load("new-256", 256, false, STREAMS),
    load("kept-8", 8, true, PROXIES),
    load("kept-64", 64, true, PROXIES),
    load("kept-256", 256, true, STREAMS),
    Load { octets: LONG, ..load("new-8-1mb", 8, false, STREAMS) },
    Load { octets: LONG, ..load("kept-8-1mb", 8, true, STREAMS) },
    Load { scanner: Scanner::Instant, ..load("new-64-instant", 64, false, &[Peer::Haproxy, Peer::Gateway]) },
    Load { scanner: Scanner::Clamd, ..load("new-8-clamd", 8, false, SCANNING) },
    Load { scanner: Scanner::Clamd, octets: LONG, ..load("new-8-1mb-clamd", 8, false, SCANNING) },
];

impl Load {
    /// What a profile is made of: 64 sessions at once, of one message each or `kept`.
    pub(super) const fn profiled(kept: bool) -> Self {
        load(if kept { "kept-64" } else { "new-64" }, 64, kept, &[Peer::Gateway])
    }

    /// The same with so many sessions at once.
    pub(super) const fn of_sessions(self, sessions: u16) -> Self {
        Self { sessions, ..self }
    }

    /// The same with messages of so many octets.
    pub(super) const fn of_octets(self, octets: u32) -> Self {
        Self { octets, ..self }
    }
}

/// Room for every load.
pub(super) fn limits() -> Vec<(&'static str, &'static str)> {
    vec![("sessions", "2000"), ("sessions-per-client", "2000")]
}

/// Measures every load, round by round, one peer after the other.
///
/// # Errors
///
/// Also when there is no load of the name that is asked for.
pub(super) fn run(
    binary: &Path,
    quick: bool,
    only: Option<&str>,
    interrupt: &Interrupt,
) -> anyhow::Result<Report> {
    let (rounds, span, loads) =
        if quick { (3, Duration::from_secs(1), QUICK) } else { (5, Duration::from_secs(3), ALL) };
    let wanted: Vec<_> = loads.iter().filter(|load| only.is_none_or(|only| load.group == only)).collect();
    ensure!(!wanted.is_empty(), "no such load; there are {}", names(loads));
    let mut rows = Vec::new();
    for load in wanted {
        let mut group: Vec<_> = load.peers.iter().map(|peer| Row::within(load.group, peer.name())).collect();
        for round in 1..=rounds {
            for (peer, row) in load.peers.iter().zip(&mut group) {
                interrupt.check()?;
                say::line(&format!("{}, round {round} of {rounds}: {}", load.group, peer.name()));
                let settings = Settings { limits: limits(), ..Settings::default() };
                measure(*load, *peer, binary, &settings, span, row)
                    .with_context(|| format!("{}, {} in round {round}", load.group, peer.name()))?;
            }
        }
        rows.append(&mut group);
    }
    Ok(Report { family: "inspect", unit: "messages/s", yardstick: Peer::Haproxy.name(), rows })
}

fn names(loads: &[Load]) -> String {
    loads.iter().map(|load| load.group).collect::<Vec<_>>().join(", ")
}

/// One peer on a network of its own, under one load; the gateway with these settings.
pub(super) fn measure(
    load: Load,
    peer: Peer,
    binary: &Path,
    settings: &Settings,
    span: Duration,
    row: &mut Row,
) -> anyhow::Result<()> {
    let lab = peer::lab()?;
    let drain = Drain::start(&lab)?;
    let clamd = (load.scanner == Scanner::Clamd).then(|| Clamd::start(&lab)).transpose()?;
    let instant = (load.scanner == Scanner::Instant).then(|| Instant::start(lab.directory())).transpose()?;
    let scanner = clamd.as_ref().map(Clamd::address).or_else(|| instant.as_ref().map(Instant::address));
    let settings = Settings { clamd: scanner, ..settings.clone() };
    let clamd_conf = clamd.as_ref().map(|_| lab.directory().join("clamd/clamd.conf"));
    let means = Means { binary, settings: &settings, clamd_conf: clamd_conf.as_deref() };
    let _running = peer.start(&lab, &means)?;
    // The first messages tell how many there must be to fill the span.
    let warm = usize::from(load.sessions) * 2;
    let took = send(&lab, load, warm)?;
    wait_for(&drain, warm)?;
    let messages = enough(warm, took, span, load);
    let ends = || Ok::<_, anyhow::Error>(usage::children()? + usage::processes(&[drain.pid()])?);
    let own = || usage::processes(&peer::processes(&lab)?);
    let before = (ends()?, own()?);
    let began = wait::now();
    send(&lab, load, messages)?;
    wait_for(&drain, warm + messages)?;
    let took = began.elapsed();
    let (ends, own) = (ends()?.saturating_sub(before.0), own()?.saturating_sub(before.1));
    let count = number(messages)?;
    row.values.push(count / took.as_secs_f64());
    row.add(ALL_SIDES, (ends + own).as_secs_f64() * 1e6 / count);
    row.add(PROCESSES, own.as_secs_f64() * 1e6 / count);
    Ok(())
}

/// Messages that take about `span` when so many took so long.
fn enough(messages: usize, took: Duration, span: Duration, load: Load) -> usize {
    /// A client has about 28,000 ports, each of which rests for a minute after its session.
    const PORTS: usize = 20_000;
    let spans = span.as_millis().checked_div(took.as_millis()).unwrap_or(1).max(1);
    let wanted = usize::try_from(spans).unwrap_or(1).saturating_mul(messages);
    if load.kept { wanted.min(20 * PORTS) } else { wanted.min(PORTS) }
}

/// Sends so many messages with Postfix's load generator, which fails when one is refused.
pub(super) fn send(lab: &Lab, load: Load, messages: usize) -> anyhow::Result<Duration> {
    let mut command = lab.client().command("timeout");
    command.args(["300", "smtp-source", "-f", "sender@client.example", "-t", "recipient@server.example"]);
    command.args(["-s", &load.sessions.to_string(), "-m", &messages.to_string()]);
    command.args(["-l", &load.octets.to_string()]);
    if load.kept {
        command.arg("-d");
    }
    command.arg(Family::V4.smtp().to_string()).stdin(Stdio::null());
    let began = wait::now();
    let output = command.output()?;
    let took = began.elapsed();
    ensure!(output.status.success(), "smtp-source: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(took)
}

/// Waits until all that was sent has arrived.
fn wait_for(drain: &Drain, messages: usize) -> anyhow::Result<()> {
    wait::until(Duration::from_secs(300), "delivery of all messages", || {
        Ok((drain.messages() >= messages).then_some(()))
    })
}
