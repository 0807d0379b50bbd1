//! Over real loopback sockets.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// A session: what the client and the server hold, and the gateway between them.
struct Session {
    client: TcpStream,
    server: TcpStream,
    counted: Arc<[AtomicU64; 2]>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Carried>,
    handoff: Arc<Handoff>,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async { listener.accept().await });
    (near.unwrap(), far.unwrap().0)
}

async fn session(engine: SpliceEngine, idle: Duration) -> Session {
    let (client, from_client) = pair().await;
    let (to_server, server) = pair().await;
    carried(client, from_client, to_server, server, engine, idle)
}

fn carried(
    client: TcpStream,
    from_client: TcpStream,
    to_server: TcpStream,
    server: TcpStream,
    engine: SpliceEngine,
    idle: Duration,
) -> Session {
    let counted = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let (stop, stopped) = oneshot::channel::<()>();
    let handoff = Arc::new(Handoff::default());
    let task = tokio::spawn({
        let (counted, handoff) = (Arc::clone(&counted), Arc::clone(&handoff));
        async move {
            let count = |side, octets| {
                let [client, server] = &*counted;
                let counter = if side == Side::Client { client } else { server };
                counter.fetch_add(octets, Ordering::Relaxed);
            };
            let stop = async { stopped.await.unwrap_or_default() };
            handoff.carry(from_client, to_server, engine, idle, count, stop).await
        }
    });
    Session { client, server, counted, stop: Some(stop), task, handoff }
}

impl Session {
    async fn end(self) -> Carried {
        timeout(LONG, self.task).await.expect("the session ends").unwrap()
    }

    fn counted(&self) -> (u64, u64) {
        let [client, server] = &*self.counted;
        (client.load(Ordering::Relaxed), server.load(Ordering::Relaxed))
    }
}

