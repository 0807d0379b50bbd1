//! Dialogues of the delivery client with a server, in the form of those of the exchange.
//!
//! | line | meaning |
//! | --- | --- |
//! | `~ word …` | what the operator set, or what is delivered: see [`Setting::read`] |
//! | `S: text`, `S> text` | the server sends a line, or octets |
//! | `S\| text` | the server sends a line, in one segment with the next |
//! | `! word …` | an event: see [`Player::event`] |
//! | `s: text` | the server reads a line |
//! | `= text` | the client asks for something |

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::clock;
use gateway::config::units::Span;
use gateway::smtp::client::sasl::{Login, MechanismFilter, SecurityOptions};
use gateway::smtp::client::{
    Action, Client, Delivery, Discard, Encoding, Origin, Outcome, Peer, PixWorkarounds, Protocol, Report,
    Rules, Status, Terms, TlsFacts, TlsLevel,
};
use gateway::smtp::envelope::{Notify, Recipient, Ret};
use gateway::table::{Maps, TableSpec};

use crate::script::{lines, unescaped};

/// Runs a dialogue and returns the file as it should read.
pub(crate) fn play(text: &str, split: bool) -> String {
    let mut setting = Setting::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("~ ")) {
        setting.read(line);
    }
    let now = clock::now();
    let client = Client::new(Arc::new(setting.rules.clone()), setting.terms.clone(), now);
    let mut player = Player {
        client,
        setting,
        start: now,
        now,
        split,
        stalled: false,
        segment: Vec::new(),
        out: String::new(),
    };
    for line in text.lines() {
        if line.is_empty() || line.starts_with(['#', '~']) {
            writeln!(player.out, "{line}").unwrap();
        } else if !line.starts_with(['s', '=']) {
            writeln!(player.out, "{line}").unwrap();
            player.input(line);
        }
    }
    player.out
}

struct Setting {
    rules: Rules,
    terms: Terms,
    delivery: Delivery,
    notify: Option<Notify>,
}

impl Setting {
    fn new() -> Self {
        let peer = Peer { name: "mx.test".to_owned(), address: "192.0.2.1".to_owned(), port: Some(25) };
        Self {
            rules: Rules::new(Protocol::Smtp, "gw.test"),
            terms: Terms {
                peer,
                next_hop: "b.test".to_owned(),
                detect_loop: true,
                best_mx: false,
                discard: Discard::default(),
                pix: PixWorkarounds { disable_esmtp: true, delay_dotcrlf: true },
                tls: TlsLevel::None,
                tls_wrapper: false,
                login: None,
            },
            delivery: Delivery {
                sender: "s@a.test".to_owned(),
                recipients: Vec::new(),
                size: 1_000,
                encoding: Encoding::SevenBit,
                smtputf8: false,
                envelope_id: None,
                ret: None,
                origin: None,
                age: Duration::ZERO,
                probe: false,
            },
            notify: None,
        }
    }

    /// The words of `~` lines are the names of fields; a field of type `bool` takes `no`, too.
    fn read(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let on = rest != "no";
        let (rules, terms, delivery) = (&mut self.rules, &mut self.terms, &mut self.delivery);
        match word {
            "lmtp" => rules.protocol = Protocol::Lmtp,
            "always-send-ehlo" => rules.always_send_ehlo = on,
            "never-send-ehlo" => rules.never_send_ehlo = on,
            "skip-5xx-greeting" => rules.skip_5xx_greeting = on,
            "skip-quit-response" => rules.skip_quit_response = on,
            "send-xforward" => rules.send_xforward = on,
            "disable-mime-conversion" => rules.disable_mime_conversion = on,
            "soft-bounce" => rules.soft_bounce = on,
            "auth-soft-bounce" => rules.auth_soft_bounce = on,
            "dummy-mail-auth" => rules.dummy_mail_auth = on,
            "chunking" => rules.chunking = on,
            "request-deadline" => rules.request_deadline = on,
            "line-length" => rules.line_length = rest.parse().unwrap(),
            "reply-filter" => rules.reply_filter = rewrites(rest),
            "status-filter" => rules.status_filter = rewrites(rest),
            "tls" => terms.tls = level(rest),
            "tls-wrapper" => terms.tls_wrapper = on,
            "best-mx" => terms.best_mx = on,
            "detect-loop" => terms.detect_loop = on,
            "discard" => terms.discard = Discard::new(rest.split(' ')),
            "pix" => {
                terms.pix = PixWorkarounds {
                    disable_esmtp: rest.contains("disable_esmtp"),
                    delay_dotcrlf: rest.contains("delay_dotcrlf"),
                };
            }
            "login" => terms.login = Some(login(rest)),
            "clear-options" => {
                let options =
                    SecurityOptions { noplaintext: true, noanonymous: true, ..SecurityOptions::default() };
                terms.login.as_mut().unwrap().clear = options;
            }
            "sender" => rest.clone_into(&mut delivery.sender),
            "size" => delivery.size = rest.parse().unwrap(),
            "encoding" => delivery.encoding = encoding(rest),
            "smtputf8" => delivery.smtputf8 = on,
            "envelope-id" => delivery.envelope_id = Some(rest.to_owned()),
            "ret" => delivery.ret = Some(if rest == "full" { Ret::Full } else { Ret::Hdrs }),
            "age" => delivery.age = rest.parse::<Span>().unwrap().duration(),
            "probe" => delivery.probe = on,
            "notify" => {
                let has = |name: &str| rest.contains(name);
                let (success, failure, delay) = (has("success"), has("failure"), has("delay"));
                self.notify = Some(Notify { success, failure, delay });
            }
            "origin" => {
                delivery.origin = Some(Origin {
                    name: Some("client.test".to_owned()),
                    address: Some("192.0.2.77".parse().unwrap()),
                    port: Some(40_000),
                    protocol: Some("ESMTP".to_owned()),
                    hello: Some("me".to_owned()),
                    ident: None,
                    local: Some(true),
                });
            }
            other => panic!("unknown setting `{other}`"),
        }
    }
}

