//! A client and a server that turn to "TLS" and then move octets as fast as they can.
//!
//! After the server's 220 nobody reads what passes, so plain octets do as well as encrypted ones. Each
//! burst is answered once all of it has arrived. While octets flow, client and server have a processor
//! each: which of the two a thread happens to be on makes more of a difference than what is measured.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use gateway_tests::netns::Netns;
use gateway_tests::wait;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Octets written at once.
const BLOCK: usize = 256 * 1024;
/// Between two words of the dialogue before the burst; a handoff waits for a quiet moment in it.
const PAUSE: Duration = Duration::from_millis(20);
/// The octet after which bursts come.
const BURST: u8 = b'B';
/// The first octet of each block of a burst.
const MORE: u8 = 0;
/// The first octet of the last block.
const LAST: u8 = 1;
const PATIENCE: Duration = Duration::from_secs(60);

/// A server for as many sessions as come; its thread ends with the process.
pub(crate) fn serve(netns: &Netns, address: SocketAddr) -> anyhow::Result<()> {
    let listener = netns.enter(|| TcpListener::bind(address))?.context("cannot listen")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A session that breaks is noticed by its client.
            thread::spawn(move || drop(answer(stream)));
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 bulk ESMTP\r\n")?;
    let mut lines = BufReader::with_capacity(512, stream.try_clone()?);
    let mut line = String::new();
    for reply in ["250-bulk\r\n250 STARTTLS\r\n", "220 Go ahead\r\n"] {
        line.clear();
        lines.read_line(&mut line)?;
        stream.write_all(reply.as_bytes())?;
    }
    let mut word = [0];
    while word[0] != BURST {
        lines.read_exact(&mut word)?;
        stream.write_all(&word)?;
    }
    stay_on(Place::Server)?;
    let mut block = vec![0; BLOCK];
    let mut octets = 0u64;
    loop {
        stream.read_exact(&mut block)?;
        octets += u64::try_from(BLOCK)?;
        if block.first() == Some(&LAST) {
            stream.write_all(&octets.to_be_bytes())?;
            octets = 0;
        }
    }
}

/// Whose thread it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Client,
    Server,
}

/// Keeps this thread on the first processor there is, or on the last.
fn stay_on(place: Place) -> anyhow::Result<()> {
    let mine = sched_getaffinity(Pid::from_raw(0))?;
    let mut there = (0..CpuSet::count()).filter(|&number| mine.is_set(number).unwrap_or(false));
    let chosen = if place == Place::Client { there.next() } else { there.next_back() };
    let mut only = CpuSet::new();
    only.set(chosen.context("no processor")?)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &only)?)
}

/// A session that is past STARTTLS, with some dialogue behind it.
pub(crate) struct Session(TcpStream);

impl Session {
    /// Opens one, and has it speak until it is `ready`, at most [`PATIENCE`].
    pub(crate) fn open(
        netns: &Netns,
        server: SocketAddr,
        ready: impl Fn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<Self> {
        let stream =
            netns.enter(|| TcpStream::connect_timeout(&server, PATIENCE))?.context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::with_capacity(512, stream.try_clone()?);
        let mut to = &stream;
        for (command, replies) in [("", 1), ("EHLO client.example\r\n", 2), ("STARTTLS\r\n", 1)] {
            to.write_all(command.as_bytes())?;
            for _ in 0..replies {
                lines.read_line(&mut String::new())?;
            }
        }
        let mut say = |word: u8| {
            thread::sleep(PAUSE);
            to.write_all(&[word])?;
            let mut answer = [0];
            lines.read_exact(&mut answer)?;
            ensure!(answer == [word], "the session is out of step");
            anyhow::Ok(())
        };
        wait::until(PATIENCE, "readiness of the session", || {
            say(b'p')?;
            Ok(ready()?.then_some(()))
        })?;
        say(BURST)?;
        Ok(Self(stream))
    }

    /// Moves octets for `span`; returns how many arrived and how long it took until the last one had.
    pub(crate) fn burst(&mut self, span: Duration) -> anyhow::Result<(u64, Duration)> {
        thread::scope(|scope| {
            scope.spawn(|| self.send(span)).join().map_err(|_| anyhow!("the burst panicked"))?
        })
    }

    /// On a thread of its own, which stays on its processor until it ends.
    fn send(&mut self, span: Duration) -> anyhow::Result<(u64, Duration)> {
        stay_on(Place::Client)?;
        let block = |first| {
            let mut block = vec![0x5a; BLOCK];
            block[0] = first;
            block
        };
        let (more, last) = (block(MORE), block(LAST));
        let start = wait::now();
        let mut sent = u64::try_from(BLOCK)?;
        while start.elapsed() < span {
            self.0.write_all(&more)?;
            sent += u64::try_from(BLOCK)?;
        }
        self.0.write_all(&last)?;
        let mut arrived = [0; 8];
        self.0.read_exact(&mut arrived)?;
        let took = start.elapsed();
        let arrived = u64::from_be_bytes(arrived);
        ensure!(arrived == sent, "{sent} octets were sent and {arrived} arrived");
        Ok((arrived, took))
    }
}
