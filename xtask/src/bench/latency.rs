//! How long the gateway holds a command, a reply and a message up.
//!
//! One session at a time, on an idle machine: this is delay, not load.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use gateway_tests::clamd::Clamd;
use gateway_tests::gateway::Settings;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::netns::Netns;
use gateway_tests::{message, wait};

use super::instant::Instant as Instantly;
use super::peer::{Means, Peer};
use super::report::{Fact, Report, Row, median};
use crate::interrupt::Interrupt;
use crate::say;

/// What the report is called, and what `--only` takes for it.
pub(super) const NAME: &str = "delay";
/// One in a hundred takes longer.
const P99: Fact = Fact { heading: "p99", key: "p99" };
const PEERS: [Peer; 3] = [Peer::Forwarding, Peer::Gateway, Peer::Haproxy];
/// The rows of scanners by themselves.
const SCANNER: &str = "scanner";
const PATIENCE: Duration = Duration::from_secs(30);
/// Groups of rows for commands by themselves.
const VERBS: [&str; 3] = ["mail", "rcpt", "data"];
const COMMANDS: [&str; VERBS.len()] =
    ["MAIL FROM:<a@client.example>\r\n", "RCPT TO:<b@server.example>\r\n", "DATA\r\n"];
/// Octets of a message's text.
const LENGTH: usize = 16 * 1024;

/// Commands, and the way of the final dot to the server: without a scanner, with one that answers at once, and
/// with clamd.
pub(super) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Vec<Report>> {
    let (rounds, messages) = if quick { (3, 100) } else { (7, 400) };
    let (mut rows, mut scanned): (Vec<Row>, Vec<Row>) = Default::default();
    for round in 1..=rounds {
        for peer in PEERS {
            interrupt.check()?;
            say::line(&format!("delays, round {round} of {rounds}: {}", peer.name()));
            let lab = Lab::new()?;
            let times = through(peer, &lab, binary, None, messages)?;
            for (verb, times) in VERBS.iter().zip(&times.commands) {
                add(&mut rows, verb, peer.name(), times);
            }
            add(&mut rows, "command", peer.name(), &times.commands.concat());
            add(&mut rows, "dot", peer.name(), &times.dots);
            add(&mut rows, "reply", peer.name(), &times.replies);
        }
        interrupt.check()?;
        say::line(&format!("delays, round {round} of {rounds}: with an instant scanner"));
        let lab = Lab::new()?;
        let instant = Instantly::start(lab.directory())?;
        scan(&mut scanned, "dot-instant", &lab, binary, instant.address(), messages)?;
        interrupt.check()?;
        say::line(&format!("delays, round {round} of {rounds}: with clamd"));
        let lab = Lab::new()?;
        let clamd = Clamd::start(&lab)?;
        scan(&mut scanned, "dot-clamd", &lab, binary, clamd.address(), messages)?;
    }
    let report = |yardstick, rows| Report { family: NAME, unit: "microseconds", yardstick, rows };
    Ok(vec![report(Peer::Forwarding.name(), rows), report(SCANNER, scanned)])
}

/// The way of the final dot past a scanner, beside the time that the scanner takes by itself.
fn scan(
    rows: &mut Vec<Row>,
    group: &str,
    lab: &Lab,
    binary: &Path,
    scanner: String,
    messages: usize,
) -> anyhow::Result<()> {
    let alone = (0..messages).map(|_| ask(&scanner)).collect::<anyhow::Result<Vec<_>>>()?;
    let times = through(Peer::Gateway, lab, binary, Some(scanner), messages)?;
    let reply = group.replace("dot", "reply");
    for (group, times) in [(group, &times.dots), (&reply, &times.replies)] {
        add(rows, group, SCANNER, &alone);
        add(rows, group, Peer::Gateway.name(), times);
    }
    Ok(())
}

/// Adds the median of one round.
fn add(rows: &mut Vec<Row>, group: &str, name: &str, times: &[f64]) {
    let place = rows.iter().position(|row| row.group == group && row.name == name);
    let place = place.unwrap_or_else(|| {
        rows.push(Row::within(group, name));
        rows.len() - 1
    });
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.get(sorted.len() * 99 / 100).or(sorted.last()).copied().unwrap_or(f64::NAN);
    if let Some(row) = rows.get_mut(place) {
        row.values.push(median(times));
        row.add(P99, last);
    }
}

/// In microseconds.
#[derive(Debug, Default)]
struct Times {
    /// From a command to its reply, for each of [`VERBS`].
    commands: [Vec<f64>; VERBS.len()],
    /// From the client's final dot to its arrival at the server.
    dots: Vec<f64>,
    /// From the client's final dot to the server's reply to it.
    replies: Vec<f64>,
}

