//! Sessions of the inspect lane that have greeted and fall silent: what each takes in user space.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

use super::peer::{self, Means, Peer};
use super::report::{Report, Row};
use super::splice::number;
use super::usage;
use crate::interrupt::Interrupt;
use crate::say;

/// Sessions by which a group is known.
const FULL: [usize; 4] = [1_000, 5_000, 10_000, 50_000];
/// Sessions that are there before the first measurement: what the first of all costs is no session's.
const BEFORE: usize = 100;
/// Sessions of one client address: its ports, with some to spare.
const OF_AN_ADDRESS: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures sessions by the thousand, the gateway's beside HAProxy's.
pub(super) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let (rounds, sizes) = if quick { (1, FULL.get(..1)) } else { (3, FULL.get(..)) };
    let room = room()?;
    let mut rows = Vec::new();
    for &sessions in sizes.unwrap_or_default() {
        if sessions > room {
            say::line(&format!(
                "{sessions} sessions are left out: this system lets a process open too few files"
            ));
            continue;
        }
        let group = format!("inspect-{sessions}");
        let mut pair = [Peer::Haproxy, Peer::Gateway].map(|peer| (peer, Row::within(&group, peer.name())));
        for round in 1..=rounds {
            for (peer, row) in &mut pair {
                interrupt.check()?;
                say::line(&format!("{group}, round {round} of {rounds}: {}", peer.name()));
                let octets = measure(*peer, binary, sessions)
                    .with_context(|| format!("{group}, {} in round {round}", peer.name()))?;
                row.values.push(octets);
            }
        }
        rows.extend(pair.map(|(_, row)| row));
    }
    let unit = "octets of user space a session";
    Ok(Report { family: "idle", unit, yardstick: Peer::Haproxy.name(), rows })
}

/// A gateway in which so many sessions are silent, and their ends.
pub(super) fn gather(
    lab: &Lab,
    binary: &Path,
    sessions: usize,
) -> anyhow::Result<(Gateway, Server, Vec<TcpStream>)> {
    ensure!(sessions <= room()?, "this system lets a process open too few files");
    let server = Server::start(lab)?;
    let gateway = Gateway::start_binary(binary, lab, &settings(), &[])?;
    let opened = open(lab, 0, sessions)?;
    Ok((gateway, server, opened))
}

fn settings() -> Settings {
    let limits = vec![("sessions", "60000"), ("sessions-per-client", "60000")];
    let timeouts = vec![("command", "1h"), ("session", "1h")];
    Settings { limits, timeouts, ..Settings::default() }
}

fn measure(peer: Peer, binary: &Path, sessions: usize) -> anyhow::Result<f64> {
    let lab = Lab::new()?;
    for number in 1..=sessions / OF_AN_ADDRESS {
        lab.client().ip(&format!("address add {}/24 dev eth0", client(number)?))?;
    }
    let _server = Server::start(&lab)?;
    let settings = settings();
    let means = Means { binary, settings: &settings, clamd_conf: None };
    let _running = peer.start(&lab, &means)?;
    let _first = open(&lab, 0, BEFORE)?;
    let processes = peer::processes(&lab)?;
    let before = usage::memory(&processes)?;
    let _others = open(&lab, BEFORE, sessions)?;
    let after = usage::memory(&processes)?;
    let more = after.saturating_sub(before);
    Ok(number(usize::try_from(more)?)? / number(sessions)?)
}

/// Opens so many sessions, one after the other.
fn open(lab: &Lab, begin: usize, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    lab.client().enter(|| (begin..begin + count).map(|place| silent(place / OF_AN_ADDRESS)).collect())?
}

/// The client's address of this number; its first is the one it has anyway.
fn client(number: usize) -> anyhow::Result<Ipv4Addr> {
    let IpAddr::V4(first) = Family::V4.client() else { anyhow::bail!("the client has no IPv4 address") };
    Ok(Ipv4Addr::from_bits(first.to_bits() + u32::try_from(number)? * 8))
}

/// A session that has greeted, and says no more.
fn silent(address: usize) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((client(address)?, 0)).into())?;
    socket.connect_timeout(&Family::V4.smtp().into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::with_capacity(128, &stream);
    for command in ["", "EHLO client.example\r\n"] {
        (&stream).write_all(command.as_bytes())?;
        let mut line = String::new();
        lines.read_line(&mut line)?;
        ensure!(line.starts_with("2"), "{line:?}");
    }
    Ok(stream)
}

/// A server for silent sessions: it answers the one command that each has, and keeps them all until it is dropped.
pub(super) struct Server {
    listener: TcpListener,
    kept: Option<JoinHandle<Vec<TcpStream>>>,
}

impl Server {
    fn start(lab: &Lab) -> anyhow::Result<Self> {
        let listener =
            lab.server().enter(|| TcpListener::bind(Family::V4.smtp()))?.context("cannot listen")?;
        let theirs = listener.try_clone()?;
        let keep = move || {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = theirs.accept() {
                let mut greet = || {
                    stream.write_all(b"220 server.example ESMTP\r\n")?;
                    BufReader::with_capacity(128, stream.try_clone()?).read_line(&mut String::new())?;
                    stream.write_all(b"250 server.example\r\n")
                };
                // A session that breaks is noticed by its client.
                if greet().is_ok() {
                    kept.push(stream);
                }
            }
            kept
        };
        Ok(Self { listener, kept: Some(thread::spawn(keep)) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever waits for the next connection is told that there is none.
        SockRef::from(&self.listener).shutdown(Shutdown::Both).ok();
        if let Some(kept) = self.kept.take() {
            kept.join().ok();
        }
    }
}

/// Lets this process open as many files as it may, and returns for how many sessions that is enough:
/// each has a socket at the client and one at the server, both here, and two in the gateway.
fn room() -> anyhow::Result<usize> {
    /// Files of whatever else there is.
    const OTHERS: u64 = 1_000;
    /// More than the largest group needs.
    const WANTED: u64 = 150_000;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Raising the hard limit takes CAP_SYS_RESOURCE, which root in a container may lack.
    let raised = setrlimit(Resource::RLIMIT_NOFILE, WANTED.max(hard), WANTED.max(hard)).is_ok();
    let most = if raised { WANTED.max(hard) } else { hard };
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the number of open files")?;
    Ok(usize::try_from(most.saturating_sub(OTHERS) / 2)?)
}

#[cfg(test)]
pub(super) fn names_of_rows() -> Vec<String> {
    let pair = [Peer::Haproxy, Peer::Gateway];
    FULL.iter()
        .flat_map(|sessions| pair.map(|peer| format!("idle.inspect-{sessions}.{}", peer.name())))
        .collect()
}
