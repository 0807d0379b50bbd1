//! A connection as the kernel knows it, and taking it over without a word to its peer
//! (`TCP_REPAIR`, tcp(7)).
//!
//! Owns the socket options this takes. Never decides what is done with a connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use gateway_common::translation::End;
use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use rustix::io::Errno;
use socket2::SockRef;

/// Beginning of `struct tcp_info` (linux/tcp.h): every kernel since 4.6 knows as much of it.
type TcpInfo = [u32; 38];
/// `SO_MEMINFO` (linux/sock_diag.h).
type MemoryInfo = [u32; 9];

sockopt_impl!(
    /// What the kernel knows of a connection.
    Info,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    TcpInfo
);
sockopt_impl!(
    /// What memory a socket holds.
    Memory,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    MemoryInfo
);
sockopt_impl!(
    /// Repair mode.
    Repair,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_REPAIR,
    libc::c_int
);
sockopt_impl!(
    /// Which queue the other options are about.
    Queue,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_REPAIR_QUEUE,
    libc::c_int
);
sockopt_impl!(
    /// The sequence number at the end of that queue.
    QueueSequence,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_QUEUE_SEQ,
    u32
);
sockopt_impl!(
    /// The clock of the timestamps that are sent.
    Clock,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_TIMESTAMP,
    u32
);
sockopt_impl!(
    /// In repair mode: the largest segment the peer said it takes.
    PeerSegment,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_MAXSEG,
    u32
);

/// Values of `TCP_REPAIR` and `TCP_REPAIR_QUEUE` (linux/tcp.h).
const ON: libc::c_int = 1;
/// Off, with a probe of the peer's window.
const OFF_WITH_PROBE: libc::c_int = 0;
/// Off, without a probe of the peer's window.
const OFF_SILENTLY: libc::c_int = -1;
const RECEIVE_QUEUE: libc::c_int = 1;
const SEND_QUEUE: libc::c_int = 2;

/// `TCPI_OPT_…` (linux/tcp.h).
const OPTION_TIMESTAMPS: u8 = 1;
const OPTION_SACK: u8 = 2;
const OPTION_WINDOW_SCALE: u8 = 4;
const OPTION_ECN: u8 = 8;

/// `TCP_ESTABLISHED` (net/tcp_states.h).
const ESTABLISHED: u8 = 1;

/// What is known of a connection at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether both directions are open.
    pub open: bool,
    /// Whether everything sent is acknowledged.
    pub sent: bool,
    /// Whether everything received is read, nothing has come out of order, and nothing urgent.
    pub read: bool,
    /// Whether timestamps are in use.
    pub timestamps: bool,
    /// Whether selective acknowledgements are.
    pub sack: bool,
    /// Whether explicit congestion notification is.
    pub ecn: bool,
    /// Shifts of windows: the peer's, and the gateway's.
    pub scales: (u8, u8),
    /// The largest segment the gateway said it takes, in octets, without options.
    pub announced_segment: u32,
}