/// `pattern => replacement`.
fn rewrites(text: &str) -> Maps {
    let (pattern, replacement) = text.split_once(" => ").unwrap();
    let table: TableSpec = format!("pcre:{{ {{/{pattern}/ {replacement}}} }}").parse().unwrap();
    Maps::new(vec![table.table("").unwrap()])
}

fn level(word: &str) -> TlsLevel {
    match word {
        "may" => TlsLevel::May,
        "encrypt" => TlsLevel::Encrypt,
        "fingerprint" => TlsLevel::Fingerprint,
        "verify" => TlsLevel::Verify,
        "secure" => TlsLevel::Secure,
        other => panic!("unknown level `{other}`"),
    }
}

fn encoding(word: &str) -> Encoding {
    match word {
        "7bit" => Encoding::SevenBit,
        "8bit" => Encoding::EightBit,
        "unknown" => Encoding::Unknown,
        other => panic!("unknown encoding `{other}`"),
    }
}

fn login(text: &str) -> Login {
    let (username, password) = text.split_once(' ').unwrap();
    Login {
        username: username.to_owned(),
        password: password.to_owned(),
        authzid: false,
        nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
        filter: MechanismFilter::default(),
        clear: SecurityOptions::default(),
        tls: SecurityOptions::default(),
        verified: SecurityOptions::default(),
    }
}

struct Player {
    client: Client,
    setting: Setting,
    start: Instant,
    now: Instant,
    split: bool,
    /// The server does not read.
    stalled: bool,
    segment: Vec<u8>,
    out: String,
}

impl Player {
    fn input(&mut self, line: &str) {
        let (kind, text) = line.split_at(2.min(line.len()));
        let text = text.strip_prefix(' ').unwrap_or(text);
        match kind {
            "S|" => self.segment.extend_from_slice(format!("{text}\r\n").as_bytes()),
            "S:" => {
                let mut octets = std::mem::take(&mut self.segment);
                octets.extend_from_slice(format!("{text}\r\n").as_bytes());
                self.server(&octets);
            }
            "S>" => self.server(&unescaped(text)),
            "! " => self.event(text),
            other => panic!("unknown line `{other}`"),
        }
        self.output();
    }

    fn server(&mut self, octets: &[u8]) {
        let parts = octets.chunks(if self.split { 1 } else { octets.len().max(1) });
        for part in parts {
            self.client.buffer().extend_from_slice(part);
            self.client.received(self.now);
        }
    }

    /// Events:
    ///
    /// * `connected`, `connect-failed REASON`, `server closes`;
    /// * `ready KEYWORD, …`: connected, greeted, and EHLO answered with these keywords; silent;
    /// * `tls`, `tls matched`, `tls-failed REASON`: the handshake's end;
    /// * `deliver ADDRESS…`: a message for these recipients;
    /// * `envelope ADDRESS…`: the same, accepted up to the go-ahead for the text; silent;
    /// * `content OCTETS`, `end`, `text OCTETS` (both), `content-fails`;
    /// * `check`, `quit`, `wait 5m`;
    /// * `stall`, `read`: the server reads nothing, or goes on;
    /// * `wants`: say whether text is wanted;
    /// * `whole`: do not repeat this dialogue octet by octet.
    fn event(&mut self, text: &str) {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let now = self.now;
        match word {
            "whole" => {}
            "connected" => self.client.connected(now),
            "connect-failed" => self.client.connect_failed(rest, now),
            "server" => self.client.ended(now),
            "ready" => self.ready(rest),
            "tls" => self.client.tls_done(TlsFacts { matched: rest == "matched" }, now),
            "tls-failed" => self.client.tls_failed(rest, now),
            "deliver" => self.deliver(rest),
            "envelope" => self.envelope(rest),
            "content" => self.content(&unescaped(rest)),
            "end" => self.client.content_ended(now),
            "text" => {
                self.content(&unescaped(rest));
                self.client.content_ended(now);
            }
            "content-fails" => {
                let report = Report::new(Status::permanent(3, 0), "unreadable mail queue entry");
                self.client.content_failed(report, now);
            }
            "check" => self.client.check(now),
            "quit" => self.client.quit(now),
            "wait" => self.wait(rest.parse::<Span>().unwrap().duration()),
            "stall" => self.stalled = true,
            "read" => self.stalled = false,
            "wants" => writeln!(self.out, "= wants content: {}", self.client.wants_content()).unwrap(),
            other => panic!("unknown event `{other}`"),
        }
    }

