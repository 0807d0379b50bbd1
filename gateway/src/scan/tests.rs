//! Scanners that misbehave, which real ones cannot be made to do.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;
use crate::clock;
use crate::config::file::{CircuitBreaker, Clamd as Config, ScannerAddress, Spool, Treatment};
use crate::config::units::{ByteCount, Span};
use crate::outcome::{Finding, ScanResult, Scanner, SpamAction};
use crate::spool::{SpoolCopy, Spooler};

const LONG: Duration = Duration::from_secs(20);

/// A deadline that a working clamd keeps.
fn in_time() -> Instant {
    clock::now().checked_add(LONG).unwrap()
}

fn scanners(address: ScannerAddress) -> Scanners {
    Scanners::new(&Scan { clamd: Some(config(address)), ..Scan::default() })
}

fn config(address: ScannerAddress) -> Config {
    Config {
        address,
        max_size: ByteCount::mib(64),
        on_too_large: Treatment::Reject,
        on_failure: Treatment::Tempfail,
        concurrency: 2,
        deadline: Span::minutes(1),
        health_interval: Span::minutes(5),
        circuit_breaker: CircuitBreaker::default(),
    }
}

/// A finished copy of `length` bytes in a spool of its own.
async fn copy(directory: &TempDir, length: usize) -> SpoolCopy {
    let config = Spool { directory: directory.path().join("spool"), ..Spool::default() };
    let mut copy = Spooler::open(&Spool { min_free: ByteCount::new(0), ..config }).unwrap().begin().unwrap();
    copy.append(&vec![b'x'; length]).await.unwrap();
    copy.finish().await.unwrap();
    copy
}

/// Listens, and gives each connection whose command is INSTREAM to `behave`.
fn clamd(behave: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    serve(listener, behave);
    address
}

fn serve(listener: TcpListener, behave: impl Fn(TcpStream) + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut command = [0; 6];
            if stream.read_exact(&mut command).is_ok() && &command == b"zINSTR" {
                stream.read_exact(&mut [0; 4]).unwrap();
                behave(stream);
            }
        }
    });
}

/// The verdict on a message of `length` bytes by a clamd that behaves so.
async fn verdict(length: usize, behave: impl Fn(TcpStream) + Send + 'static) -> Finding {
    let scanners = scanners(ScannerAddress::Tcp(clamd(behave)));
    let directory = TempDir::new().unwrap();
    let copy = copy(&directory, length).await;
    one(&mut scanners.start(copy.reader(), Exempt::default()), in_time()).await
}

/// Reads chunks up to the empty one; returns what they hold together.
fn read_stream(stream: &mut TcpStream) -> Vec<u8> {
    let mut message = Vec::new();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
        if length == 0 {
            return message;
        }
        let mut chunk = vec![0; length];
        stream.read_exact(&mut chunk).unwrap();
        message.append(&mut chunk);
    }
}

/// The verdict when clamd reads everything and then says `reply` and closes.
async fn answered(reply: &'static [u8]) -> Finding {
    verdict(200_000, move |mut stream| {
        assert_eq!(read_stream(&mut stream).len(), 200_000);
        stream.write_all(reply).unwrap();
    })
    .await
}

fn failed(verdict: &Finding, reason: &str) -> bool {
    matches!(verdict, Finding::Failed { reason: said } if said == reason)
}

#[tokio::test]
async fn only_the_exact_answers_are_verdicts() {
    assert_eq!(answered(b"stream: OK\0").await, Finding::Clean);
    assert_eq!(
        answered(b"stream: Win.Test\r\n250 FOUND\0").await,
        Finding::Failed { reason: "the scanner answered: stream: Win.Test??250 FOUND".to_owned() }
    );
    assert_eq!(answered(b"stream: T FOUND\0").await, Finding::Infected { signature: "T".to_owned() });
    assert_eq!(answered(b"INSTREAM size limit exceeded. ERROR\0").await, Finding::TooLarge);
    let error = answered(b"stream: Can't open file ERROR\0").await;
    assert!(failed(&error, "the scanner answered: stream: Can't open file ERROR"), "{error:?}");
    assert!(failed(&answered(b"\0").await, "the scanner answered: (nothing)"));
}

