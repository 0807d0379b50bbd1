//! Dialogues of the relay lane's server, in `server/`.
//!
//! As those of the exchange, without a server behind it: `C:`, `C|` and `C>` are the client's, `c:` what it
//! reads, `=` what is asked for. `@ starttls trusted routes` sets the session's terms. Events:
//!
//! * `session`, `session HELO`: greeted; silent;
//! * `envelope`: MAIL, one RCPT and DATA up to the go-ahead; silent;
//! * `client closes`, `client resets`, `wait 5m`, `operator`, `gateway stops`;
//! * `passes`: the scanners have nothing against the message; `stored`, `no space`, `queue fails`: what came
//!   of storing it; `clean`: both;
//! * `infected NAME`, `scanner fails`, `spool fails`: the decision on the message;
//! * `ruling …` as for the exchange;
//! * `secured`, `handshake fails`;
//! * `show`: what the queue would be told of the message at hand;
//! * `whole`: do not repeat this dialogue octet by octet.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::clock;
use gateway::config;
use gateway::config::units::Span;
use gateway::outcome::SessionEnd;
use gateway::smtp::refusal::Refusal;
use gateway::smtp::report::{Envelope, EnvelopeRefused, MessageDone};
use gateway::smtp::server::{Action, Rules, Server, Terms, TlsSession};

use super::script::{escaped, lines, unescaped};
use super::{ruled, step};

/// The name under which messages are stored.
const QUEUE_ID: &str = "00000000000A7";

/// Runs a dialogue and returns the file as it should read.
pub(super) fn play(text: &str, split: bool) -> String {
    let yaml: String =
        text.lines().filter_map(|line| line.strip_prefix("~ ")).map(|line| format!("{line}\n")).collect();
    let base = "origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\n";
    let config =
        config::parse(&format!("{base}{yaml}"), "dialogue").unwrap_or_else(|problems| panic!("{problems}"));
    let words = |prefix: &'static str| {
        text.lines().filter_map(move |line| line.strip_prefix(prefix)).flat_map(|line| line.split(' '))
    };
    let terms = words("@ ").fold(Terms::default(), |terms, word| match word {
        "starttls" => Terms { starttls: true, ..terms },
        "trusted" => Terms { trusted: true, ..terms },
        "routes" => Terms { routes: true, ..terms },
        other => panic!("unknown term `{other}`"),
    });
    let rules = Rules { asks: words("? ").map(step).collect(), ..Rules::new(&config, "gw.test".to_owned()) };
    let now = clock::now();
    let mut player = Player {
        server: Server::new(Arc::new(rules), terms, now),
        now,
        split,
        content: Vec::new(),
        closed: false,
        out: String::new(),
        segment: Vec::new(),
    };
    for line in text.lines() {
        if line.is_empty() || line.starts_with(['#', '~', '?', '@']) {
            writeln!(player.out, "{line}").unwrap();
        } else if !line.starts_with(['c', '=']) {
            writeln!(player.out, "{line}").unwrap();
            player.input(line);
        }
    }
    player.out
}

struct Player {
    server: Server,
    now: Instant,
    split: bool,
    content: Vec<u8>,
    closed: bool,
    out: String,
    segment: Vec<u8>,
}

impl Player {
    fn input(&mut self, line: &str) {
        let (kind, text) = line.split_at(2.min(line.len()));
        let text = text.strip_prefix(' ').unwrap_or(text);
        match kind {
            "C|" => self.segment.extend_from_slice(format!("{text}\r\n").as_bytes()),
            "C:" => {
                let mut octets = std::mem::take(&mut self.segment);
                octets.extend_from_slice(format!("{text}\r\n").as_bytes());
                self.client(&octets);
            }
            "C>" => self.client(&unescaped(text)),
            "! " => self.event(text),
            other => panic!("unknown line `{other}`"),
        }
        self.output();
    }

    fn client(&mut self, octets: &[u8]) {
        let size = if self.split { 1 } else { octets.len().max(1) };
        for part in octets.chunks(size) {
            self.server.client_buffer().extend_from_slice(part);
            self.server.client_received(self.now);
        }
    }