    fn content(&mut self, octets: &[u8]) {
        let size = if self.split { 1 } else { octets.len().max(1) };
        for part in octets.chunks(size) {
            self.client.content(part, self.now);
        }
    }

    fn ready(&mut self, keywords: &str) {
        self.client.connected(self.now);
        self.server(b"220 mx.test ESMTP\r\n");
        let mut lines = vec!["mx.test"];
        lines.extend(keywords.split(", ").filter(|word| !word.is_empty()));
        let last = lines.len() - 1;
        for (number, line) in lines.iter().enumerate() {
            let dash = if number == last { ' ' } else { '-' };
            self.server(format!("250{dash}{line}\r\n").as_bytes());
        }
        self.silence();
    }

    fn deliver(&mut self, addresses: &str) {
        let notify = self.setting.notify;
        let recipient = |address: &str| Recipient {
            address: address.to_owned(),
            original: Some(format!("rfc822;{address}")),
            notify,
        };
        let addresses = unescaped(addresses);
        let words = addresses.split(|octet| *octet == b' ');
        let recipients = words.map(|word| recipient(std::str::from_utf8(word).unwrap())).collect();
        let delivery = Delivery { recipients, ..self.setting.delivery.clone() };
        self.client.deliver(delivery, self.now);
    }

    fn envelope(&mut self, addresses: &str) {
        self.deliver(addresses);
        let replies = addresses.split(' ').count() + 1;
        for _ in 0..replies {
            self.silence();
            self.server(b"250 2.1.0 Ok\r\n");
        }
        self.silence();
        self.server(b"354 Go ahead\r\n");
        self.silence();
    }

    /// Lets time pass, with every deadline on the way.
    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(deadline) = self.client.deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline.max(self.now);
            self.client.timeout(self.now);
            self.output();
            if self.client.deadline() == Some(deadline) {
                break;
            }
        }
        self.now = end;
    }

    fn silence(&mut self) {
        let before = self.out.len();
        self.output();
        self.out.truncate(before);
    }

    /// What the client wants, as lines.
    fn output(&mut self) {
        let mut wire = Vec::new();
        let mut actions = String::new();
        loop {
            let octets = if self.stalled { Vec::new() } else { self.client.output().to_vec() };
            if !octets.is_empty() {
                self.client.sent(octets.len(), self.now);
            }
            wire.extend_from_slice(&octets);
            let action = self.client.poll_action();
            if octets.is_empty() && action.is_none() {
                break;
            }
            if let Some(action) = action {
                self.action(action, &mut actions);
            }
        }
        lines(&mut self.out, 's', &wire);
        self.out.push_str(&actions);
    }

    fn action(&self, action: Action, out: &mut String) {
        match action {
            Action::StartTls => writeln!(out, "= start tls"),
            Action::Ready => writeln!(out, "= ready"),
            Action::Failed(failure) => writeln!(out, "= failed {:?} {}", failure.kind, told(&failure.report)),
            Action::Content { downgrade } => {
                writeln!(out, "= content{}", if downgrade { ", to 7-bit" } else { "" })
            }
            Action::Settled { recipient, outcome } => {
                let (word, report) = match &outcome {
                    Outcome::Sent(report) => ("sent", report),
                    Outcome::Deferred(report) => ("deferred", report),
                    Outcome::Bounced(report) => ("bounced", report),
                };
                writeln!(out, "= {recipient} {word} {}", told(report))
            }
            Action::Done(done) => {
                let mail = done.mail.map(|mail| (mail - self.start).as_secs());
                let end = (done.end - self.start).as_secs();
                let flags = [(done.dsn, " dsn"), (done.broken, " broken"), (done.reusable, " reusable")];
                let flags: String = flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word).collect();
                writeln!(out, "= done mail={mail:?} end={end}{flags}")
            }
            Action::Note(note) => writeln!(out, "= note {note:?}"),
            Action::Close => writeln!(out, "= close"),
        }
        .unwrap();
    }
}

fn told(report: &Report) -> String {
    let elsewhere = if report.elsewhere { ", elsewhere" } else { "" };
    format!("{} ({}){elsewhere}", report.status, report.reason)
}