/// Messages one after the other, in one session.
fn through(
    peer: Peer,
    lab: &Lab,
    binary: &Path,
    clamd: Option<String>,
    messages: usize,
) -> anyhow::Result<Times> {
    let (arrived, arrivals) = mpsc::channel();
    serve(lab.server(), Family::V4.smtp(), arrived)?;
    let settings = Settings { clamd, ..Settings::default() };
    let _running = peer.start(lab, &Means { binary, settings: &settings, clamd_conf: None })?;
    let mut session = Session::open(lab.client(), Family::V4.smtp())?;
    let mut times = Times::default();
    let text = text();
    // The first of all warms caches up and does not count.
    for count in 0..=messages {
        let Took { commands, dot, reply } = session.message(&text, &arrivals)?;
        if count > 0 {
            times.commands.iter_mut().zip(commands).for_each(|(times, took)| times.push(took));
            times.dots.push(dot);
            times.replies.push(reply);
        }
    }
    Ok(times)
}

/// A message without its final dot.
fn text() -> Vec<u8> {
    let mut text = message::large("delay", LENGTH, 1);
    while text.ends_with(b"\r\n") || text.ends_with(b"\r\n.") {
        text.pop();
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// What one message took, in microseconds.
struct Took {
    commands: Vec<f64>,
    dot: f64,
    reply: f64,
}

/// A client that waits for each reply.
struct Session {
    to: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Session {
    fn open(netns: &Netns, server: SocketAddr) -> anyhow::Result<Self> {
        let to = netns.enter(|| TcpStream::connect_timeout(&server, PATIENCE))?.context("cannot connect")?;
        to.set_nodelay(true)?;
        to.set_read_timeout(Some(PATIENCE))?;
        let lines = BufReader::new(to.try_clone()?);
        let mut session = Self { to, lines };
        session.reply()?;
        session.command("EHLO client.example\r\n")?;
        Ok(session)
    }

    /// Sends a message.
    fn message(&mut self, text: &[u8], arrivals: &Receiver<Instant>) -> anyhow::Result<Took> {
        let mut commands = Vec::new();
        for command in COMMANDS {
            let began = wait::now();
            self.command(command)?;
            commands.push(microseconds(began.elapsed()));
        }
        self.to.write_all(text)?;
        // The text has gone before: what is measured is the end of it.
        thread::sleep(Duration::from_millis(5));
        let sent = wait::now();
        self.to.write_all(b".\r\n")?;
        self.reply()?;
        let reply = microseconds(sent.elapsed());
        let arrived = arrivals.recv_timeout(PATIENCE).context("the server saw no end of the message")?;
        Ok(Took { commands, dot: microseconds(arrived.saturating_duration_since(sent)), reply })
    }

    fn command(&mut self, line: &str) -> anyhow::Result<()> {
        self.to.write_all(line.as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> anyhow::Result<()> {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line)?;
            ensure!(line.starts_with(['2', '3']), "{line:?}");
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(());
            }
        }
    }
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A server that tells when the last octet of a message has come.
fn serve(netns: &Netns, address: SocketAddr, arrived: Sender<Instant>) -> anyhow::Result<()> {
    let listener = netns.enter(|| TcpListener::bind(address))?.context("cannot listen")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let arrived = arrived.clone();
            // A session that breaks is noticed by its client.
            thread::spawn(move || drop(answer(&stream, &arrived)));
        }
    });
    Ok(())
}

fn answer(mut to: &TcpStream, arrived: &Sender<Instant>) -> anyhow::Result<()> {
    to.set_nodelay(true)?;
    let mut lines = BufReader::new(to.try_clone()?);
    to.write_all(b"220 server.example ESMTP\r\n")?;
    let (mut line, mut in_text) = (Vec::new(), false);
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if in_text && line != b".\r\n" {
            continue;
        }
        let reply: &[u8] = match (in_text, line.get(..4)) {
            (true, _) => {
                arrived.send(wait::now())?;
                b"250 2.0.0 Taken\r\n"
            }
            (false, Some(b"DATA")) => b"354 Go ahead\r\n",
            (false, Some(b"EHLO")) => b"250-server.example\r\n250 PIPELINING\r\n",
            (false, _) => b"250 2.0.0 Fine\r\n",
        };
        in_text = !in_text && line.starts_with(b"DATA");
        to.write_all(reply)?;
    }
}

/// How long a scanner needs for the message, from its end to the answer.
fn ask(scanner: &str) -> anyhow::Result<f64> {
    let mut stream = UnixStream::connect(scanner.strip_prefix("unix:").unwrap_or(scanner))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"zINSTREAM\0")?;
    let text = text();
    stream.write_all(&u32::try_from(text.len())?.to_be_bytes())?;
    stream.write_all(&text)?;
    thread::sleep(Duration::from_millis(5));
    let sent = wait::now();
    stream.write_all(&[0; 4])?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let took = sent.elapsed();
    ensure!(answer.starts_with(b"stream: OK"), "{}", String::from_utf8_lossy(&answer));
    Ok(microseconds(took))
}

#[cfg(test)]
pub(super) fn names_of_rows() -> Vec<String> {
    let groups = VERBS.into_iter().chain(["command", "dot", "reply"]);
    let mut names: Vec<_> =
        groups.flat_map(|group| PEERS.map(|peer| format!("delay.{group}.{}", peer.name()))).collect();
    for group in ["dot-instant", "reply-instant", "dot-clamd", "reply-clamd"] {
        names.extend([SCANNER, Peer::Gateway.name()].map(|name| format!("delay.{group}.{name}")));
    }
    names
}
