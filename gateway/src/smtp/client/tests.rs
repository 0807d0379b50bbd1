//! The promises that hold whatever a server says.

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::smtp::body::BodyDecoder;
use crate::smtp::envelope::Recipient;

/// The defaults of a host `gw.test`.
pub(super) fn rules() -> Rules {
    Rules::new(Protocol::Smtp, "gw.test")
}

/// A server `mx.test` on port 25.
pub(super) fn terms(tls: TlsLevel) -> Terms {
    Terms {
        peer: Peer { name: "mx.test".to_owned(), address: "192.0.2.1".to_owned(), port: Some(25) },
        next_hop: "b.test".to_owned(),
        detect_loop: true,
        best_mx: false,
        discard: Discard::default(),
        pix: PixWorkarounds::default(),
        tls,
        tls_wrapper: false,
        login: None,
    }
}

/// A message from `sender@a.test`.
pub(super) fn delivery(recipients: &[&str]) -> Delivery {
    let recipient = |address: &&str| Recipient {
        address: (*address).to_owned(),
        original: Some(format!("rfc822;{address}")),
        notify: None,
    };
    Delivery {
        sender: "sender@a.test".to_owned(),
        recipients: recipients.iter().map(recipient).collect(),
        size: 1_000,
        encoding: Encoding::SevenBit,
        smtputf8: false,
        envelope_id: None,
        ret: None,
        origin: None,
        age: std::time::Duration::ZERO,
        probe: false,
    }
}

/// A server that decides by dice, and knows what it has taken.
struct Server {
    keywords: &'static [&'static str],
    lmtp: bool,
    /// One for each decision; behind the last, everything is accepted.
    dice: Vec<bool>,
    input: BytesMut,
    reading: Reading,
    mail: bool,
    recipients: Vec<String>,
    text: BytesMut,
    /// Who has got what.
    taken: Vec<(String, Vec<u8>)>,
}

enum Reading {
    Commands,
    Text(BodyDecoder),
    Chunk { left: usize, last: bool, refused: bool },
}

