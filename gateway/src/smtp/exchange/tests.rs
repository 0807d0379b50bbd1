//! The promises that hold whatever a client sends: one reading, and scanned is delivered.

use bytes::{Buf as _, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::config;
use crate::smtp::question::{Ruling, Steps};

/// More than one read brings, so that commands wait in the gateway's buffer, too.
const LINES: usize = 1_000;

#[test]
fn a_client_that_pipelines_without_end_is_read_no_further() {
    let now = clock::now();
    let mut exchange = Exchange::new(Arc::new(Rules::new(&config::Config::default(), "gw".to_owned())), now);
    exchange.connected(now);
    exchange.server_buffer().extend_from_slice(b"220 server\r\n");
    exchange.server_received(now);
    exchange.client_buffer().extend_from_slice(b"EHLO client\r\n");
    exchange.client_received(now);
    exchange.server_sent(exchange.to_server().len(), now);
    exchange.server_buffer().extend_from_slice(b"250-server\r\n250 PIPELINING\r\n");
    exchange.server_received(now);
    exchange.client_sent(exchange.to_client().len(), now);

    let mut commands = 0;
    while exchange.wants_client() {
        exchange.client_buffer().extend_from_slice(&b"RSET\r\n".repeat(LINES));
        exchange.client_received(now);
        commands += LINES;
        assert!(commands <= 20 * LINES, "the gateway reads on without a reply");
    }
    let mut replies = 0;
    while replies < commands {
        let asked = exchange.to_server().len() / b"RSET\r\n".len();
        assert!((1..=MAX_PENDING).contains(&asked), "{asked} commands wait for their replies at once");
        exchange.server_sent(exchange.to_server().len(), now);
        exchange.server_buffer().extend_from_slice(&b"250 Ok\r\n".repeat(asked));
        exchange.server_received(now);
        replies += exchange.to_client().len() / b"250 Ok\r\n".len();
        exchange.client_sent(exchange.to_client().len(), now);
    }
    assert!(exchange.wants_client());
}

/// A server that accepts everything, and notes what it reads in between.
#[derive(Default)]
struct Server {
    input: BytesMut,
    reading: Reading,
    recipients: usize,
    message: Vec<u8>,
    delivered: Vec<Vec<u8>>,
}

#[derive(Default)]
enum Reading {
    #[default]
    Commands,
    Text,
    Chunk {
        left: usize,
        last: bool,
    },
    Closed,
}

impl Server {
    /// Reads what there is; returns its replies.
    fn read(&mut self, octets: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(octets);
        let mut replies = Vec::new();
        while let Some(reply) = self.next() {
            replies.extend_from_slice(reply.as_bytes());
        }
        replies
    }

    fn next(&mut self) -> Option<&'static str> {
        if let Reading::Chunk { left, last } = self.reading {
            let part = self.input.split_to(left.min(self.input.len()));
            self.message.extend_from_slice(&part);
            if part.len() < left {
                self.reading = Reading::Chunk { left: left.saturating_sub(part.len()), last };
                return None;
            }
            self.reading = Reading::Commands;
            if last {
                self.delivered.push(std::mem::take(&mut self.message));
                self.recipients = 0;
            }
            return Some("250 chunk\r\n");
        }
        let end = self.input.windows(2).position(|pair| pair == b"\r\n")?;
        let line = self.input.split_to(end);
        self.input.advance(2);
        assert!(!line.iter().any(|octet| b"\r\n\0".contains(octet)), "two readings: {line:?}");
        match self.reading {
            Reading::Text if line.as_ref() == b"." => {
                self.reading = Reading::Commands;
                self.delivered.push(std::mem::take(&mut self.message));
                self.recipients = 0;
                Some("250 delivered\r\n")
            }
            Reading::Text => {
                self.message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                self.message.extend_from_slice(b"\r\n");
                self.next()
            }
            Reading::Commands | Reading::Chunk { .. } | Reading::Closed => self.command(&line),
        }
    }

    fn command(&mut self, line: &[u8]) -> Option<&'static str> {
        let text = String::from_utf8_lossy(line).into_owned();
        let mut words = text.split(' ');
        match words.next().unwrap_or_default() {
            "EHLO" => {
                self.message.clear();
                self.recipients = 0;
                Some("250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 STARTTLS\r\n")
            }
            "RCPT" => {
                self.recipients = self.recipients.saturating_add(1);
                Some("250 rcpt\r\n")
            }
            "DATA" if self.recipients > 0 => {
                self.reading = Reading::Text;
                Some("354 go\r\n")
            }
            "DATA" => Some("503 no\r\n"),
            "BDAT" => {
                let left = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
                self.reading = Reading::Chunk { left, last: words.next() == Some("LAST") };
                self.next()
            }
            "RSET" => {
                self.message.clear();
                self.recipients = 0;
                Some("250 rset\r\n")
            }
            "QUIT" => {
                self.reading = Reading::Closed;
                Some("221 bye\r\n")
            }
            "STARTTLS" => Some("454 not now\r\n"),
            "MAIL" | "NOOP" => Some("250 ok\r\n"),
            other => panic!("the server was given `{other}`"),
        }
    }
}

