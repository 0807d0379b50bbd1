//! Clients that go on sending messages whatever happens to the server, and remember what they were told of each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::ensure;

use crate::client::Client;
use crate::netns::Netns;

/// The header field by which [`id`] knows a message.
const ID: &str = "X-Attempt: ";
/// Messages of one session.
const PER_SESSION: usize = 20;
/// How long nobody is asked who was not there.
const PAUSE: Duration = Duration::from_millis(50);

/// The name of a message of [`Senders`]: each attempt to send one has its own.
#[must_use]
pub fn id(message: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    text.lines().find_map(|line| line.strip_prefix(ID)).map(str::to_owned)
}

/// What was said of messages.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Answered with 250.
    pub accepted: BTreeSet<String>,
    /// Their final dot may have been sent, and nothing was said of it.
    pub doubtful: BTreeSet<String>,
    /// Answered with something else, and the reply.
    pub refused: BTreeMap<String, String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It was answered with 250.
    Accepted,
    /// The reply.
    Refused(String),
    /// There was no connection, or it broke.
    Lost(String),
}

/// Clients in a namespace, and what they were told.
#[derive(Debug)]
pub struct Senders<'a> {
    netns: &'a Netns,
    server: SocketAddr,
    next: AtomicUsize,
    enough: AtomicBool,
    told: Mutex<Told>,
}

impl<'a> Senders<'a> {
    /// Clients of the server at `server`.
    #[must_use]
    pub fn new(netns: &'a Netns, server: SocketAddr) -> Self {
        Self {
            netns,
            server,
            next: AtomicUsize::new(0),
            enough: AtomicBool::new(false),
            told: Mutex::default(),
        }
    }

    /// What they were told so far.
    #[must_use]
    pub fn told(&self) -> Told {
        self.lock().clone()
    }

    /// How many messages were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.lock().accepted.len()
    }

    /// Sends no more, though messages are left.
    pub fn stop(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    /// Sends one message over a connection of its own.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered.
    pub fn send_one(&self) -> anyhow::Result<Attempt> {
        let name = format!("{}.0", self.next.fetch_add(1, Ordering::Relaxed));
        self.netns.enter(|| self.attempt(&mut None, &name))
    }

    /// Sends so many messages by so many clients at once, each message until it is accepted.
    ///
    /// # Errors
    ///
    /// When one is refused for good, or the namespace cannot be entered.
    pub fn run(&self, clients: usize, messages: usize) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..clients)
                .map(|_| scope.spawn(|| self.netns.enter(|| self.send_until_accepted(messages))?))
                .collect();
            clients.into_iter().try_for_each(|client| client.join().expect("does not panic"))
        })
    }

    fn send_until_accepted(&self, messages: usize) -> anyhow::Result<()> {
        let mut session = None;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= messages {
                return Ok(());
            }
            for attempt in 0.. {
                match self.attempt(&mut session, &format!("{number}.{attempt}")) {
                    Attempt::Accepted => break,
                    Attempt::Refused(reply) => ensure!(reply.starts_with('4'), "{number}: {reply}"),
                    Attempt::Lost(_) => {}
                }
                if self.enough.load(Ordering::Relaxed) {
                    return Ok(());
                }
                session = None;
                thread::sleep(PAUSE);
            }
        }
    }

    /// Sends a message over the session at hand, or over a new one.
    fn attempt(&self, session: &mut Option<(Client, usize)>, name: &str) -> Attempt {
        let open = session.take().map_or_else(|| Ok((open(self.server)?, 0)), anyhow::Ok);
        let (mut client, sent) = match open {
            Ok(open) => open,
            Err(error) => return Attempt::Lost(format!("{error:#}")),
        };
        let mut text_sent = false;
        let told = transact(&mut client, name, &mut text_sent);
        let mut all = self.lock();
        match told {
            Ok(reply) if reply.starts_with("250") => {
                all.accepted.insert(name.to_owned());
                drop(all);
                if sent + 1 < PER_SESSION {
                    *session = Some((client, sent + 1));
                } else {
                    // What comes of it is of no interest.
                    client.send(b"QUIT\r\n").and_then(|()| client.reply()).map(drop).unwrap_or_default();
                }
                Attempt::Accepted
            }
            Ok(reply) => {
                all.refused.insert(name.to_owned(), reply.clone());
                Attempt::Refused(reply)
            }
            Err(error) => {
                if text_sent {
                    all.doubtful.insert(name.to_owned());
                }
                Attempt::Lost(format!("{error:#}"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session up to where mail can be sent.
fn open(server: SocketAddr) -> anyhow::Result<Client> {
    let stream = std::net::TcpStream::connect_timeout(&server, Duration::from_secs(30))?;
    let mut client = Client::over(stream)?;
    client.expect(220)?;
    client.send(b"EHLO client.example\r\n")?;
    client.expect(250)?;
    Ok(client)
}

/// Sends a message; returns the first reply that is not the expected one, or the last.
fn transact(client: &mut Client, name: &str, text_sent: &mut bool) -> anyhow::Result<String> {
    client.send(b"MAIL FROM:<sender@client.example>\r\nRCPT TO:<recipient@server.example>\r\nDATA\r\n")?;
    let replies = [client.reply()?, client.reply()?, client.reply()?];
    if let Some(refusal) = replies.iter().find(|reply| reply.code >= 400) {
        return Ok(refusal.to_string());
    }
    *text_sent = true;
    let text =
        format!("{ID}{name}\r\nSubject: x\r\n\r\n{}\r\nthe end of {name}\r\n.\r\n", "text ".repeat(90));
    client.send(text.as_bytes())?;
    Ok(client.reply()?.to_string())
}