impl Server {
    fn new(keywords: &'static [&'static str], lmtp: bool, mut dice: Vec<bool>) -> Self {
        dice.reverse();
        Self {
            keywords,
            lmtp,
            dice,
            input: BytesMut::new(),
            reading: Reading::Commands,
            mail: false,
            recipients: Vec::new(),
            text: BytesMut::new(),
            taken: Vec::new(),
        }
    }

    fn accepts(&mut self) -> bool {
        self.dice.pop().unwrap_or(true)
    }

    fn verdict(&mut self) -> &'static str {
        if self.accepts() { "250 ok\r\n" } else { "550 5.1.1 no\r\n" }
    }

    fn read(&mut self, octets: &[u8]) -> String {
        self.input.extend_from_slice(octets);
        let mut replies = String::new();
        while let Some(reply) = self.next() {
            replies.push_str(&reply);
        }
        replies
    }

    fn next(&mut self) -> Option<String> {
        match &mut self.reading {
            Reading::Text(decoder) => {
                let mut wire = BytesMut::new();
                let progress = decoder.decode(&self.input, &mut self.text, &mut wire);
                assert_eq!(decoder.oddities(), crate::smtp::body::Oddities::default());
                self.input.advance(progress.consumed);
                progress.ended.then(|| self.end())
            }
            Reading::Chunk { left, last, refused } => {
                let part = self.input.split_to((*left).min(self.input.len()));
                *left = left.saturating_sub(part.len());
                self.text.extend_from_slice(&part);
                if *left > 0 {
                    return None;
                }
                let (last, refused) = (*last, *refused);
                self.reading = Reading::Commands;
                match (refused, last) {
                    (true, _) => Some("550 5.6.0 no such chunk\r\n".to_owned()),
                    (false, true) => Some(self.end()),
                    (false, false) => Some("250 go on\r\n".to_owned()),
                }
            }
            Reading::Commands => {
                let end = self.input.windows(2).position(|pair| pair == b"\r\n")?;
                let line = self.input.split_to(end);
                self.input.advance(2);
                Some(self.command(std::str::from_utf8(&line).unwrap()))
            }
        }
    }

    fn command(&mut self, line: &str) -> String {
        assert!(!line.contains(['\r', '\n']), "two lines: {line:?}");
        let verb = line.split(' ').next().unwrap();
        match verb {
            "EHLO" | "LHLO" => {
                let keywords: String = self.keywords.iter().map(|word| format!("250-{word}\r\n")).collect();
                format!("250-mx.test\r\n{keywords}250 HELP\r\n")
            }
            "MAIL" => {
                let reply = self.verdict();
                self.mail = reply.starts_with('2');
                reply.to_owned()
            }
            "RCPT" if !self.mail => "503 5.5.1 MAIL first\r\n".to_owned(),
            "RCPT" => {
                let reply = self.verdict();
                if reply.starts_with('2') {
                    let address = line.strip_prefix("RCPT TO:<").unwrap().split('>').next().unwrap();
                    self.recipients.push(address.to_owned());
                }
                reply.to_owned()
            }
            "DATA" if self.recipients.is_empty() && self.accepts() => "503 5.5.1 RCPT first\r\n".to_owned(),
            "DATA" if !self.accepts() => "451 4.3.0 later\r\n".to_owned(),
            "DATA" => {
                self.reading = Reading::Text(BodyDecoder::default());
                "354 go on\r\n".to_owned()
            }
            "BDAT" => {
                let mut words = line.split(' ').skip(1);
                let left = words.next().unwrap().parse().unwrap();
                let last = words.next() == Some("LAST");
                // What comes behind a refused chunk is refused, too (RFC 3030 section 2).
                let refused = self.recipients.is_empty() || (!last && !self.accepts());
                if refused {
                    self.recipients.clear();
                }
                self.reading = Reading::Chunk { left, last, refused };
                self.next().unwrap_or_default()
            }
            "RSET" => {
                self.reset();
                "250 flushed\r\n".to_owned()
            }
            "QUIT" => "221 bye\r\n".to_owned(),
            other => panic!("unknown command {other}"),
        }
    }

    fn end(&mut self) -> String {
        let text = self.text.split().to_vec();
        let recipients = std::mem::take(&mut self.recipients);
        self.reset();
        if recipients.is_empty() {
            assert_eq!(text, b"", "a text for nobody");
            return "554 5.5.1 no valid recipients\r\n".to_owned();
        }
        if !self.lmtp {
            let reply = self.verdict();
            if reply.starts_with('2') {
                self.taken.extend(recipients.into_iter().map(|recipient| (recipient, text.clone())));
            }
            return reply.to_owned();
        }
        let mut replies = String::new();
        for recipient in recipients {
            let reply = self.verdict();
            if reply.starts_with('2') {
                self.taken.push((recipient, text.clone()));
            }
            replies.push_str(reply);
        }
        replies
    }

    fn reset(&mut self) {
        self.mail = false;
        self.recipients.clear();
        self.text.clear();
        self.reading = Reading::Commands;
    }
}

/// What a client did with its deliveries.
#[derive(Default)]
struct Run {
    /// For each delivery, the outcomes of its recipients as they came.
    outcomes: Vec<Vec<(usize, Outcome)>>,
    done: Vec<DeliveryDone>,
    closed: bool,
    wrote: Vec<u8>,
}

impl Run {
    /// Carries out what the client asks for; text comes in pieces of `piece` octets.
    fn act(&mut self, client: &mut Client, text: &[u8], piece: usize, now: Instant) {
        while let Some(action) = client.poll_action() {
            assert!(!self.closed || !matches!(action, Action::Ready), "ready behind the end");
            match action {
                Action::Settled { recipient, outcome } => {
                    self.outcomes.last_mut().unwrap().push((recipient, outcome));
                }
                Action::Done(done) => self.done.push(done),
                Action::Close => self.closed = true,
                Action::Content { .. } => {
                    let mut pieces = text.chunks(piece.max(1));
                    while client.wants_content() {
                        match pieces.next() {
                            Some(piece) => client.content(piece, now),
                            None => client.content_ended(now),
                        }
                    }
                    // What was not wanted yet is given all the same: the client keeps it.
                    for piece in pieces {
                        client.content(piece, now);
                    }
                    client.content_ended(now);
                }
                Action::StartTls | Action::Ready | Action::Failed(_) | Action::Note(_) => {}
            }
        }
    }
}