/// Runs a session; returns what was judged clean and what was delivered.
fn run(client: &[Vec<u8>], yaml: &str, verdicts: impl Iterator<Item = bool>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    run_on(client, yaml, verdicts, Steps::default(), std::iter::empty(), None)
}

/// The same with rulings on the questions of the steps in `asks`, where none is a pass, and with
/// `header` on top of messages.
fn run_on(
    client: &[Vec<u8>],
    yaml: &str,
    mut verdicts: impl Iterator<Item = bool>,
    asks: Steps,
    mut rulings: impl Iterator<Item = Ruling>,
    header: Option<&str>,
) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let text = format!("origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\n{yaml}");
    let config = config::parse(&text, "test").unwrap();
    let mut now = clock::now();
    let rules = Rules { asks, ..Rules::new(&config, "gw".to_owned()) };
    let terms =
        Terms { starttls: rules.inspect.starttls, header: header.map(str::to_owned), introduction: None };
    let mut exchange = Exchange::on_terms(Arc::new(rules), terms, now);
    let mut server = Server::default();
    let (mut copy, mut clean) = (Vec::new(), Vec::new());
    exchange.connected(now);
    exchange.server_buffer().extend_from_slice(b"220 mx\r\n");
    exchange.server_received(now);
    for part in client {
        exchange.client_buffer().extend_from_slice(part);
        exchange.client_received(now);
        loop {
            let mut again = false;
            let mut asked = false;
            while let Some(action) = exchange.poll_action(now) {
                again = true;
                match action {
                    Action::Ask(_) => asked = true,
                    Action::BeginMessage => copy.clear(),
                    Action::Content(octets) => copy.extend_from_slice(&octets),
                    Action::EndMessage if verdicts.next().unwrap_or(true) => {
                        clean.push(copy.clone());
                        exchange.decided(Decision::Pass, now);
                    }
                    Action::EndMessage => {
                        exchange.decided(Decision::Refuse(Refusal::ScannerFailed), now);
                    }
                    Action::AbortMessage
                    | Action::MessageDone(_)
                    | Action::DropServer
                    | Action::Splice(_)
                    | Action::EnvelopeRefused(_)
                    | Action::Note(_) => {}
                }
            }
            let wire = exchange.to_server().to_vec();
            if !wire.is_empty() {
                again = true;
                exchange.server_sent(wire.len(), now);
                let replies = server.read(&wire);
                exchange.server_buffer().extend_from_slice(&replies);
                exchange.server_received(now);
            }
            if asked {
                // After the server has read and answered what came before.
                again = true;
                exchange.answered(rulings.next().unwrap_or(Ruling::Pass), now);
            }
            let said = exchange.to_client().len();
            if said > 0 {
                again = true;
                exchange.client_sent(said, now);
            }
            if let Some(deadline) = exchange.deadline().filter(|_| !again) {
                // A tarpit is the only deadline that comes soon.
                if deadline.saturating_duration_since(now).as_secs() < 2 {
                    now = deadline;
                    exchange.timeout(now);
                    again = true;
                }
            }
            if !again {
                break;
            }
        }
    }
    (clean, server.delivered)
}

