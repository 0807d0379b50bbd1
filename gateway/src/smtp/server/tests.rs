//! The promises that hold whatever a client sends.

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::config;
use crate::queue::QueueId;

/// A client that sends a stream in pieces, and a driver that stores every message.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    replies: String,
    /// Messages for which the client was told 250, as they were stored.
    messages: Vec<Vec<u8>>,
}

fn server(yaml: &str) -> Server {
    let base = "origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\n";
    let config = config::parse(&format!("{base}{yaml}"), "test").unwrap();
    Server::new(Arc::new(Rules::new(&config, "gw.test".to_owned())), Terms::default(), clock::now())
}

fn run(server: &mut Server, pieces: &[&[u8]]) -> Heard {
    let now = clock::now();
    let (mut heard, mut content) = (Heard::default(), Vec::new());
    let mut drain = |server: &mut Server| {
        loop {
            let wire = server.to_client().len();
            heard.replies.push_str(&String::from_utf8_lossy(server.to_client()));
            server.client_sent(wire, now);
            match server.poll_action(now) {
                Some(Action::BeginMessage) => content.clear(),
                Some(Action::Content(octets)) => content.extend_from_slice(&octets),
                Some(Action::EndMessage) => {
                    server.decided(None, now);
                    heard.messages.push(std::mem::take(&mut content));
                    server.stored(Ok("0000000000001".parse::<QueueId>().unwrap()), now);
                }
                Some(_) => {}
                None if server.to_client().is_empty() => break,
                None => {}
            }
        }
    };
    drain(server);
    for piece in pieces {
        server.client_buffer().extend_from_slice(piece);
        server.client_received(now);
        drain(server);
    }
    heard
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"EHLO c\r\n",
        b"MAIL FROM:<s@a.test>\r\n",
        b"MAIL FROM:<s@a.test> BODY=BINARYMIME\r\n",
        b"RCPT TO:<r@b.test>\r\n",
        b"DATA\r\n",
        b"BDAT 4\r\n",
        b"BDAT 3 LAST\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\r\n.\n",
        b"\r.\r",
        b".",
        b"\r",
        b"\n",
        b"\0",
        b"a: b\r\n",
        b"Received: by gw.test\r\n",
        b"abc",
    ];
    let begin: &[u8] = b"EHLO c\r\nMAIL FROM:<s@a.test>\r\nRCPT TO:<r@b.test>\r\n";
    proptest::collection::vec(proptest::sample::select(words), 0..40)
        .prop_map(move |words| [begin, &words.concat()].concat())
}

const LENIENT: &str = "inspect: {nul: remove}\nlimits: {soft-errors: 0, hard-errors: 10000000}\n";

#[test]
fn a_client_that_reads_nothing_is_read_no_further() {
    let mut server = server(LENIENT);
    let now = clock::now();
    let mut sent = 0;
    while server.wants_client() {
        server.client_buffer().extend_from_slice(&b"RCPT TO:<r@b.test>\r\n".repeat(1_000));
        server.client_received(now);
        sent += 20_000;
        assert!(sent < 4_000_000, "the gateway reads on");
    }
    assert!(server.to_client().len() < 2 * HIGH_WATER);
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_means_the_same(
        stream in stream(),
        cuts in proptest::collection::vec(0usize..400, 0..8),
    ) {
        let whole = run(&mut server(LENIENT), &[&stream]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&whole, &run(&mut server(LENIENT), &pieces));
        prop_assert_eq!(whole.replies.matches("queued as").count(), whole.messages.len());
    }

    #[test]
    fn every_message_with_lines_has_one_reading(stream in stream()) {
        let binary = stream.windows(6).any(|word| word == b"BINARY");
        for message in run(&mut server(LENIENT), &[&stream]).messages.iter().filter(|_| !binary) {
            let text = String::from_utf8_lossy(message).replace("\r\n", "");
            prop_assert!(!text.contains(['\r', '\n', '\0']), "{message:?}");
        }
    }
}