/// `length` bytes that repeat only after the sun has gone out (xorshift64).
fn noise(mut seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend(seed.to_ne_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Writes `bytes` in pieces of odd sizes, ends the direction, and reads what the other side sends.
async fn talk(socket: TcpStream, bytes: Vec<u8>) -> Vec<u8> {
    let (mut from, mut to) = socket.into_split();
    let writer = tokio::spawn(async move {
        let mut rest = &bytes[..];
        let mut size = 1;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(size.min(rest.len()));
            to.write_all(piece).await.unwrap();
            rest = more;
            size = (size * 7 + 3) % 200_003;
        }
        to.shutdown().await.unwrap();
    });
    let mut read = Vec::new();
    from.read_to_end(&mut read).await.unwrap();
    writer.await.unwrap();
    read
}

async fn both_ways(engine: SpliceEngine, expected: Engine) {
    let session = session(engine, LONG).await;
    let (up, down) = (noise(1, 40 << 20), noise(2, 33 << 20));
    let (at_server, at_client) =
        tokio::join!(talk(session.server, down.clone()), talk(session.client, up.clone()));
    assert!(at_server == up, "what the client sent arrived");
    assert!(at_client == down, "what the server sent arrived");
    let carried = session.task.await.unwrap();
    assert!(matches!(carried.ended, Ended::Closed { .. }), "{:?}", carried.ended);
    assert_eq!((carried.from_client, carried.from_server), (40 << 20, 33 << 20));
    assert_eq!(carried.engine, expected);
    assert_eq!(session.counted[0].load(Ordering::Relaxed), 40 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splice_carries_both_directions_at_once() {
    both_ways(SpliceEngine::Auto, Engine::Splice).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_carries_both_directions_at_once() {
    both_ways(SpliceEngine::Copy, Engine::Copy).await;
}

#[tokio::test]
async fn a_socket_that_refuses_splice_is_served_by_copying() {
    let (client, from_client) = pair().await;
    let (to_server, server) = pair().await;
    // splice(2): "EINVAL: target file is opened in append mode".
    fcntl(&to_server, FcntlArg::F_SETFL(OFlag::O_APPEND | OFlag::O_NONBLOCK)).unwrap();
    let session = carried(client, from_client, to_server, server, SpliceEngine::Auto, LONG);
    let (up, down) = (noise(3, 3 << 20), noise(4, 1 << 20));
    let (at_server, at_client) =
        tokio::join!(talk(session.server, down.clone()), talk(session.client, up.clone()));
    assert!(at_server == up && at_client == down);
    assert_eq!(session.task.await.unwrap().engine, Engine::Copy);
}

#[tokio::test]
async fn the_first_to_close_still_hears_the_other() {
    for first in [Side::Client, Side::Server] {
        for engine in [SpliceEngine::Splice, SpliceEngine::Copy] {
            let mut session = session(engine, LONG).await;
            let (early, late) = match first {
                Side::Client => (&mut session.client, &mut session.server),
                Side::Server => (&mut session.server, &mut session.client),
            };
            early.write_all(b"bye").await.unwrap();
            early.shutdown().await.unwrap();
            let mut heard = Vec::new();
            late.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"bye");
            late.write_all(b"not yet").await.unwrap();
            late.shutdown().await.unwrap();
            let mut answer = Vec::new();
            early.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"not yet");
            let carried = session.end().await;
            assert!(matches!(carried.ended, Ended::Closed { first: side } if side == first));
        }
    }
}

#[tokio::test]
async fn a_reset_reaches_the_other_side_as_a_reset() {
    for engine in [SpliceEngine::Splice, SpliceEngine::Copy] {
        let mut session = session(engine, LONG).await;
        session.client.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        session.server.read_exact(&mut hello).await.unwrap();
        reset(session.client);
        let error = session.server.read(&mut hello).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let carried = timeout(LONG, session.task).await.unwrap().unwrap();
        assert!(matches!(carried.ended, Ended::Broken { side: Side::Client, .. }), "{:?}", carried.ended);
    }
}

#[tokio::test]
async fn a_reset_after_the_end_of_its_own_direction_is_noticed() {
    let mut session = session(SpliceEngine::Auto, LONG).await;
    session.client.shutdown().await.unwrap();
    let mut nothing = [0; 1];
    assert_eq!(session.server.read(&mut nothing).await.unwrap(), 0);
    reset(session.client);
    let carried = timeout(LONG, session.task).await.unwrap().unwrap();
    assert!(matches!(carried.ended, Ended::Broken { side: Side::Client, .. }), "{:?}", carried.ended);
    let written = session.server.write(b"too late").await;
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_silent_session_ends_at_the_idle_limit_and_a_talking_one_does_not() {
    let limit = Duration::from_millis(400);
    let mut session = session(SpliceEngine::Auto, limit).await;
    let began = clock::now();
    for _ in 0..6 {
        sleep(limit / 4).await;
        session.server.write_all(b".").await.unwrap();
    }
    let mut dots = [0; 6];
    session.client.read_exact(&mut dots).await.unwrap();
    let end = session.client.read(&mut dots).await;
    assert!(matches!(session.end().await.ended, Ended::Idle));
    assert!(end.is_err(), "the client is reset");
    let lasted = clock::now() - began;
    assert!(lasted >= limit * 5 / 2 && lasted < limit * 6, "{lasted:?}");
}

#[tokio::test]
async fn a_stalled_reader_stalls_the_sender_and_counts_as_silent() {
    for engine in [SpliceEngine::Splice, SpliceEngine::Copy] {
        let session = session(engine, Duration::from_millis(700)).await;
        let bytes = noise(5, 1 << 20);
        let sent = Arc::new(AtomicU64::new(0));
        let sender = tokio::spawn({
            let (mut client, sent) = (session.client, Arc::clone(&sent));
            async move {
                while let Ok(count) = client.write(&bytes).await {
                    sent.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
        });
        let carried = timeout(LONG, session.task).await.unwrap().unwrap();
        sender.await.unwrap();
        assert!(matches!(carried.ended, Ended::Idle), "{:?}", carried.ended);
        // Loopback socket buffers grow to some megabytes each; the gateway adds no more than a pipe.
        assert!(sent.load(Ordering::Relaxed) < 40 << 20, "{sent:?}");
        drop(session.server);
    }
}

#[tokio::test]
async fn a_stopped_session_ends_at_once_and_resets_both_sides() {
    let mut session = session(SpliceEngine::Auto, LONG).await;
    session.client.write_all(b"x").await.unwrap();
    let mut byte = [0; 1];
    session.server.read_exact(&mut byte).await.unwrap();
    assert_eq!(session.counted(), (1, 0));
    session.stop.take().unwrap().send(()).unwrap();
    assert_eq!(session.client.read(&mut byte).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(session.server.read(&mut byte).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(matches!(session.end().await.ended, Ended::Stopped));
}

#[tokio::test]
async fn an_idle_session_holds_no_pipe() {
    let mut session = session(SpliceEngine::Auto, LONG).await;
    let mut byte = [0; 1];
    session.client.write_all(b"x").await.unwrap();
    session.server.read_exact(&mut byte).await.unwrap();
    session.server.write_all(b"y").await.unwrap();
    session.client.read_exact(&mut byte).await.unwrap();
    // Both bursts used the same pipe, and it is back.
    let back = async {
        while session.handoff.pipes.spare() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, back).await.expect("the pipe is given back");
    assert_eq!(session.handoff.pipes.spare(), 1);
    drop(session.client);
    drop(session.server);
    timeout(LONG, session.task).await.unwrap().unwrap();
}