/// One of the gateway's connections.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Takes over a connected TCP socket.
    #[must_use]
    pub const fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Its local and its peer's address.
    ///
    /// # Errors
    ///
    /// It is not connected, or not an internet socket.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        let socket = SockRef::from(&self.0);
        let of = |address: socket2::SockAddr| {
            address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        };
        Ok((of(socket.local_addr()?)?, of(socket.peer_addr()?)?))
    }

    /// Sends the acknowledgement that it owes its peer, if any.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn acknowledge(&self) -> io::Result<()> {
        SockRef::from(&self.0).set_tcp_quickack(true)
    }

    /// Has its peer acknowledge at once what it may have received and means to acknowledge with its
    /// next words: a probe of the window must be answered (RFC 9293 section 3.10.7.4).
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn probe(&self) -> io::Result<()> {
        let reuse = getsockopt(&self.0, sockopt::ReuseAddr)?;
        setsockopt(&self.0, Repair, &ON)?;
        setsockopt(&self.0, Repair, &OFF_WITH_PROBE)?;
        Ok(setsockopt(&self.0, sockopt::ReuseAddr, &reuse)?)
    }

    /// How it stands.
    ///
    /// # Errors
    ///
    /// It is no TCP socket.
    pub fn facts(&self) -> io::Result<Facts> {
        let info = getsockopt(&self.0, Info)?;
        let [[state, ..], [_, options, scales, _], ..] = info.map(u32::to_ne_bytes);
        let (unacknowledged, unsent, announced_segment) = (info[6], info[36], info[21]);
        let [held, ..] = getsockopt(&self.0, Memory)?;
        let scaled = options & OPTION_WINDOW_SCALE != 0;
        Ok(Facts {
            open: state == ESTABLISHED,
            sent: unacknowledged == 0 && unsent == 0,
            read: held == 0,
            timestamps: options & OPTION_TIMESTAMPS != 0,
            sack: options & OPTION_SACK != 0,
            ecn: options & OPTION_ECN != 0,
            scales: if scaled { scale_fields(scales) } else { (0, 0) },
            announced_segment,
        })
    }

    /// Enters repair mode: whatever is done next is not told to the peer.
    ///
    /// # Errors
    ///
    /// This process lacks `CAP_NET_ADMIN`, or the kernel has no such mode.
    pub fn take_over(self) -> Result<Taken, (Self, io::Error)> {
        let reuse = match getsockopt(&self.0, sockopt::ReuseAddr) {
            Ok(reuse) => reuse,
            Err(error) => return Err((self, error.into())),
        };
        match setsockopt(&self.0, Repair, &ON) {
            Ok(()) => Ok(Taken { connection: self, reuse }),
            Err(error) => Err((self, error.into())),
        }
    }
}

/// The two bit fields in the octet of `struct tcp_info`: the peer's shift comes first.
const fn scale_fields(octet: u8) -> (u8, u8) {
    if cfg!(target_endian = "little") { (octet & 0xf, octet >> 4) } else { (octet >> 4, octet & 0xf) }
}

/// A connection in repair mode.
#[derive(Debug)]
pub struct Taken {
    connection: Connection,
    /// `SO_REUSEADDR`, which repair mode changes.
    reuse: bool,
}

impl Taken {
    /// How it stands.
    ///
    /// # Errors
    ///
    /// As [`Connection::facts`].
    pub fn facts(&self) -> io::Result<Facts> {
        self.connection.facts()
    }

    /// The largest segment its peer said it takes, in octets, without options.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn peer_segment(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.connection.0, PeerSegment)?)
    }

    /// Where its numbers stand.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn end(&self, facts: &Facts) -> io::Result<End> {
        let socket = &self.connection.0;
        setsockopt(socket, Queue, &SEND_QUEUE)?;
        let write = getsockopt(socket, QueueSequence)?;
        setsockopt(socket, Queue, &RECEIVE_QUEUE)?;
        let expected = getsockopt(socket, QueueSequence)?;
        let clock = if facts.timestamps { Some(getsockopt(socket, Clock)?) } else { None };
        let (their_scale, our_scale) = facts.scales;
        Ok(End { write, expected, their_scale, our_scale, clock })
    }

    /// Leaves repair mode: the connection goes on as if nothing had happened.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn give_back(self) -> io::Result<Connection> {
        setsockopt(&self.connection.0, Repair, &OFF_SILENTLY)?;
        setsockopt(&self.connection.0, sockopt::ReuseAddr, &self.reuse)?;
        Ok(self.connection)
    }

    /// Ends the connection on this side without a word, whoever else has its descriptor.
    ///
    /// # Errors
    ///
    /// The kernel refuses; then it ends, as silently, when its last descriptor is closed.
    pub fn forget(self) -> io::Result<()> {
        match rustix::net::connect_unspec(self.connection.0.as_fd()) {
            // Says so although it has done it, on some kernels.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn facts_tell_unread_octets_from_none() {
        use std::io::Write as _;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let connection = Connection::new(server.into());
        let facts = connection.facts().unwrap();
        assert!(facts.open && facts.sent && facts.read, "{facts:?}");
        assert!(facts.announced_segment > 500, "{facts:?}");
        client.write_all(b"x").unwrap();
        assert!(!connection.facts().unwrap().read);
        drop(client);
        assert!(!connection.facts().unwrap().open);
    }
}
