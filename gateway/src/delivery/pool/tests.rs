//! On a real socket.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::delivery::connection::Detail;
use crate::smtp::client::{Discard, Peer, PixWorkarounds, Protocol, Rules, Terms};

/// Speaks until it is asked whether it still listens, which it only counts.
async fn serve(stream: UnixStream, asked: Arc<AtomicUsize>) {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail.test ESMTP\r\n").await.unwrap();
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|octets| octets > 0) {
        if line.starts_with("RSET") {
            asked.fetch_add(1, Ordering::Relaxed);
        } else {
            stream.write_all(b"250 mail.test\r\n").await.unwrap();
        }
        line.clear();
    }
}

fn target(path: &Path) -> Target {
    let mut rules = Rules::new(Protocol::Smtp, "gw.test");
    rules.timeouts.rset = Duration::from_secs(2);
    Target {
        remote: Remote::Unix(path.to_owned()),
        rules: Arc::new(rules),
        terms: Terms {
            peer: Peer { name: "mail.test".to_owned(), address: String::new(), port: None },
            next_hop: "mail.test".to_owned(),
            detect_loop: false,
            best_mx: false,
            discard: Discard::default(),
            pix: PixWorkarounds::default(),
            tls: TlsLevel::None,
            tls_wrapper: false,
            login: None,
        },
        tls: None,
        detail: Detail::default(),
    }
}

#[tokio::test]
async fn of_connections_to_a_silent_server_one_is_waited_for() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&counted)));
        }
    });
    let (pool, target) = (Arc::new(Pool::default()), target(&path));
    let an_hour = Duration::from_secs(3_600);
    let reuse =
        Reuse { on_demand: true, destinations: BTreeSet::new(), idle: an_hour, age: an_hour, count: 0 };
    for _ in 0..3 {
        let connection = Connection::open(target.clone()).await.unwrap();
        pool.put(Key::new(&target), connection, &reuse);
    }
    assert!(pool.take(&Key::new(&target), &reuse).await.is_none());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(pool.idle().count, 0);
}
