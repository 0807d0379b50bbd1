//! Where servers are, and how they are connected to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tokio::net::{TcpSocket, UnixStream};

use super::stream::Stream;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Remote {
    /// Behind TCP.
    Tcp {
        /// Its address and port.
        address: SocketAddr,
        /// The address that is connected from (`bind-address`); of another family, it does not count.
        source: Option<IpAddr>,
        /// Without that address there is no connection (`bind-address-enforce`).
        must_bind: bool,
        /// Octets of both socket buffers (`tcp-windowsize`).
        window: Option<u32>,
    },
    /// Behind a UNIX socket.
    Unix(PathBuf),
}

/// Whether this machine has an address, as far as connections can come from there.
#[must_use]
pub fn is_here(address: IpAddr) -> bool {
    // Nothing is sent, and the port is free again at once.
    std::net::UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Connects, as long as it takes.
pub(super) async fn connected(remote: &Remote) -> io::Result<Stream> {
    match remote {
        Remote::Unix(path) => Ok(Stream::new(UnixStream::connect(path).await?)),
        Remote::Tcp { address, source, must_bind, window } => {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(window) = window {
                socket.set_recv_buffer_size(*window)?;
                socket.set_send_buffer_size(*window)?;
            }
            if let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
                match socket.bind(SocketAddr::new(source, 0)) {
                    Err(error) if *must_bind => {
                        return Err(io::Error::new(
                            error.kind(),
                            format!("bind {source}: {}", spoken(&error)),
                        ));
                    }
                    Err(error) => tracing::debug!(%source, %error, "the source address cannot be used"),
                    Ok(()) => {}
                }
            }
            let stream = socket.connect(*address).await?;
            stream.set_nodelay(true)?;
            Ok(Stream::new(stream))
        }
    }
}

/// Whether this host has not what a connection takes: descriptors, memory, ports.
pub(super) fn is_lack(error: &io::Error) -> bool {
    use nix::errno::Errno::{EADDRNOTAVAIL, EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    let number = error.raw_os_error().map(nix::errno::Errno::from_raw);
    number.is_some_and(|number| [EADDRNOTAVAIL, EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(&number))
}

/// An error in the system's words, without its number.
pub(super) fn spoken(error: &io::Error) -> String {
    let number = error.raw_os_error().map(nix::errno::Errno::from_raw);
    number.map_or_else(|| error.to_string(), |number| number.desc().to_owned())
}
