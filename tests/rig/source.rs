//! A source of messages at a steady pace: each is due at its time, and few go over one connection.
//! Where the machine is too slow for that, they go as fast as it allows.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::client::Client;
use crate::netns::Netns;
use crate::wait;

/// Sessions that are open at the same time at most.
const WORKERS: usize = 32;
/// Messages of one session.
const SESSION: usize = 2;
/// The header field by which [`number`] knows a message.
const NUMBER: &str = "X-Number: ";
/// How long a thread may oversleep on a machine that does nothing else.
const PUNCTUAL: Duration = Duration::from_millis(200);

/// The number of a message of a [`Source`].
#[must_use]
pub fn number(message: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(message);
    text.lines().find_map(|line| line.strip_prefix(NUMBER)?.parse().ok())
}

/// Where messages come from, and where they go.
#[derive(Debug)]
pub struct Source<'a> {
    netns: &'a Netns,
    server: SocketAddr,
    per_second: u32,
    next: AtomicUsize,
    enough: AtomicBool,
    sent: Mutex<Vec<usize>>,
}

/// What a source has sent.
#[derive(Debug)]
pub struct Sent {
    /// The numbers of all messages that were accepted, in their order.
    pub numbers: Vec<usize>,
    /// How long it took.
    pub took: Duration,
    /// SYNs that were sent more than once.
    pub repeated_syns: u64,
    /// Whether the machine always had time for whoever was due.
    pub punctual: bool,
}

impl Sent {
    /// Messages a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        u32::try_from(self.numbers.len()).map_or(f64::INFINITY, f64::from) / self.took.as_secs_f64()
    }
}

impl<'a> Source<'a> {
    /// A source in `netns` of so many messages a second for `server`.
    #[must_use]
    pub fn new(netns: &'a Netns, server: SocketAddr, per_second: u32) -> Self {
        let (next, enough, sent) = Default::default();
        Self { netns, server, per_second, next, enough, sent }
    }

    /// Sends until [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// When a message is refused or its session fails; then no more are sent.
    pub fn run(&self) -> anyhow::Result<Sent> {
        let (began, repeated) = (wait::now(), self.repeated_syns()?);
        let watch = || {
            let mut punctual = true;
            while !self.is_over() {
                let slept = wait::now();
                thread::sleep(Duration::from_millis(20));
                punctual &= slept.elapsed() < PUNCTUAL;
            }
            punctual
        };
        let punctual = thread::scope(|scope| {
            let watch = scope.spawn(watch);
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| self.work(began))).collect();
            let worked: Vec<_> =
                workers.into_iter().map(|worker| worker.join().expect("does not panic")).collect();
            self.stop();
            worked.into_iter().collect::<Result<(), _>>()?;
            anyhow::Ok(watch.join().expect("does not panic"))
        })?;
        let mut numbers = self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        numbers.sort_unstable();
        let repeated_syns = self.repeated_syns()? - repeated;
        Ok(Sent { numbers, took: began.elapsed(), repeated_syns, punctual })
    }

    /// How many messages were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lets open sessions come to their end, and begins no other.
    pub fn stop(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    /// Whether no other session is begun.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    fn work(&self, began: Instant) -> anyhow::Result<()> {
        while !self.is_over() {
            let done = self.session(began);
            if done.is_err() {
                self.stop();
            }
            done?;
        }
        Ok(())
    }

    /// One session, which begins when its first message is due.
    fn session(&self, began: Instant) -> anyhow::Result<()> {
        let mut number = self.due(began)?;
        let (mut client, keywords) = Client::greeted(self.netns, self.server)?;
        ensure!(keywords.contains("PIPELINING"), "{keywords:?}");
        for left in (0..SESSION).rev() {
            send(&mut client, number).with_context(|| format!("message {number}"))?;
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            if left == 0 || self.is_over() {
                break;
            }
            number = self.due(began)?;
        }
        client.send(b"QUIT\r\n")?;
        client.expect(221).map(drop)
    }

    /// Waits until the next message is due.
    fn due(&self, began: Instant) -> anyhow::Result<usize> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_secs(1) / self.per_second * u32::try_from(number)?;
        thread::sleep(due.saturating_sub(began.elapsed()));
        Ok(number)
    }

    /// `TcpExtTCPSynRetrans` of the namespace.
    fn repeated_syns(&self) -> anyhow::Result<u64> {
        let text = self.netns.enter(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))??;
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("TcpExt:")).collect();
        let [names, values] = lines.as_slice() else { anyhow::bail!("{text}") };
        let mut both = names.split(' ').zip(values.split(' '));
        let (_, value) = both.find(|(name, _)| *name == "TCPSynRetrans").context("no TCPSynRetrans")?;
        Ok(value.parse()?)
    }
}

fn send(client: &mut Client, number: usize) -> anyhow::Result<()> {
    client.send(b"MAIL FROM:<sender@client.example>\r\nRCPT TO:<recipient@server.example>\r\nDATA\r\n")?;
    for code in [250, 250, 354] {
        client.expect(code)?;
    }
    client.send(format!("{NUMBER}{number}\r\n\r\n{}\r\n.\r\n", "text ".repeat(90)).as_bytes())?;
    client.expect(250).map(drop)
}
