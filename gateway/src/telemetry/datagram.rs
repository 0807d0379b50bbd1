//! A daemon of this machine that takes datagrams: syslog or the journal.
//!
//! Owns the socket. Never waits: what a full socket does not take is lost, and its caller counts.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The way to such a daemon.
#[derive(Debug)]
pub(super) struct Datagrams {
    path: PathBuf,
    socket: Mutex<Option<UnixDatagram>>,
}

impl Datagrams {
    /// Connects to the daemon behind `path`.
    ///
    /// # Errors
    ///
    /// When nothing listens there.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = open(path)?;
        Ok(Self { path: path.to_owned(), socket: Mutex::new(Some(socket)) })
    }

    /// Sends one datagram; false when it was lost.
    pub(super) fn send(&self, datagram: &[u8]) -> bool {
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

fn open(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_socket_loses_datagrams_and_a_new_daemon_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let datagrams = Datagrams::connect(&path).unwrap();
        let sent = (0..100_000).take_while(|_| datagrams.send(b"fill")).count();
        assert!(sent < 100_000, "a daemon that reads nothing must not hold the gateway up");

        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert!(!datagrams.send(b"lost"));
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert!(datagrams.send(b"found"));
        let mut buffer = [0; 16];
        let length = daemon.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], *b"found");
    }
}