fn fragment() -> impl Strategy<Value = &'static [u8]> {
    let fragments: Vec<&'static [u8]> = vec![
        b"EHLO c\r\n",
        b"MAIL FROM:<a@b>\r\n",
        b"RCPT TO:<c@d>\r\n",
        b"DATA\r\n",
        b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
        b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n",
        b"text\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"..\r\n",
        b"\r",
        b"\n",
        b".",
        b"\0",
        b"BDAT 5\r\n",
        b"BDAT 3 LAST\r\n",
        b"BDAT 0 LAST\r\n",
        b"abc",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"STARTTLS\r\n",
        b"QUIT\r\n",
        b"JUNK\r\n",
    ];
    proptest::sample::select(fragments)
}

fn step() -> impl Strategy<Value = Step> {
    proptest::sample::select(vec![Step::Hello, Step::Mail, Step::Rcpt, Step::Data])
}

fn ruling() -> impl Strategy<Value = Ruling> {
    proptest::sample::select(vec![
        Ruling::Pass,
        Ruling::Pass,
        Ruling::Refuse(Refusal::LaneRejects),
        Ruling::Takeover(Refusal::LaneRejects),
        Ruling::Close(Refusal::LaneRejects),
        Ruling::Refuse(Refusal::ShuttingDown),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_delivered_was_judged_clean_octet_for_octet(
        script in proptest::collection::vec(fragment(), 1..40),
        verdicts in proptest::collection::vec(any::<bool>(), 0..6),
        remove_nul in any::<bool>(),
    ) {
        let mut client = vec![b"EHLO c\r\n".to_vec()];
        client.extend(script.iter().map(|part| part.to_vec()));
        let yaml = if remove_nul { "inspect: {nul: remove}\n" } else { "" };
        let (clean, delivered) = run(&client, yaml, verdicts.into_iter());
        prop_assert_eq!(clean, delivered);
    }

    #[test]
    fn rulings_let_nothing_else_through(
        script in proptest::collection::vec(fragment(), 1..40),
        verdicts in proptest::collection::vec(any::<bool>(), 0..6),
        asks in proptest::collection::vec(step(), 0..4),
        rulings in proptest::collection::vec(ruling(), 0..12),
    ) {
        let mut client = vec![b"EHLO c\r\n".to_vec()];
        client.extend(script.iter().map(|part| part.to_vec()));
        let asks = asks.into_iter().collect();
        let (clean, delivered) = run_on(&client, "", verdicts.into_iter(), asks, rulings.into_iter(), None);
        prop_assert_eq!(clean, delivered);
    }

    #[test]
    fn each_message_gets_the_header_once(
        script in proptest::collection::vec(fragment(), 1..40),
        verdicts in proptest::collection::vec(any::<bool>(), 0..6),
    ) {
        let mut client = vec![b"EHLO c\r\n".to_vec()];
        client.extend(script.iter().map(|part| part.to_vec()));
        let header = "X-Client: a\r\n\tb\r\n";
        let none = (Steps::default(), std::iter::empty());
        let (clean, delivered) = run_on(&client, "", verdicts.into_iter(), none.0, none.1, Some(header));
        let clean: Vec<_> = clean.into_iter().map(|text| [header.as_bytes(), &text].concat()).collect();
        prop_assert_eq!(clean, delivered);
    }

    #[test]
    fn questions_that_pass_change_nothing(script in proptest::collection::vec(fragment(), 1..40)) {
        let mut client = vec![b"EHLO c\r\n".to_vec()];
        // What follows STARTTLS in its segment is thrown away; a question changes the segments.
        client.extend(script.iter().filter(|part| **part != b"STARTTLS\r\n").map(|part| part.to_vec()));
        let asks = [Step::Hello, Step::Mail, Step::Rcpt, Step::Data].into_iter().collect();
        let asked = run_on(&client, "", std::iter::repeat(true), asks, std::iter::repeat(Ruling::Pass), None);
        prop_assert_eq!(asked, run(&client, "", std::iter::repeat(true)));
    }

    #[test]
    fn segments_do_not_matter(
        script in proptest::collection::vec(fragment(), 1..30),
        size in 1usize..7,
    ) {
        // What follows STARTTLS in its segment is thrown away, which segments decide.
        let script: Vec<_> = script.into_iter().filter(|part| *part != b"STARTTLS\r\n").collect();
        let octets: Vec<u8> = b"EHLO c\r\n".iter().copied().chain(script.concat()).collect();
        let whole = run(std::slice::from_ref(&octets), "", std::iter::repeat(true));
        let parts: Vec<_> = octets.chunks(size).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(whole, run(&parts, "", std::iter::repeat(true)));
    }
}
