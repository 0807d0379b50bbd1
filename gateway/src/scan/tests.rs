//! A clamd that misbehaves, which a real one cannot be made to do.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::yield_now;

use super::*;
use crate::clock;
use crate::config::file::{Clamd as Config, OnFailure, ScannerAddress, Spool};
use crate::config::units::{ByteCount, Span};
use crate::spool::{SpoolCopy, Spooler};

const LONG: Duration = Duration::from_secs(20);

/// A deadline that a working clamd keeps.
fn in_time() -> Instant {
    clock::now().checked_add(LONG).unwrap()
}

fn scanners(address: ScannerAddress) -> Scanners {
    Scanners::new(&Scan {
        clamd: Some(Config {
            address,
            max_size: ByteCount::mib(64),
            on_too_large: OnFailure::Reject,
            on_failure: OnFailure::Tempfail,
            concurrency: 2,
            health_interval: Span::minutes(5),
        }),
    })
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
    address
}

/// The verdict on a message of `length` bytes by a clamd that behaves so.
async fn verdict(length: usize, behave: impl Fn(TcpStream) + Send + 'static) -> Verdict {
    let scanners = scanners(ScannerAddress::Tcp(clamd(behave)));
    let directory = TempDir::new().unwrap();
    let copy = copy(&directory, length).await;
    scanners.start(copy.reader()).verdict(in_time()).await
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
async fn answered(reply: &'static [u8]) -> Verdict {
    verdict(200_000, move |mut stream| {
        assert_eq!(read_stream(&mut stream).len(), 200_000);
        stream.write_all(reply).unwrap();
    })
    .await
}

fn failed(verdict: &Verdict, reason: &str) -> bool {
    matches!(verdict, Verdict::Failed { reason: said } if said == reason)
}

#[tokio::test]
async fn only_the_exact_answers_are_verdicts() {
    assert_eq!(answered(b"stream: OK\0").await, Verdict::Clean);
    assert_eq!(
        answered(b"stream: Win.Test\r\n250 FOUND\0").await,
        Verdict::Failed { reason: "clamd answered: stream: Win.Test??250 FOUND".to_owned() }
    );
    assert_eq!(answered(b"stream: T FOUND\0").await, Verdict::Infected { signature: "T".to_owned() });
    assert_eq!(answered(b"INSTREAM size limit exceeded. ERROR\0").await, Verdict::TooLarge);
    let error = answered(b"stream: Can't open file ERROR\0").await;
    assert!(failed(&error, "clamd answered: stream: Can't open file ERROR"), "{error:?}");
    assert!(failed(&answered(b"\0").await, "clamd answered: (nothing)"));
}

#[tokio::test]
async fn an_answer_cut_short_is_a_failure_whatever_it_says() {
    for reply in [&b""[..], b"stream: OK", b"stream: T FOUND", &[b'x'; 10_000]] {
        let verdict = answered(reply).await;
        assert!(failed(&verdict, "clamd closed the connection without a complete answer"), "{verdict:?}");
    }
}

#[tokio::test]
async fn ok_before_the_end_of_the_message_is_not_clean() {
    let early = verdict(50_000_000, |mut stream| {
        stream.write_all(b"stream: OK\0").unwrap();
        thread::sleep(Duration::from_secs(1));
    });
    let early = early.await;
    assert!(failed(&early, "clamd answered before it had the whole message"), "{early:?}");
}

#[tokio::test]
async fn the_reason_for_a_broken_pipe_is_heard() {
    let refused = verdict(50_000_000, |mut stream| {
        stream.read_exact(&mut [0; 100_000]).unwrap();
        stream.write_all(b"INSTREAM size limit exceeded. ERROR\0").unwrap();
    });
    assert_eq!(refused.await, Verdict::TooLarge);
    let cut = verdict(50_000_000, |mut stream| stream.read_exact(&mut [0; 100_000]).unwrap()).await;
    assert!(matches!(&cut, Verdict::Failed { reason } if reason.contains("clamd")), "{cut:?}");
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
    assert_eq!(slow.await, Verdict::Infected { signature: "T".to_owned() });
}

#[tokio::test]
async fn a_clamd_that_is_just_starting_is_tried_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("clamd.sock");
    let scanners = scanners(ScannerAddress::Unix(path.clone()));
    let copy = copy(&directory, 10).await;
    let mut job = scanners.start(copy.reader());
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
    assert_eq!(job.verdict(in_time()).await, Verdict::Clean);
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
    let mut job = scanners.start(copy.reader());
    assert!(matches!(job.step(Duration::from_millis(300)).await, Step::Connect));
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
    assert_eq!(job.verdict(in_time()).await, Verdict::Infected { signature: "T".to_owned() });
}

#[tokio::test]
async fn a_panic_or_a_passed_deadline_is_a_failure() {
    let directory = TempDir::new().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let scanners = scanners(ScannerAddress::Tcp(silent.local_addr().unwrap()));
    let copy = copy(&directory, 10).await;
    let mut job = scanners.start(copy.reader());
    let verdict = job.verdict(clock::now() + Duration::from_millis(200)).await;
    assert!(failed(&verdict, "deadline passed while waiting for the scanner's answer"), "{verdict:?}");
    assert_eq!(job.verdict(in_time()).await, verdict, "asked again");

    let mut job = ScanJob {
        task: Some(tokio::spawn(async { panic!("a fault in the scan") })),
        step: Arc::default(),
        verdict: None,
    };
    assert!(matches!(job.verdict(in_time()).await, Verdict::Failed { .. }));
}

impl ScanJob {
    /// Where the scan is after `time`.
    async fn step(&mut self, time: Duration) -> Step {
        tokio::time::sleep(time).await;
        self.step.load()
    }
}