#[tokio::test]
async fn an_answer_cut_short_is_a_failure_whatever_it_says() {
    for reply in [&b""[..], b"stream: OK", b"stream: T FOUND", &[b'x'; 10_000]] {
        let verdict = answered(reply).await;
        assert!(
            failed(&verdict, "the scanner closed the connection without a complete answer"),
            "{verdict:?}"
        );
    }
}

#[tokio::test]
async fn ok_before_the_end_of_the_message_is_not_clean() {
    let early = verdict(50_000_000, |mut stream| {
        stream.write_all(b"stream: OK\0").unwrap();
        thread::sleep(Duration::from_secs(1));
    });
    let early = early.await;
    assert!(failed(&early, "the scanner answered before it had the whole message"), "{early:?}");
}

#[tokio::test]
async fn the_reason_for_a_broken_pipe_is_heard() {
    let refused = verdict(50_000_000, |mut stream| {
        stream.read_exact(&mut [0; 100_000]).unwrap();
        stream.write_all(b"INSTREAM size limit exceeded. ERROR\0").unwrap();
    });
    assert_eq!(refused.await, Finding::TooLarge);
    let cut = verdict(50_000_000, |mut stream| stream.read_exact(&mut [0; 100_000]).unwrap()).await;
    assert!(matches!(&cut, Finding::Failed { reason } if reason.contains("the connection broke")), "{cut:?}");
}

#[tokio::test]
async fn an_answer_that_drips_is_read_to_its_end() {
    let slow = verdict(1_000, |mut stream| {
        read_stream(&mut stream);
        for byte in b"stream: T FOUND\0" {
            thread::sleep(Duration::from_millis(10));
            stream.write_all(&[*byte]).unwrap();
        }
    });
    assert_eq!(slow.await, Finding::Infected { signature: "T".to_owned() });
}

#[tokio::test]
async fn a_clamd_that_is_just_starting_is_tried_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("clamd.sock");
    let scanners = scanners(ScannerAddress::Unix(path.clone()));
    let copy = copy(&directory, 10).await;
    let mut job = scanners.start(copy.reader(), Exempt::default());
    // On this single thread, the scan's first attempt runs and fails here.
    for _ in 0..20 {
        yield_now().await;
    }
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut seen = Vec::new();
            let mut byte = [0; 1];
            while stream.read_exact(&mut byte).is_ok() {
                seen.extend(byte);
                if seen.starts_with(b"zINSTREAM\0") && seen.ends_with(&[0; 4]) {
                    stream.write_all(b"stream: OK\0").unwrap();
                }
            }
        }
    });
    assert_eq!(one(&mut job, in_time()).await, Finding::Clean);
}

#[tokio::test]
async fn a_full_backlog_is_waited_for() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("clamd.sock");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    // A backlog of 0 holds one connection.
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let scanners = scanners(ScannerAddress::Unix(path));
    let copy = copy(&directory, 10).await;
    let mut job = scanners.start(copy.reader(), Exempt::default());
    assert!(timeout(Duration::from_millis(300), job.next(in_time())).await.is_err(), "it waits");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = socket.accept() {
            thread::spawn(move || {
                let mut command = [0; 10];
                if stream.read_exact(&mut command).is_ok() && &command == b"zINSTREAM\0" {
                    stream.write_all(b"stream: T FOUND\0").unwrap();
                }
            });
        }
    });
    assert_eq!(one(&mut job, in_time()).await, Finding::Infected { signature: "T".to_owned() });
}

#[tokio::test]
async fn a_panic_or_a_passed_deadline_is_a_failure() {
    let directory = TempDir::new().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let scanners = scanners(ScannerAddress::Tcp(silent.local_addr().unwrap()));
    let copy = copy(&directory, 10).await;
    let mut job = scanners.start(copy.reader(), Exempt::default());
    let finding = one(&mut job, clock::now() + Duration::from_millis(200)).await;
    assert!(failed(&finding, "deadline passed while waiting for the scanner's answer"), "{finding:?}");
    assert_eq!(job.next(in_time()).await, None, "all have answered");

    let mut job = ScanJob::faulty(&scanners.services[0], copy.reader());
    assert!(matches!(one(&mut job, in_time()).await, Finding::Failed { .. }));
}

