//! New sessions: how many a second, and what the SYNs of a locked client cost.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::Settings;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::{process, wait};
use socket2::{Domain, Socket, Type};

use super::inspect;
use super::peer::{self, Means, Peer};
use super::report::{Fact, Report, Row};
use super::splice::number;
use super::usage;
use crate::interrupt::Interrupt;
use crate::say;

/// Of the processes alone that stand between client and server.
const PROCESSES: Fact = Fact { heading: "of processes", key: "process_cpu_microseconds_per_session" };
/// Of all processors; a SYN's sender is among what they do.
const MACHINE: Fact = Fact { heading: "CPU us", key: "cpu_microseconds_per_session" };
const PATIENCE: Duration = Duration::from_secs(30);
/// Threads that open sessions.
const CLIENTS: usize = 8;
/// Through whom sessions are opened.
const NEW: [Peer; 3] = [Peer::Forwarding, Peer::Gateway, Peer::Haproxy];
/// The row that a lock is compared with.
const RULE: &str = "nftables";

/// Sessions of a greeting and QUIT, and SYNs that nobody answers.
pub(super) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Vec<Report>> {
    let (rounds, sessions, syns) = if quick { (3, 2_000, 100_000) } else { (5, 12_000, 1_000_000) };
    let mut new = NEW.map(|peer| (peer, Row::within("new", peer.name())));
    let mut locked = [RULE, Peer::Gateway.name()].map(|name| Row::within("locked", name));
    for round in 1..=rounds {
        for (peer, row) in &mut new {
            interrupt.check()?;
            say::line(&format!("new sessions, round {round} of {rounds}: {}", peer.name()));
            open_many(*peer, binary, sessions, row)
                .with_context(|| format!("{} in round {round}", peer.name()))?;
        }
        for row in &mut locked {
            interrupt.check()?;
            say::line(&format!("SYNs of a locked client, round {round} of {rounds}: {}", row.name));
            knock(binary, syns, row).with_context(|| format!("{} in round {round}", row.name))?;
        }
    }
    let (new, locked) = (new.map(|(_, row)| row).into(), locked.into());
    Ok(vec![
        Report { family: "syn", unit: "sessions/s", yardstick: Peer::Haproxy.name(), rows: new },
        Report { family: "syn", unit: "SYNs/s", yardstick: RULE, rows: locked },
    ])
}

/// What a measurement of so many began with.
struct Start {
    count: usize,
    machine: Duration,
    processes: Duration,
    began: std::time::Instant,
}

impl Start {
    fn now(lab: &Lab, count: usize) -> anyhow::Result<Self> {
        let (machine, processes) = (usage::machine()?, usage::processes(&peer::processes(lab)?)?);
        Ok(Self { count, machine, processes, began: wait::now() })
    }

    fn end(self, lab: &Lab, row: &mut Row) -> anyhow::Result<()> {
        let count = number(self.count)?;
        row.values.push(count / self.began.elapsed().as_secs_f64());
        let each = |now: Duration, then| now.saturating_sub(then).as_secs_f64() * 1e6 / count;
        row.add(MACHINE, each(usage::machine()?, self.machine));
        row.add(PROCESSES, each(usage::processes(&peer::processes(lab)?)?, self.processes));
        Ok(())
    }
}

fn open_many(peer: Peer, binary: &Path, sessions: usize, row: &mut Row) -> anyhow::Result<()> {
    let lab = peer::lab()?;
    serve(&lab)?;
    let settings = Settings { limits: inspect::limits(), ..Settings::default() };
    let _running = peer.start(&lab, &Means { binary, settings: &settings, clamd_conf: None })?;
    lab.client().enter(|| greeted(Family::V4.smtp()))??;
    let start = Start::now(&lab, sessions)?;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let all = || (0..sessions / CLIENTS).try_for_each(|_| greeted(Family::V4.smtp()));
                    lab.client().enter(all)?
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().expect("does not panic"))
    })?;
    start.end(&lab, row)
}

/// A session that hears the greeting and leaves.
fn greeted(server: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::with_capacity(128, stream.try_clone()?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    ensure!(line.starts_with("220 "), "{line:?}");
    stream.write_all(b"QUIT\r\n")?;
    line.clear();
    lines.read_line(&mut line)?;
    ensure!(line.starts_with("221 "), "{line:?}");
    Ok(())
}

/// A server that greets and says farewell.
fn serve(lab: &Lab) -> anyhow::Result<()> {
    let listener = lab.server().enter(|| TcpListener::bind(Family::V4.smtp()))?.context("cannot listen")?;
    for _ in 0..CLIENTS {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut converse = || {
                    stream.write_all(b"220 server.example ESMTP\r\n")?;
                    BufReader::with_capacity(128, stream.try_clone()?).read_line(&mut String::new())?;
                    stream.write_all(b"221 Farewell\r\n")
                };
                // A session that breaks is noticed by its client.
                drop(converse());
            }
        });
    }
    Ok(())
}

/// Begins so many connections that nobody answers.
fn knock(binary: &Path, syns: usize, row: &mut Row) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let mut gateway = None;
    if row.name == RULE {
        let rules = "add table ip bench; \
                     add chain ip bench prerouting { type filter hook prerouting priority raw; }; \
                     add rule ip bench prerouting iifname lan0 tcp dport 25 drop";
        process::done(lab.router().command("nft").arg(rules))?;
    } else {
        let settings = Settings { limits: inspect::limits(), ..Settings::default() };
        let means = Means { binary, settings: &settings, clamd_conf: None };
        let running = Peer::Gateway.start(&lab, &means)?;
        let control = running.gateway.as_ref().context("no gateway")?.control();
        let mut lock = Command::new(binary);
        lock.args(["lock", "add", "192.0.2.0/24", "--action", "drop", "--socket"]).arg(control);
        process::done(&mut lock)?;
        gateway = Some(running);
    }
    let start = Start::now(&lab, syns)?;
    lab.client().enter(|| {
        (0..syns).try_for_each(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            let begun = socket.connect(&Family::V4.smtp().into());
            ensure!(
                begun.is_err_and(|error| error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32))
            );
            Ok(())
        })
    })??;
    start.end(&lab, row)?;
    drop(gateway);
    Ok(())
}

#[cfg(test)]
pub(super) fn names_of_rows() -> Vec<String> {
    let new = NEW.map(|peer| format!("syn.new.{}", peer.name()));
    new.into_iter().chain([RULE, Peer::Gateway.name()].map(|name| format!("syn.locked.{name}"))).collect()
}
