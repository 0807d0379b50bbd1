//! An SMTP server that keeps every octet it receives, and misbehaves when asked to.
//!
//! It takes the strictest reading of RFC 5321: only CRLF ends a line and only CRLF.CRLF ends a
//! message. What it holds is what a real server behind the gateway would have read. Any AUTH with an
//! initial response succeeds that it is not told to refuse. STARTTLS does, too, but it goes on in clear.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::message::END;
use crate::netns::Netns;
use crate::wait;

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Whether it greets at all.
    pub greets: bool,
    /// EHLO keywords, each one line of its answer.
    pub keywords: Vec<String>,
    /// MAIL, RCPT and AUTH commands that contain this are refused for good.
    pub refuses: Option<String>,
    /// Whether it reads after its 354.
    pub reads_text: bool,
}

impl Default for Manners {
    fn default() -> Self {
        let keywords = ["PIPELINING", "SIZE 52428800", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8"];
        Self { greets: true, keywords: keywords.map(str::to_owned).to_vec(), refuses: None, reads_text: true }
    }
}

/// One connection as the server saw it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Who connected.
    pub peer: IpAddr,
    /// Every octet received.
    pub received: Vec<u8>,
    /// Complete messages, as sent: with dot-stuffing after DATA, as they are after BDAT.
    pub messages: Vec<Vec<u8>>,
    /// Whether the other side is still there.
    pub open: bool,
}

impl Connection {
    /// How many command lines begin with this word.
    #[must_use]
    pub fn commands(&self, word: &str) -> usize {
        let text = String::from_utf8_lossy(&self.received);
        text.split("\r\n").filter(|line| line.starts_with(word)).count()
    }
}

type Shared = Arc<Mutex<Vec<Connection>>>;

/// A running recorder.
#[derive(Debug)]
pub struct Recorder {
    connections: Shared,
    stop: Arc<AtomicBool>,
}

impl Recorder {
    /// Listens at `address` inside `netns`.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub fn start(netns: &Netns, address: SocketAddr, manners: Manners) -> anyhow::Result<Self> {
        let listener = netns.listen(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let recorder = Self { connections: Shared::default(), stop: Arc::default() };
        let (connections, stop) = (Arc::clone(&recorder.connections), Arc::clone(&recorder.stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, peer)) => {
                        let (connections, stop, manners) =
                            (Arc::clone(&connections), Arc::clone(&stop), manners.clone());
                        thread::spawn(move || serve(stream, peer, &manners, &connections, &stop));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(recorder)
    }

    /// All connections so far, in the order of their coming.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many complete messages there are.
    #[must_use]
    pub fn count(&self) -> usize {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.iter().map(|connection| connection.messages.len()).sum()
    }

    /// All complete messages of all connections.
    #[must_use]
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.connections().into_iter().flat_map(|connection| connection.messages).collect()
    }

