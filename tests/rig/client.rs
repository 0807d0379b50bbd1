//! An SMTP client that sends exact octets in exact segments.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use std::{fmt, thread};

use anyhow::{Context as _, bail};

use crate::netns::Netns;
use crate::wait::Deadline;

/// How long a reply may take unless a test says otherwise.
const REPLY: Duration = Duration::from_secs(30);

/// A reply of a server: its code and its text, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// What follows the code and its separator on each line.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether some line of the text contains `text`.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" / "))
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Connects from inside `netns`; each write goes out at once.
    ///
    /// # Errors
    ///
    /// When nobody accepts within 30 s.
    pub fn connect(netns: &Netns, server: SocketAddr) -> anyhow::Result<Self> {
        let stream = netns
            .enter(|| TcpStream::connect_timeout(&server, Duration::from_secs(30)))?
            .with_context(|| format!("cannot connect to {server}"))?;
        Self::over(stream)
    }

    /// Takes a connection that is there already.
    ///
    /// # Errors
    ///
    /// When it cannot be set up.
    pub fn over(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Connects and takes part in the conversation up to the answer to EHLO.
    ///
    /// # Errors
    ///
    /// When the server does not greet with 220 or does not answer EHLO with 250.
    pub fn greeted(netns: &Netns, server: SocketAddr) -> anyhow::Result<(Self, Reply)> {
        let mut client = Self::connect(netns, server)?;
        client.expect(220)?;
        client.send(b"EHLO client.example\r\n")?;
        let keywords = client.expect(250)?;
        Ok((client, keywords))
    }

    /// Goes on to the 354 that answers DATA.
    ///
    /// # Errors
    ///
    /// When a command is refused.
    pub fn up_to_data(netns: &Netns, server: SocketAddr) -> anyhow::Result<Self> {
        let (mut client, _) = Self::greeted(netns, server)?;
        client.begin_data()?;
        Ok(client)
    }

    /// Sends MAIL with these parameters, and RCPT.
    ///
    /// # Errors
    ///
    /// When either is not accepted.
    pub fn envelope(&mut self, parameters: &str) -> anyhow::Result<()> {
        for command in
            [format!("MAIL FROM:<a@client.example>{parameters}"), "RCPT TO:<b@server.example>".into()]
        {
            self.send(format!("{command}\r\n").as_bytes())?;
            self.expect(250)?;
        }
        Ok(())
    }

    /// Sends one chunk (RFC 3030), the last one where `last` says so.
    ///
    /// # Errors
    ///
    /// When it cannot be sent.
    pub fn chunk(&mut self, octets: &[u8], last: bool) -> anyhow::Result<()> {
        let last = if last { " LAST" } else { "" };
        self.send(format!("BDAT {}{last}\r\n", octets.len()).as_bytes())?;
        self.send(octets)
    }

    /// Sends MAIL, RCPT and DATA, each after the reply to the one before.
    ///
    /// # Errors
    ///
    /// When a command is refused.
    pub fn begin_data(&mut self) -> anyhow::Result<()> {
        for (line, code) in [
            ("MAIL FROM:<sender@client.example>\r\n", 250),
            ("RCPT TO:<recipient@server.example>\r\n", 250),
            ("DATA\r\n", 354),
        ] {
            self.send(line.as_bytes())?;
            self.expect(code)?;
        }
        Ok(())
    }

    /// Sends octets, in one segment if they fit.
    ///
    /// # Errors
    ///
    /// When the connection is gone or takes nothing for a minute.
    pub fn send(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(octets).context("cannot send")
    }

    /// Sends octets as segments that end at `cuts`, which rise, with a pause between.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_cut(&mut self, octets: &[u8], cuts: &[usize], pause: Duration) -> anyhow::Result<()> {
        let mut start = 0;
        for &cut in cuts.iter().chain([&octets.len()]) {
            if let Some(segment) = octets.get(start..cut).filter(|segment| !segment.is_empty()) {
                self.send(segment)?;
                thread::sleep(pause);
            }
            start = cut;
        }
        Ok(())
    }

    /// Sends no more; the server's side stays open.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn half_close(&self) -> anyhow::Result<()> {
        self.stream.shutdown(Shutdown::Write).context("cannot half-close")
    }

    /// Reads one reply.
    ///
    /// # Errors
    ///
    /// When none is complete within 30 s, or what comes is not a reply.
    pub fn reply(&mut self) -> anyhow::Result<Reply> {
        self.reply_within(REPLY)
    }

    /// Reads one reply that may take some time.
    ///
    /// # Errors
    ///
    /// When none is complete within `limit`, or what comes is not a reply.
    pub fn reply_within(&mut self, limit: Duration) -> anyhow::Result<Reply> {
        let deadline = Deadline::after(limit);
        let mut lines = Vec::new();
        loop {
            let line = self.line(deadline)?;
            let (code, rest) = line.split_at_checked(3).with_context(|| format!("not a reply: {line:?}"))?;
            let code = code.parse().with_context(|| format!("not a reply: {line:?}"))?;
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if !rest.starts_with('-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Reads one reply, which has to have this code.
    ///
    /// # Errors
    ///
    /// When it has another: then with its text.
    pub fn expect(&mut self, code: u16) -> anyhow::Result<Reply> {
        let reply = self.reply()?;
        if reply.code != code {
            bail!("expected {code}, got {reply}");
        }
        Ok(reply)
    }

    /// Reads until the server closes; returns what came.
    ///
    /// # Errors
    ///
    /// When the server keeps the connection open longer than `limit`.
    pub fn rest(&mut self, limit: Duration) -> anyhow::Result<Vec<u8>> {
        let deadline = Deadline::after(limit);
        while self.fill(deadline)? {}
        Ok(std::mem::take(&mut self.unread))
    }

    fn line(&mut self, deadline: Deadline) -> anyhow::Result<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.unread.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).context("a reply that is not text");
            }
            if !self.fill(deadline)? {
                bail!("closed in place of a reply, after {:?}", String::from_utf8_lossy(&self.unread));
            }
        }
    }

    /// Reads once; false at the end. A reset counts as an end: what came before it was read.
    fn fill(&mut self, deadline: Deadline) -> anyhow::Result<bool> {
        if deadline.passed() {
            bail!("no reply in time");
        }
        self.stream.set_read_timeout(Some(deadline.left().max(Duration::from_millis(1))))?;
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.unread.extend_from_slice(buffer.get(..count).unwrap_or_default());
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            // A read with a time limit is not taken up again after a signal (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("no reply in time")
            }
            Err(error) => Err(error).context("cannot read"),
        }
    }
}