/// The only result of a job.
async fn one(job: &mut ScanJob, deadline: Instant) -> Finding {
    job.next(deadline).await.unwrap().finding
}

#[tokio::test]
async fn an_exempt_message_is_recorded_as_skipped() {
    let directory = TempDir::new().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let scanners = scanners(ScannerAddress::Tcp(silent.local_addr().unwrap()));
    let copy = copy(&directory, 10).await;
    let mut job = scanners.start(copy.reader(), Exempt { virus: true, spam: false });
    assert_eq!(one(&mut job, in_time()).await.name(), "skipped");
    assert_eq!(job.next(in_time()).await, None);
}

#[tokio::test]
async fn a_scanner_that_is_not_there_is_left_alone_and_then_tried_by_one_message() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let scanners = {
        let breaker = CircuitBreaker { failures: 3, pause: Span::seconds(1), ..CircuitBreaker::default() };
        let clamd = Config { circuit_breaker: breaker, ..config(ScannerAddress::Tcp(address)) };
        Scanners::new(&Scan { clamd: Some(clamd), ..Scan::default() })
    };
    let directory = TempDir::new().unwrap();
    let copy = copy(&directory, 10).await;
    let scan = async || one(&mut scanners.start(copy.reader(), Exempt::default()), in_time()).await;
    for _ in 0..3 {
        let Finding::Failed { reason } = scan().await else { panic!("nobody listens") };
        assert!(reason.starts_with("cannot connect: "), "{reason}");
    }
    let before = clock::now();
    let Finding::Failed { reason } = scan().await else { panic!("nobody listens") };
    assert!(reason.starts_with("left alone after failures in a row"), "{reason}");
    assert!(clock::now().saturating_duration_since(before) < Duration::from_millis(90), "no wait at all");
    assert!(matches!(scanners.view(clock::now())[0].circuit, Circuit::Open(_)));

    let listener = TcpListener::bind(address).unwrap();
    let behave = |mut stream: TcpStream| {
        read_stream(&mut stream);
        stream.write_all(b"stream: OK\0").unwrap();
    };
    serve(listener, behave);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(scan().await, Finding::Clean);
    assert_eq!(scanners.view(clock::now())[0].circuit, Circuit::Closed);
}

#[tokio::test]
async fn an_error_in_the_answer_never_shuts_a_scanner_off() {
    let answer = |mut stream: TcpStream| {
        read_stream(&mut stream);
        stream.write_all(b"stream: Can't parse this ERROR\0").unwrap();
    };
    let scanners = scanners(ScannerAddress::Tcp(clamd(answer)));
    let directory = TempDir::new().unwrap();
    let copy = copy(&directory, 10).await;
    for _ in 0..20 {
        let finding = one(&mut scanners.start(copy.reader(), Exempt::default()), in_time()).await;
        assert!(failed(&finding, "the scanner answered: stream: Can't parse this ERROR"), "{finding:?}");
    }
}

/// A server for one kind of spam scanner, which reads a request of at least `length` octets behind
/// its empty line, says `reply` and closes.
fn spam_server(reply: &'static [u8], length: usize) -> ScannerAddress {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ScannerAddress::Tcp(listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A check of its health waits for ever beside the scan.
            thread::spawn(move || answer_once(stream.unwrap(), reply, length));
        }
    });
    address
}

fn answer_once(mut stream: TcpStream, reply: &[u8], length: usize) {
    let mut request = Vec::new();
    let mut piece = [0; 65_536];
    loop {
        let head = request.windows(4).position(|window| window == b"\r\n\r\n");
        let body = head.and_then(|head| request.get(head..));
        if body.is_some_and(|body| body.len().saturating_sub(4) >= length) {
            break;
        }
        match stream.read(&mut piece) {
            Ok(read @ 1..) => request.extend_from_slice(&piece[..read]),
            Ok(0) | Err(_) => break,
        }
    }
    stream.write_all(reply).unwrap_or_default();
    // What still comes is read: closing before would reset the connection, and take the reply away from the client.
    stream.shutdown(Shutdown::Write).unwrap_or_default();
    while matches!(stream.read(&mut piece), Ok(1..)) {}
}

