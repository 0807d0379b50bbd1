//! Where a client meant its flow to go.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::address::OriginalDst;
use crate::config::file::Origin;

/// Why the destination is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket does not say.
    #[error("the socket's addresses cannot be read")]
    Socket(#[from] io::Error),
    /// Nobody redirected the flow: the client connected to the gateway itself, and relaying to
    /// the destination would be a loop.
    #[error("the flow was not redirected: it was opened to the gateway's own address {0}")]
    NotRedirected(SocketAddr),
    /// `fixed-server` is missing; `gateway check` says so too.
    #[error("no fixed-server is configured")]
    NoServer,
}

/// The original destination of an accepted connection. `listener` is the address of the socket
/// that accepted it.
///
/// # Errors
///
/// [`Error`]; the connection cannot be served.
pub fn find(
    origin: Origin,
    stream: &TcpStream,
    listener: SocketAddr,
    fixed: Option<SocketAddr>,
) -> Result<OriginalDst, Error> {
    let destination = match origin {
        // The kernel program left the packet's addresses alone: the local one is the server's.
        Origin::Assign => stream.local_addr()?,
        Origin::Netfilter => redirected(stream)?,
        Origin::Fixed => return fixed.map(OriginalDst::new).ok_or(Error::NoServer),
    };
    let destination = OriginalDst::new(destination);
    let own = OriginalDst::new(stream.local_addr()?);
    let direct = match origin {
        Origin::Assign => destination == OriginalDst::new(listener),
        Origin::Netfilter | Origin::Fixed => destination == own,
    };
    if direct { Err(Error::NotRedirected(destination.socket())) } else { Ok(destination) }
}

/// `SO_ORIGINAL_DST` (netfilter's `nf_conntrack_l3proto_ipv4.c`) and its IPv6 twin.
fn redirected(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let address = match stream.local_addr()? {
        SocketAddr::V6(local) if local.ip().to_ipv4_mapped().is_none() => socket.original_dst_v6()?,
        SocketAddr::V4(_) | SocketAddr::V6(_) => socket.original_dst_v4()?,
    };
    address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}
