//! The first octets of a session that is about to pass unread: the client's hello.
//!
//! Nothing waits for the reading: octets go to the server as they come, and are looked at on their
//! way.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock;
use crate::outcome::SessionEnd;
use crate::tls::{self, Progress, TlsFacts};

/// How long a client may take for its hello before it is no longer looked at.
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets read at once.
const READ: usize = 4 * 1024;

/// Passes the client's first octets on until they are a hello, or are none; `count` hears of
/// octets as they are read.
///
/// # Errors
///
/// How the session ended, where it did.
pub(super) async fn pass(
    client: &TcpStream,
    server: &TcpStream,
    idle: Duration,
    count: impl Fn(u64),
) -> Result<Option<TlsFacts>, SessionEnd> {
    let until = Instant::from_std(clock::now()).checked_add(PATIENCE);
    let Some(until) = until else { return Ok(None) };
    let mut seen = Vec::new();
    let mut first = [0];
    loop {
        match tls::read(&seen) {
            Progress::Hello(facts) => return Ok(Some(facts)),
            Progress::Other => return Ok(None),
            Progress::Incomplete => {}
        }
        tokio::select! {
            ready = client.readable() => if ready.is_err() { return Ok(None) },
            // A server that speaks first, or leaves, is not waiting for a hello. Readiness alone
            // may be that of its last reply.
            _ = server.peek(&mut first) => return Ok(None),
            () = sleep_until(until) => return Ok(None),
        }
        let mut octets = [0; READ];
        let read = match client.try_read(&mut octets) {
            // The end is seen again by whoever carries the session on.
            Ok(0) => return Ok(None),
            Ok(read) => octets.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return Ok(None),
        };
        count(u64::try_from(read.len()).unwrap_or(u64::MAX));
        seen.extend_from_slice(read);
        let written = write_all(server, read);
        let written = if idle.is_zero() { Ok(written.await) } else { timeout(idle, written).await };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(SessionEnd::Server),
            Err(_) => return Err(SessionEnd::Timeout),
        }
    }
}

async fn write_all(server: &TcpStream, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        server.writable().await?;
        match server.try_write(octets) {
            Ok(written) => octets = octets.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
