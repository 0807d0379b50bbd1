//! Lines for the local syslog daemon.
//!
//! Owns the datagram socket and the form of a line: what glibc's `syslog(3)` sends, which is RFC
//! 3164 section 4.1 without the host name; every daemon that listens on `/dev/log` reads it.
//! Never waits: a full socket loses the line, and the loss is counted.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tracing::Level;

use super::log::Sink;
use crate::clock;

/// Where syslog daemons listen.
const SOCKET: &str = "/dev/log";

/// Facility `mail` (RFC 3164 table 1), shifted to its place in the priority.
const FACILITY: u8 = 2 << 3;

/// Octets of a datagram; rsyslog's default `maxMessageSize`.
const DATAGRAM_LENGTH: usize = 8 * 1024;

/// The way to the syslog daemon.
#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    socket: Mutex<Option<UnixDatagram>>,
    zone: TimeZone,
}

impl Syslog {
    /// Connects to the daemon.
    ///
    /// # Errors
    ///
    /// When nothing listens there.
    pub(super) fn connect() -> io::Result<Self> {
        Self::connect_to(PathBuf::from(SOCKET))
    }

    fn connect_to(path: PathBuf) -> io::Result<Self> {
        let socket = open(&path)?;
        Ok(Self { path, socket: Mutex::new(Some(socket)), zone: TimeZone::system() })
    }

    fn send(&self, datagram: &[u8]) -> bool {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        match socket.as_ref().map(|open| open.send(datagram)) {
            Some(Ok(_)) => return true,
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return false,
            // A daemon that was restarted has a new socket under the same name.
            Some(Err(_)) | None => {}
        }
        *socket = open(&self.path).ok();
        socket.as_ref().is_some_and(|open| open.send(datagram).is_ok())
    }
}

impl Sink for Syslog {
    fn write(&self, level: Level, line: &str) -> bool {
        let now = Timestamp::try_from(clock::wall()).unwrap_or(Timestamp::UNIX_EPOCH);
        self.send(datagram(&now.to_zoned(self.zone.clone()), level, line).as_bytes())
    }
}

fn open(path: &PathBuf) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

fn datagram(now: &Zoned, level: Level, line: &str) -> String {
    let priority = FACILITY | severity(level);
    let time = now.strftime("%b %e %H:%M:%S");
    let mut datagram = format!("<{priority}>{time} gateway[{}]: {line}", std::process::id());
    datagram.truncate(datagram.floor_char_boundary(DATAGRAM_LENGTH));
    datagram
}

/// RFC 3164 table 2.
const fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_the_c_library_sends() {
        let now: Zoned = "2026-01-02T03:04:05+00:00[UTC]".parse().unwrap();
        let expected = format!("<22>Jan  2 03:04:05 gateway[{}]: msg=message", std::process::id());
        assert_eq!(datagram(&now, Level::INFO, "msg=message"), expected);
    }

    #[test]
    fn lines_arrive_a_full_socket_loses_them_and_a_new_daemon_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let syslog = Syslog::connect_to(path.clone()).unwrap();
        assert!(syslog.write(Level::WARN, "one"));
        let mut buffer = [0; 256];
        let length = daemon.recv(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"<20>") && buffer[..length].ends_with(b": one"));

        let written = (0..100_000).take_while(|_| syslog.write(Level::INFO, "fill")).count();
        assert!(written < 100_000, "a daemon that reads nothing must not hold the gateway up");

        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert!(!syslog.write(Level::INFO, "lost"));
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert!(syslog.write(Level::INFO, "two"));
        let length = daemon.recv(&mut buffer).unwrap();
        assert!(buffer[..length].ends_with(b": two"));
    }
}
