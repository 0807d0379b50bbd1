//! A server that does what its script says, and notes what it reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gateway::clock;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(90);
/// How long a session waits for another beside it.
const MEETING: Duration = Duration::from_secs(6);

/// What a server does.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// Where it is; empty: at an address of its own, 127.0.0.1 for the first.
    pub(super) address: &'static str,
    /// Its first line; empty: it never says it.
    pub(super) greeting: &'static str,
    /// So many sessions with all servers are turned away first.
    pub(super) busy: usize,
    /// What it announces behind EHLO.
    pub(super) keywords: &'static [&'static str],
    /// Beginnings of commands, and what they are answered with. Empty: nothing. `close`: it leaves. `stall`: 354, and it
    /// reads no more. `meet`: 250, when two sessions wait for it, or nobody came; `meet later`: the same, but the first has it at once. `sockets`: 250, and a note of the
    /// client's buffers. `linger`: 221, when the client has left, or after a while.
    pub(super) replies: &'static [(&'static str, &'static str)],
    /// STARTTLS is offered.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// It takes no connection.
    pub(super) full: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            address: "",
            greeting: "220 mx.test ESMTP",
            busy: 0,
            keywords: &["SIZE", "8BITMIME"],
            replies: &[],
            tls: None,
            full: false,
        }
    }
}

/// Servers at one port: at 127.0.0.1, 127.0.0.2 and so on, where they have no other address.
pub(super) struct Servers {
    port: u16,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// They take the place of those who could be connected.
    _fillers: Vec<TcpStream>,
}

#[derive(Default)]
struct Shared {
    /// By number of the session.
    notes: Mutex<BTreeMap<usize, String>>,
    sessions: AtomicUsize,
    open: AtomicUsize,
    /// Of those who were asked to meet, how many wait, and how often one was asked.
    meeting: AtomicUsize,
    asked: AtomicUsize,
    /// Two did.
    met: AtomicBool,
    /// Nobody came when one was waited for.
    alone: AtomicBool,
    stop: AtomicBool,
}