    /// Waits until every connection is closed by the other side; returns all of them.
    ///
    /// # Errors
    ///
    /// When one is open after `limit`, or none ever came.
    pub fn wait_closed(&self, limit: Duration) -> anyhow::Result<Vec<Connection>> {
        wait::until(limit, "close of the connections to the server", || {
            let connections = self.connections();
            let closed = !connections.is_empty() && connections.iter().all(|connection| !connection.open);
            Ok(closed.then_some(connections))
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One conversation; ends when the other side closes or the recorder stops.
fn serve(stream: TcpStream, peer: SocketAddr, manners: &Manners, connections: &Shared, stop: &AtomicBool) {
    let index = {
        let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = Connection {
            peer: peer.ip().to_canonical(),
            received: Vec::new(),
            messages: Vec::new(),
            open: true,
        };
        connections.push(connection);
        connections.len() - 1
    };
    let mut conversation = Conversation { stream, unread: Vec::new(), manners, connections, index, stop };
    conversation.run();
    conversation.note(|connection| connection.open = false);
}

struct Conversation<'a> {
    stream: TcpStream,
    unread: Vec<u8>,
    manners: &'a Manners,
    connections: &'a Shared,
    index: usize,
    stop: &'a AtomicBool,
}

impl Conversation<'_> {
    fn note(&self, change: impl FnOnce(&mut Connection)) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connections.get_mut(self.index) {
            change(connection);
        }
    }

    /// Follows the conversation to its end; `None` marks the end everywhere below.
    fn run(&mut self) -> Option<()> {
        // The answers to pipelined commands would wait for the acknowledgement of the first (Nagle).
        self.stream.set_nodelay(true).ok()?;
        self.stream.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
        if self.manners.greets {
            self.say("220 recorder.example ESMTP\r\n")?;
        }
        let mut chunks = Vec::new();
        loop {
            let line = self.take_until(b"\r\n")?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => self.say(&self.keywords())?,
                "DATA" => self.take_text()?,
                "BDAT" => {
                    let mut words = line.split(' ').skip(1);
                    let size = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                    chunks.extend(self.take(size)?);
                    if words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST")) {
                        let message = std::mem::take(&mut chunks);
                        self.note(|connection| connection.messages.push(message));
                    }
                    self.say("250 2.0.0 recorded\r\n")?;
                }
                "MAIL" if self.refuses(&line) => self.say("550 5.1.8 not from you\r\n")?,
                "RCPT" if self.refuses(&line) => self.say("550 5.1.1 no such user\r\n")?,
                "AUTH" if self.refuses(&line) => self.say("535 5.7.8 not you\r\n")?,
                "AUTH" => self.say("235 2.7.0 welcome\r\n")?,
                "STARTTLS" => self.say("220 2.0.0 go ahead\r\n")?,
                "RSET" => {
                    chunks.clear();
                    self.say("250 2.0.0 forgotten\r\n")?;
                }
                "QUIT" => {
                    self.say("221 2.0.0 bye\r\n")?;
                    return None;
                }
                _ => self.say("250 2.0.0 fine\r\n")?,
            }
        }
    }

    fn refuses(&self, line: &str) -> bool {
        self.manners.refuses.as_ref().is_some_and(|text| line.contains(text))
    }

    fn keywords(&self) -> String {
        let mut reply = String::new();
        let mut lines =
            std::iter::once("recorder.example").chain(self.manners.keywords.iter().map(String::as_str));
        let mut line = lines.next();
        while let Some(text) = line {
            line = lines.next();
            reply.push_str(if line.is_some() { "250-" } else { "250 " });
            reply.push_str(text);
            reply.push_str("\r\n");
        }
        reply
    }

    fn take_text(&mut self) -> Option<()> {
        self.say("354 go ahead\r\n")?;
        if !self.manners.reads_text {
            while !self.stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
            }
            return None;
        }
        let text = self.take_until(END)?;
        self.note(|connection| connection.messages.push(text));
        self.say("250 2.0.0 recorded\r\n")
    }

    fn say(&mut self, text: &str) -> Option<()> {
        self.stream.write_all(text.as_bytes()).ok()
    }

    /// What comes before the next `mark`, which is taken too.
    fn take_until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            let fresh = self.unread.get(searched..).unwrap_or_default();
            if let Some(found) = fresh.windows(mark.len()).position(|window| window == mark) {
                let mut taken: Vec<_> = self.unread.drain(..searched + found + mark.len()).collect();
                taken.truncate(searched + found);
                return Some(taken);
            }
            searched = self.unread.len().saturating_sub(mark.len() - 1);
            self.fill()?;
        }
    }

    fn take(&mut self, size: usize) -> Option<Vec<u8>> {
        while self.unread.len() < size {
            self.fill()?;
        }
        Some(self.unread.drain(..size).collect())
    }

    fn fill(&mut self) -> Option<()> {
        let count = wait::receive(&mut self.stream, &mut self.unread, self.stop)?;
        let fresh = self.unread.len().saturating_sub(count);
        let octets = self.unread.get(fresh..).unwrap_or_default();
        self.note(|connection| connection.received.extend_from_slice(octets));
        Some(())
    }
}
