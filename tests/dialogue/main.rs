//! SMTP dialogues: each file beside this one is run on the exchange, without sockets; those in `client/` on
//! the delivery client, see [`client`], those in `server/` on the relay lane's server, see [`server`].
//!
//! A file begins with comments, may go on with YAML lines (`~ inspect: {nul: remove}`) for the
//! configuration and with the steps at which checks are asked (`? mail rcpt`), and then has inputs
//! and what they bring about:
//!
//! | line | meaning |
//! | --- | --- |
//! | `C: text` | the client sends a line |
//! | `C\| text` | the client sends a line, in one segment with the next |
//! | `C> text` | the client sends octets, `\r \n \0 \t \xNN` escaped |
//! | `S: text`, `S> text` | the server sends a line, or octets |
//! | `! word …` | an event: see [`Player::event`] |
//! | `c: text`, `s: text` | the client, the server reads a line |
//! | `c> text`, `s> text` | the client, the server reads octets that are no line |
//! | `= text` | the exchange asks for something |
//!
//! Everything that is brought about is compared with the file. `DIALOGUE_UPDATE=1 cargo test
//! --test dialogue` writes the files anew; read the difference. Every dialogue is run a second
//! time octet by octet and must come out the same, unless it says `! whole`.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of a test, too: a dialogue that cannot be read is a failed test"
)]

mod client;
mod script;
mod server;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::clock;
use gateway::config;
use gateway::config::units::Span;
use gateway::intercept::address::{ClientAddr, OriginalDst};
use gateway::intercept::flow::{Flow, SessionId};
use gateway::outcome::SessionEnd;
use gateway::policy::introduction::introduction;
use gateway::policy::nat_header::nat_header;
use gateway::smtp::exchange::{Action, Decision, Exchange, Rules, Terms, Unread};
use gateway::smtp::question::{Ruling, Step};
use gateway::smtp::refusal::Refusal;
use gateway::smtp::report::Envelope;

use script::{escaped, lines, unescaped};

#[test]
fn every_dialogue_goes_as_written() {
    script::play_all("dialogue", play);
}

#[test]
fn every_dialogue_of_the_delivery_client_goes_as_written() {
    script::play_all("dialogue/client", client::play);
}

#[test]
fn every_dialogue_of_the_relay_lane_goes_as_written() {
    script::play_all("dialogue/server", server::play);
}

/// Runs a dialogue and returns the file as it should read.
fn play(text: &str, split: bool) -> String {
    let yaml: String =
        text.lines().filter_map(|line| line.strip_prefix("~ ")).map(|line| format!("{line}\n")).collect();
    let base = "origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\n";
    let config =
        config::parse(&format!("{base}{yaml}"), "dialogue").unwrap_or_else(|problems| panic!("{problems}"));
    let asks = text.lines().filter_map(|line| line.strip_prefix("? ")).flat_map(|line| line.split(' '));
    let asks = asks.map(step).collect();
    let rules = Rules { asks, ..Rules::new(&config, "gw.test".to_owned()) };
    // The session's name changes with each run; `ip-only` does not show it.
    let flow = Flow::new(
        SessionId::next(clock::wall()),
        ClientAddr::new("192.0.2.1:1025".parse().unwrap()),
        OriginalDst::new("198.51.100.1:25".parse().unwrap()),
    );
    let header = nat_header(&config, &flow, &rules.voice.name);
    let terms =
        Terms { starttls: rules.inspect.starttls, header, introduction: introduction(&config, &flow) };
    let now = clock::now();
    let mut player = Player {
        exchange: Exchange::on_terms(Arc::new(rules), terms, now),
        now,
        split,
        content: Vec::new(),
        closed: false,
        out: String::new(),
        segment: Vec::new(),
    };
    for line in text.lines() {
        if line.is_empty() || line.starts_with(['#', '~', '?']) {
            writeln!(player.out, "{line}").unwrap();
        } else if !line.starts_with(['c', 's', '=']) {
            writeln!(player.out, "{line}").unwrap();
            player.input(line);
        }
    }
    player.out
}