impl Servers {
    pub(super) fn start(scripts: &[Script]) -> anyhow::Result<Self> {
        let listeners = (0..100).find_map(|_| listen(scripts).ok());
        let listeners = listeners.ok_or_else(|| anyhow::anyhow!("no port is free"))?;
        let port = listeners.first().map_or(Ok(0), |listener| listener.local_addr().map(|own| own.port()))?;
        let shared = Arc::new(Shared::default());
        let (mut threads, mut fillers) = (Vec::new(), Vec::new());
        for (listener, script) in listeners.into_iter().zip(scripts) {
            if script.full {
                let address = listener.local_addr()?;
                for _ in 0..3 {
                    fillers.extend(TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok());
                }
            }
            let (shared, script) = (Arc::clone(&shared), script.clone());
            threads.push(thread::spawn(move || serve(&listener, &script, &shared)));
        }
        Ok(Self { port, shared, threads, _fillers: fillers })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Sessions that are not over.
    pub(super) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// What was read.
    pub(super) fn notes(&self) -> String {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn listen(scripts: &[Script]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut port = 0;
    for (number, script) in (1..).zip(scripts) {
        let own = || script.address.parse::<IpAddr>().map_err(io::Error::other);
        let address =
            if script.address.is_empty() { Ipv4Addr::new(127, 0, 0, number).into() } else { own()? };
        let address = SocketAddr::new(address, port);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // Little room for what nobody reads.
        socket.set_recv_buffer_size(16 * 1024)?;
        socket.bind(&address.into())?;
        socket.listen(if script.full { 0 } else { 64 })?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

fn serve(listener: &TcpListener, script: &Script, shared: &Arc<Shared>) {
    let mut sessions = Vec::new();
    while !shared.stop.load(Ordering::SeqCst) {
        let accepted = if script.full { None } else { listener.accept().ok() };
        let Some((stream, client)) = accepted else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        shared.open.fetch_add(1, Ordering::SeqCst);
        let number = shared.sessions.fetch_add(1, Ordering::SeqCst);
        let (script, shared) = (script.clone(), Arc::clone(shared));
        sessions.push(thread::spawn(move || {
            let at = stream.local_addr().map(|own| own.ip().to_string()).unwrap_or_default();
            let mut session = Session::new(stream, client, &script, &shared, number);
            session.note(&format!("== session at {at} from {}", client.ip()));
            if let Err(error) = session.run() {
                session.note(&format!("({error})"));
            }
            shared.open.fetch_sub(1, Ordering::SeqCst);
        }));
    }
    for session in sessions {
        session.join().ok();
    }
}

trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

struct Session<'s> {
    tcp: Option<TcpStream>,
    wire: Box<dyn Wire>,
    buffer: Vec<u8>,
    client: SocketAddr,
    script: &'s Script,
    shared: &'s Shared,
    number: usize,
    secured: bool,
    lmtp: bool,
    recipients: usize,
    last: Instant,
}

impl<'s> Session<'s> {
    fn new(
        tcp: TcpStream,
        client: SocketAddr,
        script: &'s Script,
        shared: &'s Shared,
        number: usize,
    ) -> Self {
        let second = || -> io::Result<TcpStream> {
            tcp.set_nonblocking(false)?;
            tcp.set_nodelay(true)?;
            tcp.set_read_timeout(Some(LONGEST))?;
            tcp.set_write_timeout(Some(LONGEST))?;
            tcp.try_clone()
        };
        let wire: Box<dyn Wire> =
            second().map_or_else(|_| Box::new(io::empty()) as _, |tcp| Box::new(tcp) as _);
        Self {
            tcp: Some(tcp),
            wire,
            buffer: Vec::new(),
            client,
            script,
            shared,
            number,
            secured: false,
            lmtp: false,
            recipients: 0,
            last: clock::now(),
        }
    }

    fn note(&self, line: &str) {
        let mut notes = self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(notes.entry(self.number).or_default(), "{line}").unwrap_or_default();
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        self.wire.write_all(format!("{line}\r\n").as_bytes())?;
        self.wire.flush()
    }

    /// The next line; pauses before it are noted, and the end of the connection.
    fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                self.pause();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()));
            }
            let mut octets = [0; 4096];
            let read = match self.wire.read(&mut octets) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                read => read?,
            };
            if read == 0 {
                self.pause();
                self.note("(end)");
                return Ok(None);
            }
            self.buffer.extend(octets.iter().take(read));
        }
    }

    fn pause(&mut self) {
        let now = clock::now();
        match now.saturating_duration_since(self.last).as_millis() {
            9_000.. => self.note("(long pause)"),
            900.. => self.note("(pause)"),
            _ => {}
        }
        self.last = now;
    }

    fn run(&mut self) -> io::Result<()> {
        if self.number < self.script.busy {
            self.say("421 4.7.0 busy")?;
        } else if !self.script.greeting.is_empty() {
            self.say(self.script.greeting)?;
        }
        while let Some(line) = self.line()? {
            self.note(&line);
            let scripted = self.script.replies.iter().find(|(beginning, _)| line.starts_with(beginning));
            match scripted {
                None => self.polite(&line)?,
                Some((_, "")) => {}
                Some((_, "close")) => break,
                Some((_, "stall")) => return self.stall(),
                Some((_, "meet")) => self.meet(0)?,
                Some((_, "meet later")) => self.meet(1)?,
                Some((_, "sockets")) => self.sockets()?,
                Some((_, "linger")) => self.linger()?,
                Some((_, reply)) => self.say(reply)?,
            }
            self.last = clock::now();
        }
        // A socket that is closed with octets unread takes back what was sent.
        if let Some(tcp) = &self.tcp {
            tcp.shutdown(std::net::Shutdown::Write).ok();
        }
        while self.wire.read(&mut [0; 512]).is_ok_and(|read| read > 0) {}
        Ok(())
    }

    fn polite(&mut self, line: &str) -> io::Result<()> {
        let verb = line.split(' ').next().unwrap_or_default();
        match verb {
            "EHLO" | "LHLO" => {
                self.lmtp = verb == "LHLO";
                let offer = (self.script.tls.is_some() && !self.secured).then_some("STARTTLS");
                let mut lines = vec!["mx.test"];
                lines.extend(self.script.keywords);
                lines.extend(offer);
                let last = lines.len().saturating_sub(1);
                for (at, line) in lines.into_iter().enumerate() {
                    self.say(&format!("250{}{line}", if at == last { ' ' } else { '-' }))?;
                }
                Ok(())
            }
            "STARTTLS" => self.start_tls(),
            "AUTH" if line.split(' ').count() == 2 => {
                // A challenge: `<1@mx.test>`.
                self.say("334 PDFAbXgudGVzdD4=")?;
                self.line()?;
                self.say("235 2.7.0 welcome")
            }
            "AUTH" => self.say("235 2.7.0 welcome"),
            "MAIL" => {
                self.recipients = 0;
                self.say("250 2.1.0 ok")
            }
            "RCPT" => {
                self.recipients += 1;
                self.say("250 2.1.5 ok")
            }
            "DATA" => self.data(),
            "QUIT" => self.say("221 2.0.0 bye"),
            _ => self.say("250 2.0.0 ok"),
        }
    }

    fn data(&mut self) -> io::Result<()> {
        self.say("354 go on")?;
        self.last = clock::now();
        while let Some(line) = self.line()? {
            self.note(&line);
            if line == "." {
                break;
            }
        }
        let end =
            self.script.replies.iter().find(|(beginning, _)| *beginning == ".").map(|(_, reply)| *reply);
        let replies = if self.lmtp { self.recipients } else { 1 };
        match end {
            Some("") => Ok(()),
            Some(reply) => self.say(reply),
            None => (0..replies).try_for_each(|_| self.say("250 2.0.0 taken")),
        }
    }

    fn stall(&mut self) -> io::Result<()> {
        self.say("354 go on")?;
        while !self.shared.stop.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits for another session that waits for this one; the first `passing` do not.
    fn meet(&mut self, passing: usize) -> io::Result<()> {
        if self.shared.asked.fetch_add(1, Ordering::SeqCst) < passing {
            return self.say("250 2.1.0 ok");
        }
        let until = clock::now() + MEETING;
        if self.shared.meeting.fetch_add(1, Ordering::SeqCst) > 0 {
            self.shared.met.store(true, Ordering::SeqCst);
        }
        let met = || self.shared.met.load(Ordering::SeqCst);
        while !met() && clock::now() < until && !self.shared.alone.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        if !met() {
            self.shared.alone.store(true, Ordering::SeqCst);
        }
        self.shared.meeting.fetch_sub(1, Ordering::SeqCst);
        self.note(if met() { "(together)" } else { "(alone)" });
        self.say("250 2.1.0 ok")
    }

    fn sockets(&mut self) -> io::Result<()> {
        let filter = format!("sport = :{}", self.client.port());
        let output = Command::new("ss").args(["-Htnm", &filter]).output()?;
        self.note(&String::from_utf8_lossy(&output.stdout));
        self.say("250 2.1.0 ok")
    }

    fn linger(&mut self) -> io::Result<()> {
        if let Some(tcp) = &self.tcp {
            tcp.set_read_timeout(Some(MEETING))?;
        }
        if self.line().is_err() {
            self.note("(waits)");
        }
        self.say("221 2.0.0 bye")
    }

    fn start_tls(&mut self) -> io::Result<()> {
        let (Some(tcp), Some(config)) = (self.tcp.take(), &self.script.tls) else {
            return self.say("502 5.5.1 no");
        };
        self.say("220 2.0.0 go on")?;
        let mut stream =
            StreamOwned::new(ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let session = &stream.conn;
        let known = session.peer_certificates().map_or("no certificate", |_| "a certificate");
        let key = session.peer_certificates().and_then(|chain| chain.first()).map_or(0, |leaf| leaf.len());
        let suite = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        self.note(&format!(
            "(TLS {:?} {} {:?} {:?} {known} of {key} octets)",
            session.protocol_version(),
            suite.unwrap_or_default(),
            session.handshake_kind(),
            session.server_name()
        ));
        self.wire = Box::new(stream);
        self.secured = true;
        Ok(())
    }
}