fn envelope() -> Envelope {
    Envelope {
        id: "01ABC-1".to_owned(),
        client: "192.0.2.7".parse().unwrap(),
        helo: "mx.example.org".to_owned(),
        sender: "s@example.org".to_owned(),
        recipients: vec!["r@example.net".to_owned()],
        authenticated: false,
        gateway: "gw.example".to_owned(),
    }
}

/// The result of one spam scanner, which reads `length` octets of a message of `size`.
async fn rated(scanner: Scanner, reply: &'static [u8], length: usize, size: usize) -> ScanResult {
    let address = String::from(spam_server(reply, length));
    let section = serde_json::json!({ scanner.name(): { "address": address, "health-interval": "5m", "max-size": "64MiB" } });
    let scanners = Scanners::new(&serde_json::from_value(section).unwrap());
    let directory = TempDir::new().unwrap();
    let copy = copy(&directory, size).await;
    let mut job = scanners.start(copy.reader(), Exempt::default());
    job.complete(envelope(), clock::now());
    job.next(in_time()).await.unwrap()
}

#[tokio::test]
async fn a_spam_scanner_is_believed_only_when_it_had_the_whole_message() {
    const HAM: &[u8] = b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 0.1 / 5.0\r\n\r\n";
    const ACCEPT: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 32\r\n\r\n{\"action\":\"no action\",\"score\":0}";
    let result = rated(Scanner::Spamd, HAM, 300_000, 300_000).await;
    assert_eq!(result.finding.name(), SpamAction::NoAction.name(), "{result:?}");
    let result = rated(Scanner::Spamd, HAM, 1_000, 20_000_000).await;
    assert_eq!(result.finding.name(), "failed", "{result:?}");
    let result = rated(Scanner::Rspamd, ACCEPT, 1_000, 20_000_000).await;
    assert_eq!(result.finding.name(), "failed", "{result:?}");
}

#[tokio::test]
async fn answers_of_an_rspamd_that_mean_nothing_are_failures() {
    let ok = b"HTTP/1.1 200 OK\r\nServer: rspamd/3\r\nContent-Length: 33\r\n\r\n{\"action\":\"no action\",\"score\":0.5}";
    let result = rated(Scanner::Rspamd, ok, 300_000, 300_000).await;
    assert_eq!(result.finding.name(), "failed", "cut short: {result:?}");
    let ok = b"HTTP/1.1 200 OK\r\nServer: rspamd/3\r\nContent-Length: 35\r\n\r\n{\"action\":\"no action\",\"score\":0.5}\n";
    let result = rated(Scanner::Rspamd, ok, 300_000, 300_000).await;
    assert_eq!(result.finding.name(), "no-action", "{result:?}");
    for bad in [
        &b""[..],
        b"\r\n",
        b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 0.1 / 5.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{\"action\":\"no action\",\"score\":0.5}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 35\r\n\r\n{\"action\":\"no action\",\"score\":0.5}\n",
        b"HTTP/1.1 204 No\r\n\r\n",
    ] {
        let result = rated(Scanner::Rspamd, bad, 300_000, 300_000).await;
        assert_eq!(result.finding.name(), "failed", "{}: {result:?}", bad.escape_ascii());
    }
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n{\"action\":\"no action\",\"score\":0,\"x\":\"".to_vec();
    endless.resize(8_000_000, b'x');
    let result = rated(Scanner::Rspamd, endless.leak(), 300_000, 300_000).await;
    assert_eq!(result.finding.name(), "failed", "{result:?}");
    let large = b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(rated(Scanner::Rspamd, large, 1_000, 20_000_000).await.finding, Finding::TooLarge);
}
