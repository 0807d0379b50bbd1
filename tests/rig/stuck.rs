//! An SMTP server that hangs, breaks off or drips at one step of the conversation, and is polite before.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use socket2::SockRef;

use crate::netns::Netns;

/// Between two octets of a server that drips.
const DRIP: Duration = Duration::from_millis(200);

/// Where it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody takes the connection.
    Connect,
    /// In place of the greeting.
    Greeting,
    /// In place of the reply to EHLO or LHLO.
    Hello,
    /// In place of the reply to STARTTLS.
    StartTls,
    /// In the handshake.
    Handshake,
    /// In place of the reply to MAIL.
    Mail,
    /// In place of the reply to RCPT.
    Rcpt,
    /// In place of the reply to DATA.
    Data,
    /// While it should read the text.
    Text,
    /// In place of the reply to the text.
    EndOfData,
    /// In place of the reply to QUIT.
    Quit,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing moves any more.
    Hang,
    /// The connection is reset.
    Reset,
    /// Octets come or are taken one by one, and the reply never ends.
    Drip,
}

/// A server until it is dropped.
#[derive(Debug)]
pub struct Stuck {
    stop: Arc<AtomicBool>,
    /// They keep the backlog full, where nobody takes connections.
    _waiting: Vec<TcpStream>,
}

impl Stuck {
    /// Starts one at `address` inside `netns`. One that resets connections at [`Step::Connect`] does not listen.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub fn start(netns: &Netns, address: SocketAddr, step: Step, fault: Fault) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut stuck = Self { stop: Arc::clone(&stop), _waiting: Vec::new() };
        if step == Step::Connect && fault == Fault::Reset {
            return Ok(stuck);
        }
        let listener = netns.listen(address).with_context(|| format!("cannot listen on {address}"))?;
        if step == Step::Connect {
            stuck._waiting = fill_backlog(netns, &listener, address)?;
            thread::spawn(move || hang(&stop, &listener));
            return Ok(stuck);
        }
        listener.set_nonblocking(true)?;
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let stop = Arc::clone(&stop);
                        thread::spawn(move || Conversation { stream, step, fault, stop }.run());
                    }
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(stuck)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Fills the queue of connections that nobody has taken: SYNs beyond it are dropped.
fn fill_backlog(
    netns: &Netns,
    listener: &TcpListener,
    address: SocketAddr,
) -> anyhow::Result<Vec<TcpStream>> {
    SockRef::from(listener).listen(0)?;
    netns.enter(|| {
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500));
        std::iter::from_fn(|| connect().ok()).take(64).collect()
    })
}

fn hang<T>(stop: &AtomicBool, _kept: &T) {
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
    }
}

struct Conversation {
    stream: TcpStream,
    step: Step,
    fault: Fault,
    stop: Arc<AtomicBool>,
}

impl Conversation {
    /// Follows the conversation; `None` marks its end everywhere below.
    fn run(mut self) -> Option<()> {
        if self.step == Step::Text {
            // What the client has sent does not vanish into buffers.
            SockRef::from(&self.stream).set_recv_buffer_size(4_096).ok()?;
        }
        self.at(Step::Greeting, "220 stuck.example ESMTP\r\n")?;
        loop {
            let line = self.line()?;
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" | "LHLO" if matches!(self.step, Step::StartTls | Step::Handshake) => {
                    self.say("250-stuck.example\r\n250 STARTTLS\r\n")?;
                }
                "EHLO" | "LHLO" => self.at(Step::Hello, "250 stuck.example\r\n")?,
                "STAR" => {
                    self.at(Step::StartTls, "220 2.0.0 ready\r\n")?;
                    // The handshake begins with the client's hello.
                    self.octet()?;
                    self.go_wrong();
                    return None;
                }
                "MAIL" => self.at(Step::Mail, "250 2.1.0 ok\r\n")?,
                "RCPT" => self.at(Step::Rcpt, "250 2.1.5 ok\r\n")?,
                "DATA" => {
                    self.at(Step::Data, "354 go ahead\r\n")?;
                    if self.step == Step::Text {
                        self.octet()?;
                        self.go_wrong();
                        return None;
                    }
                    while self.line()? != "." {}
                    self.at(Step::EndOfData, "250 2.0.0 taken\r\n")?;
                }
                "QUIT" => {
                    self.at(Step::Quit, "221 2.0.0 bye\r\n")?;
                    return None;
                }
                _ => self.say("250 2.0.0 ok\r\n")?,
            }
        }
    }

    /// Says the reply of a step, or goes wrong.
    fn at(&mut self, step: Step, reply: &str) -> Option<()> {
        if step == self.step {
            self.go_wrong();
            return None;
        }
        self.say(reply)
    }

    fn go_wrong(&mut self) {
        match self.fault {
            Fault::Hang => hang(&self.stop, &()),
            Fault::Reset => {
                // Closed so, the connection is reset.
                SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap_or_default();
            }
            Fault::Drip => self.drip(),
        }
    }

    fn drip(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            thread::sleep(DRIP);
            let dripped = match self.step {
                Step::Text => self.octet().map(drop),
                // A record of the handshake that has no end.
                Step::Handshake => self.say("\u{16}\u{3}\u{3}@"),
                Step::Connect
                | Step::Greeting
                | Step::Hello
                | Step::StartTls
                | Step::Mail
                | Step::Rcpt
                | Step::Data
                | Step::EndOfData
                | Step::Quit => self.say("2"),
            };
            if dripped.is_none() {
                return;
            }
        }
    }

    fn say(&mut self, text: &str) -> Option<()> {
        self.stream.write_all(text.as_bytes()).ok()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.octet()?);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).ok()
    }

    /// Reads one octet: none more than is asked for is taken from the client.
    fn octet(&mut self) -> Option<u8> {
        let mut octet = [0];
        self.stream.read_exact(&mut octet).ok()?;
        let [octet] = octet;
        Some(octet)
    }
}
