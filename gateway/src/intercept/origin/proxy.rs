//! Reading the header of the PROXY protocol off a connection, and nothing behind it.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Error;
use crate::intercept::proxy_header::{Decoder, Header};

/// Octets looked at at once; most headers are shorter.
const LOOK: usize = 512;

/// What the proxy at `peer` says of the connection.
pub(super) async fn receive(stream: &TcpStream, peer: IpAddr, deadline: Duration) -> Result<Header, Error> {
    let received = timeout(deadline, read(stream, peer)).await;
    received.unwrap_or(Err(Error::NoHeader(peer)))
}

async fn read(stream: &TcpStream, peer: IpAddr) -> Result<Header, Error> {
    let mut decoder = Decoder::default();
    let mut octets = [0; LOOK];
    loop {
        // What is behind the header is the client's, and stays in the socket for its session.
        let seen = stream.peek(&mut octets).await?;
        let seen = octets.get_mut(..seen).unwrap_or_default();
        if seen.is_empty() {
            return Err(Error::NoHeader(peer));
        }
        let (taken, header) = decoder.take(seen).map_err(|why| Error::Header { peer, why })?;
        consume(stream, seen.get_mut(..taken).unwrap_or_default()).await?;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

/// Reads as many octets as there is room, all of which were seen in the socket.
async fn consume(stream: &TcpStream, mut room: &mut [u8]) -> io::Result<()> {
    while !room.is_empty() {
        stream.readable().await?;
        match stream.try_read(room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => room = room.get_mut(read..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
