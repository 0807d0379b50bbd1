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
use super::latency;
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
    /// Sessions at once.
    sessions: u16,
    /// Whether a session sends message after message, or ends after one.
    kept: bool,
    /// Octets of a message.
    octets: u32,
    scanner: Scanner,
}

const SHORT: u32 = 4 * 1024;
const LONG: u32 = 1024 * 1024;
const SESSIONS: [u16; 3] = [8, 64, 256];
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
const PAIR: &[Peer] = &[Peer::Haproxy, Peer::Gateway];
/// What `--quick` measures.
const QUICK: [&str; 3] = ["new-64", "kept-64", "new-64-instant"];

/// Every load that a family of rows is measured under.
fn loads() -> Vec<Load> {
    let mut loads = Vec::new();
    for scanner in [Scanner::None, Scanner::Instant, Scanner::Clamd] {
        for octets in [SHORT, LONG] {
            for kept in [false, true] {
                loads.extend(SESSIONS.map(|sessions| Load { sessions, kept, octets, scanner }));
            }
        }
    }
    loads
}

impl Load {
    /// What a profile is made of: 64 sessions at once, of one message each or `kept`.
    pub(super) const fn profiled(kept: bool) -> Self {
        Self { sessions: 64, kept, octets: SHORT, scanner: Scanner::None }
    }

    /// The group of its rows: `new-64`, `kept-8-1mb-clamd`.
    fn group(&self) -> String {
        let kind = if self.kept { "kept" } else { "new" };
        let length = if self.octets == LONG { "-1mb" } else { "" };
        let scanner = match self.scanner {
            Scanner::None => "",
            Scanner::Instant => "-instant",
            Scanner::Clamd => "-clamd",
        };
        format!("{kind}-{}{length}{scanner}", self.sessions)
    }

    /// Who is measured under it: those that take a process for each session, few of these.
    fn peers(&self) -> &'static [Peer] {
        match self.scanner {
            Scanner::None if self.octets == SHORT && self.sessions <= 64 => PROXIES,
            Scanner::None => STREAMS,
            Scanner::Clamd if self.sessions == 8 => SCANNING,
            Scanner::Instant | Scanner::Clamd => PAIR,
        }
    }

    /// Messages that go before those that count.
    pub(super) fn warm(&self) -> usize {
        usize::from(self.sessions) * 2
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
    let (rounds, span) = if quick { (3, Duration::from_secs(2)) } else { (5, Duration::from_secs(3)) };
    let is_wanted = |load: &Load| match only {
        Some(only) => load.group() == only,
        None => !quick || QUICK.contains(&load.group().as_str()),
    };
    let wanted: Vec<_> = loads().into_iter().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no such load; there are {} and {}", names(), latency::NAME);
    let mut rows = Vec::new();
    for load in wanted {
        // A process for each session and another for each message: it takes longer than all others together.
        let left_out = |peer: &Peer| quick && only.is_none() && *peer == Peer::ProxSmtp;
        let peers: Vec<Peer> = load.peers().iter().copied().filter(|peer| !left_out(peer)).collect();
        let mut group: Vec<_> = peers.iter().map(|peer| Row::within(load.group(), peer.name())).collect();
        for round in 1..=rounds {
            for (peer, row) in peers.iter().zip(&mut group) {
                interrupt.check()?;
                say::line(&format!("{}, round {round} of {rounds}: {}", load.group(), peer.name()));
                let settings = Settings { limits: limits(), ..Settings::default() };
                measure(load, *peer, binary, &settings, span, row)
                    .with_context(|| format!("{}, {} in round {round}", load.group(), peer.name()))?;
            }
        }
        rows.append(&mut group);
    }
    Ok(Report { family: "inspect", unit: "messages/s", yardstick: Peer::Haproxy.name(), rows })
}

fn names() -> String {
    loads().iter().map(Load::group).collect::<Vec<_>>().join(", ")
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
    let warm = load.warm();
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
pub(super) fn enough(messages: usize, took: Duration, span: Duration, load: Load) -> usize {
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
pub(super) fn wait_for(drain: &Drain, messages: usize) -> anyhow::Result<()> {
    wait::until(Duration::from_secs(300), "delivery of all messages", || {
        Ok((drain.messages() >= messages).then_some(()))
    })
}

#[cfg(test)]
pub(super) fn names_of_rows() -> Vec<String> {
    let of =
        |load: Load| load.peers().iter().map(move |peer| format!("inspect.{}.{}", load.group(), peer.name()));
    loads().into_iter().flat_map(of).collect()
}