    fn event(&mut self, text: &str) {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let now = self.now;
        match (word, rest) {
            ("whole", _) => {}
            ("session", hello) => {
                let hello = if hello.is_empty() { "EHLO" } else { hello };
                self.silently(&[&format!("{hello} client.test")]);
            }
            ("envelope", _) => {
                self.silently(&["MAIL FROM:<s@a.test>", "RCPT TO:<r@b.test>", "DATA"]);
            }
            ("client", "closes") => self.server.client_ended(now),
            ("client", "resets") => self.server.client_lost(now),
            ("wait", span) => self.wait(span.parse::<Span>().unwrap().duration()),
            ("passes", _) => self.server.decided(None, now),
            ("stored", _) => self.server.stored(Ok(QUEUE_ID.parse().unwrap()), now),
            ("clean", _) => {
                self.server.decided(None, now);
                self.server.stored(Ok(QUEUE_ID.parse().unwrap()), now);
            }
            ("no", "space") => self.server.stored(Err(Refusal::NoSpace), now),
            ("queue", "fails") => self.server.stored(Err(Refusal::SpoolFailed), now),
            ("infected", name) => self.refuse(Refusal::Virus { signature: name.to_owned() }),
            ("scanner", "fails") => self.refuse(Refusal::ScannerFailed),
            ("spool", "fails") => self.refuse(Refusal::SpoolFailed),
            ("ruling", ruling) => self.server.answered(ruled(ruling), now),
            ("secured", _) => {
                let tls = TlsSession { version: "TLSv1_3".into(), suite: "TLS_AES_256_GCM_SHA384".into() };
                self.server.secured(tls, now);
            }
            ("handshake", "fails") => self.server.handshake_failed(now),
            ("gateway", "stops") => self.server.end(SessionEnd::Shutdown, now),
            ("operator", _) => self.server.end(SessionEnd::Operator, now),
            ("show", _) => self.show(),
            _ => panic!("unknown event `{text}`"),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.server.decided(Some(refusal), self.now);
    }

    fn silently(&mut self, commands: &[&str]) {
        let length = self.out.len();
        for command in commands {
            self.client(format!("{command}\r\n").as_bytes());
            self.output();
        }
        self.out.truncate(length);
    }

    /// What the queue would be told.
    fn show(&mut self) {
        writeln!(self.out, "= {:?}", self.server.submission()).unwrap();
        writeln!(self.out, "= {:?}", self.server.told()).unwrap();
    }

    /// Lets time pass, with every deadline on the way.
    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(deadline) = self.server.deadline().filter(|deadline| *deadline <= end) {
            let before = self.server.deadline();
            self.now = deadline.max(self.now);
            self.server.timeout(self.now);
            if self.server.deadline() == before {
                break;
            }
        }
        self.now = end;
    }

    /// Writes what the server wants, as lines.
    fn output(&mut self) {
        let mut actions = String::new();
        let mut client = Vec::new();
        loop {
            let wire = self.server.to_client().to_vec();
            self.server.client_sent(wire.len(), self.now);
            let mut again = !wire.is_empty();
            client.extend(wire);
            while let Some(action) = self.server.poll_action(self.now) {
                again = true;
                self.action(action, &mut actions);
            }
            if !again {
                break;
            }
        }
        lines(&mut self.out, 'c', &client);
        self.out.push_str(&actions);
        if let Some(end) = self.server.finished(self.now).filter(|_| !self.closed) {
            self.closed = true;
            writeln!(self.out, "= closed {end:?}").unwrap();
        }
    }

    fn action(&mut self, action: Action, out: &mut String) {
        match action {
            Action::Ask(question) => writeln!(out, "= ask {question:?}"),
            Action::BeginMessage => {
                self.content.clear();
                writeln!(out, "= begin")
            }
            Action::Content(octets) => {
                self.content.extend_from_slice(&octets);
                Ok(())
            }
            Action::EndMessage => writeln!(out, "= end {}", escaped(&self.content)),
            Action::AbortMessage => writeln!(out, "= abort"),
            Action::MessageDone(MessageDone { envelope, size, action, reply, .. }) => {
                let Envelope { sender, recipients, refused, .. } = envelope;
                let to = recipients.join(",");
                writeln!(
                    out,
                    "= done {action:?} from=<{sender}> to={to} refused={refused} size={size} reply={reply}"
                )
            }
            Action::EnvelopeRefused(EnvelopeRefused { envelope, sender_refused, reply }) => {
                let what = if sender_refused { "sender" } else { "recipients" };
                let Envelope { sender, refused, refused_paths, .. } = envelope;
                let to = refused_paths.join(",");
                writeln!(out, "= refused {what} from=<{sender}> to={to} refused={refused} reply={reply}")
            }
            Action::StartTls => writeln!(out, "= start TLS"),
            Action::Introduced => writeln!(out, "= introduced {:?}", self.server.told().client()),
            Action::Note(note) => writeln!(out, "= note {note:?}"),
        }
        .unwrap();
    }
}
