//! An SMTP server that says what a script tells it to.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::netns::Netns;
use crate::wait;

/// How long a client has to close its side, where the server has closed its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server says in place of its polite replies: the beginning of a command, and the reply.
///
/// `connect` stands for the greeting and `.` for the end of the text; what begins with `again ` counts behind the first
/// text of a connection. The reply [`CLOSE`] closes the connection, [`HANG`] never comes; all others are sent as they
/// are, with CRLF behind.
pub type Script = &'static [(&'static str, &'static str)];

/// The connection is closed.
pub const CLOSE: &str = "(close)";
/// Nothing is said.
pub const HANG: &str = "(hang)";

/// A server until it is dropped.
#[derive(Debug)]
pub struct Scripted {
    stop: Arc<AtomicBool>,
}

impl Scripted {
    /// Starts one at `address` inside `netns`.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub fn start(netns: &Netns, address: SocketAddr, script: Script) -> anyhow::Result<Self> {
        let listener = netns.listen(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let scripted = Self { stop: Arc::clone(&stop) };
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let stop = Arc::clone(&stop);
                        thread::spawn(move || {
                            Conversation { stream, unread: Vec::new(), script, stop, again: false }.run()
                        });
                    }
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(scripted)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Conversation {
    stream: TcpStream,
    unread: Vec<u8>,
    script: Script,
    stop: Arc<AtomicBool>,
    /// A text has come to its end.
    again: bool,
}

impl Conversation {
    /// Follows the conversation; `None` marks its end everywhere below.
    fn run(mut self) -> Option<()> {
        self.stream.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
        self.answer("connect")?;
        loop {
            let line = self.line()?;
            let reply = self.answer(&line)?;
            if line.starts_with("QUIT") {
                return None;
            }
            if line.starts_with("DATA") && reply.starts_with('3') {
                while self.line()? != "." {}
                self.answer(".")?;
                self.again = true;
            }
        }
    }

    /// Answers a command as the script says, or politely.
    fn answer(&mut self, command: &str) -> Option<&'static str> {
        let scripted = self.script.iter().find(|(beginning, _)| {
            let later = beginning.strip_prefix("again ").filter(|_| self.again);
            command.starts_with(later.unwrap_or(beginning))
        });
        let reply = scripted.map_or_else(|| polite(command), |(_, reply)| *reply);
        match reply {
            CLOSE => {
                // Octets that are not read would make it a reset, which takes earlier replies with it.
                self.stream.shutdown(Shutdown::Write).ok()?;
                self.stream.set_read_timeout(Some(PATIENCE)).ok()?;
                while self.fill().is_some() {}
                None
            }
            HANG => {
                while !self.stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(50));
                }
                None
            }
            reply => {
                self.stream.write_all(format!("{reply}\r\n").as_bytes()).ok()?;
                Some(reply)
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.unread.drain(..end + 2).take(end).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Option<()> {
        wait::receive(&mut self.stream, &mut self.unread, &self.stop).map(drop)
    }
}

fn polite(command: &str) -> &'static str {
    match command.get(..4).unwrap_or(command) {
        "conn" => "220 scripted.example ESMTP",
        "EHLO" => "250-scripted.example\r\n250 8BITMIME",
        "HELO" => "250 scripted.example",
        "MAIL" => "250 2.1.0 Ok",
        "RCPT" => "250 2.1.5 Ok",
        "DATA" => "354 End data with <CR><LF>.<CR><LF>",
        "." => "250 2.0.0 Ok: queued as 12345",
        "QUIT" => "221 2.0.0 Bye",
        "RSET" | "NOOP" => "250 2.0.0 Ok",
        _ => "502 5.5.2 Error: command not recognized",
    }
}