/// Lets client and server talk until both are silent. Octets go `cut` at a time.
fn talk(client: &mut Client, server: &mut Server, run: &mut Run, text: &[u8], cut: usize, now: Instant) {
    loop {
        run.act(client, text, cut, now);
        if client.output().is_empty() {
            break;
        }
        let octets = client.output().get(..cut.min(client.output().len())).unwrap().to_vec();
        client.sent(octets.len(), now);
        let replies = server.read(&octets);
        for part in replies.as_bytes().chunks(cut) {
            client.buffer().extend_from_slice(part);
            client.received(now);
            run.act(client, text, cut, now);
        }
    }
}

const KEYWORDS: [&[&str]; 4] =
    [&[], &["PIPELINING"], &["CHUNKING"], &["PIPELINING", "CHUNKING", "SIZE 0", "8BITMIME", "DSN"]];

proptest! {
    #[test]
    fn what_the_server_took_was_sent_and_nothing_else(
        keywords in 0usize..KEYWORDS.len(),
        lmtp in any::<bool>(),
        dice in proptest::collection::vec(proptest::bool::weighted(0.8), 0..30),
        counts in proptest::collection::vec(1usize..6, 1..4),
        lines in proptest::collection::vec("[ -~]{0,30}", 0..10),
        cut in 1usize..80,
    ) {
        let now = clock::now();
        let protocol = if lmtp { Protocol::Lmtp } else { Protocol::Smtp };
        let rules = Rules { protocol, chunking: true, ..rules() };
        let mut client = Client::new(Arc::new(rules), terms(TlsLevel::May), now);
        let mut server = Server::new(KEYWORDS[keywords], lmtp, dice);
        let mut run = Run::default();
        let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        client.connected(now);
        client.buffer().extend_from_slice(b"220 mx.test ESMTP\r\n");
        client.received(now);
        talk(&mut client, &mut server, &mut run, text.as_bytes(), cut, now);
        let mut expected = Vec::new();
        for (number, count) in counts.iter().enumerate() {
            prop_assert!(!run.closed);
            let addresses: Vec<String> = (0..*count).map(|place| format!("r{place}.{number}@b.test")).collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            run.outcomes.push(Vec::new());
            client.deliver(delivery(&addresses), now);
            talk(&mut client, &mut server, &mut run, text.as_bytes(), cut, now);
            prop_assert_eq!(run.done.len(), number.saturating_add(1), "each delivery ends");
            let mut outcomes = run.outcomes.last().unwrap().clone();
            outcomes.sort_by_key(|(place, _)| *place);
            prop_assert_eq!(outcomes.iter().map(|(place, _)| *place).collect::<Vec<_>>(), (0..*count).collect::<Vec<_>>());
            for (place, outcome) in outcomes {
                if matches!(outcome, Outcome::Sent(_)) {
                    expected.push((addresses[place].to_owned(), text.clone().into_bytes()));
                }
            }
        }
        expected.sort();
        server.taken.sort();
        prop_assert_eq!(expected, server.taken);
    }

    #[test]
    fn whatever_a_server_says_each_recipient_has_one_outcome_and_none_is_sent_too_soon(
        script in proptest::collection::vec(line(), 0..25),
        stalls in proptest::collection::vec(proptest::bool::weighted(0.2), 200),
        ending in 0usize..3,
        tls in 0usize..2,
        cut in 1usize..40,
    ) {
        let start = clock::now();
        let level = [TlsLevel::None, TlsLevel::Encrypt][tls];
        let mut client = Client::new(Arc::new(rules()), terms(level), start);
        let mut run = Run::default();
        let mut encrypted = false;
        client.connected(start);
        run.outcomes.push(Vec::new());
        let mut delivered = false;
        for (octets, stalls) in script.iter().flat_map(|line| line.as_bytes().chunks(cut)).zip(stalls.iter().cycle()) {
            client.buffer().extend_from_slice(octets);
            client.received(start);
            while let Some(action) = client.poll_action() {
                match action {
                    Action::StartTls => {
                        encrypted = true;
                        client.tls_done(TlsFacts { matched: false }, start);
                    }
                    Action::Ready => {
                        delivered = true;
                        client.deliver(delivery(&["a@b.test", "c@b.test"]), start);
                    }
                    Action::Content { .. } => {
                        client.content(b"text\r\n", start);
                        client.content_ended(start);
                    }
                    Action::Settled { recipient, outcome } => {
                        let dotted = run.wrote.ends_with(b"\r\n.\r\n");
                        let too_soon = matches!(outcome, Outcome::Sent(_)) && !dotted;
                        prop_assert!(!too_soon, "sent before the dot was");
                        run.outcomes[0].push((recipient, outcome));
                    }
                    Action::Done(done) => run.done.push(done),
                    Action::Close => run.closed = true,
                    Action::Failed(_) | Action::Note(_) => {}
                }
            }
            let output = if *stalls { Vec::new() } else { client.output().to_vec() };
            let in_clear = String::from_utf8_lossy(&output).contains("MAIL") && !encrypted;
            prop_assert!(level == TlsLevel::None || !in_clear, "mail in clear text");
            client.sent(output.len(), start);
            run.wrote.extend(output);
        }
        match ending {
            0 => client.ended(start),
            1 => {
                for _ in 0..50 {
                    if let Some(deadline) = client.deadline() {
                        client.timeout(deadline);
                    }
                }
            }
            _ => client.content_failed(Report::new(Status::transient(3, 0), "gone"), start),
        }
        client.ended(start);
        run.act(&mut client, b"", 1, start);
        let mut places: Vec<usize> = run.outcomes[0].iter().map(|(place, _)| *place).collect();
        places.sort_unstable();
        prop_assert_eq!(places, if delivered { vec![0, 1] } else { vec![] });
        prop_assert_eq!(run.done.len(), usize::from(delivered));
        prop_assert!(run.closed, "every connection ends");
    }
}