fn ruled(words: &str) -> Ruling {
    let (word, why) = words.split_once(' ').unwrap_or((words, ""));
    let refusal = match why {
        "" => Refusal::LaneRejects,
        "locked" => Refusal::Locked { for_ever: false },
        "crowded" => Refusal::TooManySessionsOfIdentity,
        "late" => Refusal::LookupTimeout,
        "unknown" => Refusal::LookupFailed,
        "mismatch" => Refusal::LookupMismatch,
        "malformed" => Refusal::MalformedDestination,
        "quota" => Refusal::OverQuota { quota: "recipients", closing: word == "close" },
        other => panic!("unknown refusal `{other}`"),
    };
    match word {
        "pass" => Ruling::Pass,
        "refuse" => Ruling::Refuse(refusal),
        "takeover" => Ruling::Takeover(refusal),
        "close" => Ruling::Close(refusal),
        other => panic!("unknown ruling `{other}`"),
    }
}

fn step(word: &str) -> Step {
    match word {
        "connect" => Step::Connect,
        "hello" => Step::Hello,
        "auth" => Step::Auth,
        "mail" => Step::Mail,
        "rcpt" => Step::Rcpt,
        "data" => Step::Data,
        other => panic!("unknown step `{other}`"),
    }
}

struct Player {
    exchange: Exchange,
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
            "S:" => self.server(format!("{text}\r\n").as_bytes()),
            "S>" => self.server(&unescaped(text)),
            "! " => self.event(text),
            other => panic!("unknown line `{other}`"),
        }
        let output = self.output();
        self.out.push_str(&output);
    }

    fn client(&mut self, octets: &[u8]) {
        for part in self.parts(octets) {
            self.exchange.client_buffer().extend_from_slice(&part);
            self.exchange.client_received(self.now);
        }
    }

    fn server(&mut self, octets: &[u8]) {
        for part in self.parts(octets) {
            self.exchange.server_buffer().extend_from_slice(&part);
            self.exchange.server_received(self.now);
        }
    }

    fn parts(&self, octets: &[u8]) -> Vec<Vec<u8>> {
        if self.split { octets.iter().map(|octet| vec![*octet]).collect() } else { vec![octets.to_vec()] }
    }

    /// Events:
    ///
    /// * `connected`, `connect-failed`, `connect-failed for lack` of resources;
    /// * `session KEYWORD…`: connected, greeted, and EHLO answered with these keywords; silent;
    /// * `envelope`: MAIL, one RCPT and DATA up to the go-ahead; silent;
    /// * `client closes`, `client resets`, `server closes`;
    /// * `wait 5m`: time passes;
    /// * `clean`, `infected NAME`, `scanner fails`, `no space`, `spam POINTS`, `spool fails`, `locked`,
    ///   `locked for-ever`: the decision on the message;
    /// * `ruling pass`, `ruling refuse`, `ruling takeover`, `ruling close`: on a question; behind it
    ///   may stand why: `quota`, `locked`, `crowded`, `late`, `unknown`, `mismatch`,
    ///   `malformed`;
    /// * `operator`, `gateway stops`: the session is ended;
    /// * `whole`: do not repeat this dialogue octet by octet.
    fn event(&mut self, text: &str) {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match (word, rest) {
            ("whole", _) => {}
            ("connected", _) => self.exchange.connected(self.now),
            ("connect-failed", "") => self.exchange.connect_failed(&Refusal::ConnectFailed, self.now),
            ("connect-failed", "for lack") => self.exchange.connect_failed(&Refusal::Shortage, self.now),
            ("session", keywords) => self.session(keywords),
            ("envelope", _) => self.envelope(),
            ("client", "closes") => self.exchange.client_ended(self.now),
            ("client", "resets") => self.exchange.client_lost(self.now),
            ("server", "closes") => self.exchange.server_ended(self.now),
            ("wait", span) => self.wait(span.parse::<Span>().unwrap().duration()),
            ("clean", _) => self.exchange.decided(Decision::Pass, self.now),
            ("infected", name) => self.refuse(Refusal::Virus { signature: name.to_owned() }),
            ("scanner", "fails") => self.refuse(Refusal::ScannerFailed),
            ("locked", span) => self.refuse(Refusal::Locked { for_ever: span == "for-ever" }),
            ("spam", points) => self.refuse(Refusal::Spam { score: points.parse().unwrap() }),
            ("spool", "fails") => self.refuse(Refusal::SpoolFailed),
            ("no", "space") => self.refuse(Refusal::NoSpace),
            ("ruling", ruling) => self.exchange.answered(ruled(ruling), self.now),
            ("gateway", "stops") => self.exchange.end(SessionEnd::Shutdown, self.now),
            ("operator", _) => self.exchange.end(SessionEnd::Operator, self.now),
            _ => panic!("unknown event `{text}`"),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.exchange.decided(Decision::Refuse(refusal), self.now);
    }

    /// Lets time pass, with every deadline on the way.
    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(deadline) = self.exchange.deadline().filter(|deadline| *deadline <= end) {
            let before = self.exchange.deadline();
            self.now = deadline.max(self.now);
            self.exchange.timeout(self.now);
            if self.exchange.deadline() == before {
                break;
            }
        }
        self.now = end;
    }

    fn session(&mut self, keywords: &str) {
        self.exchange.connected(self.now);
        self.server(b"220 mx.test ESMTP\r\n");
        self.client(b"EHLO client.test\r\n");
        let mut lines = vec!["mx.test".to_owned()];
        lines.extend(keywords.split(", ").filter(|word| !word.is_empty()).map(str::to_owned));
        let last = lines.len() - 1;
        for (number, line) in lines.iter().enumerate() {
            let dash = if number == last { ' ' } else { '-' };
            self.server(format!("250{dash}{line}\r\n").as_bytes());
        }
        self.output();
    }

    fn envelope(&mut self) {
        for (command, reply) in [
            ("MAIL FROM:<s@a.test>", "250 2.1.0 Ok"),
            ("RCPT TO:<r@b.test>", "250 2.1.5 Ok"),
            ("DATA", "354 Go ahead"),
        ] {
            self.client(format!("{command}\r\n").as_bytes());
            self.server(format!("{reply}\r\n").as_bytes());
        }
        self.output();
    }

    /// What the exchange wants, as lines.
    fn output(&mut self) -> String {
        let mut out = String::new();
        let mut actions = String::new();
        let mut server = Vec::new();
        let mut client = Vec::new();
        loop {
            let mut again = false;
            let wire = self.exchange.to_server().to_vec();
            if !wire.is_empty() {
                again = true;
                self.exchange.server_sent(wire.len(), self.now);
                server.extend(wire);
            }
            let wire = self.exchange.to_client().to_vec();
            if !wire.is_empty() {
                again = true;
                self.exchange.client_sent(wire.len(), self.now);
                client.extend(wire);
            }
            while let Some(action) = self.exchange.poll_action(self.now) {
                again = true;
                self.action(action, &mut actions);
            }
            if !again {
                break;
            }
        }
        lines(&mut out, 's', &server);
        lines(&mut out, 'c', &client);
        out.push_str(&actions);
        if let Some(end) = self.exchange.finished(self.now).filter(|_| !self.closed) {
            self.closed = true;
            writeln!(out, "= closed {end:?}").unwrap();
        }
        out
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
            Action::MessageDone(done) => writeln!(
                out,
                "= done {:?} from=<{}> to={} refused={} size={} reply={}",
                done.action,
                done.envelope.sender,
                done.envelope.recipients.join(","),
                done.envelope.refused,
                done.size,
                done.reply,
            ),
            Action::EnvelopeRefused(refused) => {
                let what = if refused.sender_refused { "sender" } else { "recipients" };
                let Envelope { sender, refused: count, refused_paths, .. } = refused.envelope;
                writeln!(
                    out,
                    "= refused {what} from=<{sender}> to={} refused={count} reply={}",
                    refused_paths.join(","),
                    refused.reply,
                )
            }
            Action::DropServer => writeln!(out, "= drop server"),
            Action::Splice(Unread::Encrypted) => writeln!(out, "= splice"),
            Action::Splice(Unread::Authenticated) => writeln!(out, "= splice, authenticated"),
            Action::Note(note) => writeln!(out, "= note {note:?}"),
        }
        .unwrap();
    }
}