/// What servers say, in any order.
fn line() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "220 mx.test ESMTP\r\n",
        "250-mx.test\r\n250-STARTTLS\r\n250 PIPELINING\r\n",
        "250 mx.test\r\n",
        "250 2.0.0 ok\r\n",
        "250 2.0.0 ok\r\n",
        "250 2.0.0 ok\r\n",
        "354 go on\r\n",
        "354 go on\r\n",
        "421 bye\r\n",
        "450 4.1.1 later\r\n",
        "550 5.1.1 no\r\n",
        "250-half\r\n",
        "oops\r\n",
    ])
}

#[test]
fn a_long_text_goes_in_chunks_of_which_few_are_under_way() {
    let now = clock::now();
    let rules = Rules { chunking: true, line_length: 0, ..rules() };
    let mut client = Client::new(Arc::new(rules), terms(TlsLevel::None), now);
    let mut server = Server::new(&["PIPELINING", "CHUNKING"], false, Vec::new());
    let mut run = Run::default();
    let text = "0123456789abcdef\r\n".repeat(100_000);
    client.connected(now);
    client.buffer().extend_from_slice(b"220 mx.test\r\n");
    client.received(now);
    talk(&mut client, &mut server, &mut run, b"", 1_000, now);
    run.outcomes.push(Vec::new());
    client.deliver(delivery(&["r@b.test"]), now);
    talk(&mut client, &mut server, &mut run, text.as_bytes(), 10_000, now);
    assert_eq!(server.taken, [("r@b.test".to_owned(), text.into_bytes())]);
    assert!(matches!(run.outcomes[0].as_slice(), [(0, Outcome::Sent(_))]));
}

#[test]
fn no_more_text_is_wanted_than_the_server_takes() {
    let now = clock::now();
    let mut client = Client::new(Arc::new(rules()), terms(TlsLevel::None), now);
    let hear = |client: &mut Client, line: &str| {
        client.sent(client.output().len(), now);
        client.buffer().extend_from_slice(line.as_bytes());
        client.received(now);
    };
    client.connected(now);
    hear(&mut client, "220 mx.test\r\n");
    hear(&mut client, "250-mx.test\r\n250 PIPELINING\r\n");
    client.deliver(delivery(&["r@b.test"]), now);
    hear(&mut client, "250 ok\r\n250 ok\r\n354 go on\r\n");
    assert!(client.wants_content());
    client.content(&[b'x'; HIGH_WATER], now);
    assert!(!client.wants_content());
    client.sent(2_000, now);
    assert!(client.wants_content());
}
