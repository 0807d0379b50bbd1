//! The session's two sockets: what is read goes into the exchange, what it has for them is written.

use std::future::{Future as _, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::task::ready;
use std::time::Instant;

use bytes::BytesMut;
use nix::libc::MSG_MORE;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::Driver;
use crate::session::table::Stage;
use crate::telemetry::Counter;

/// Octets read at once: commands and replies are short, and most sessions have no more. What is no longer
/// than this, the allocator of the C library keeps for each thread (`glibc.malloc.tcache_max`).
pub(super) const READ: usize = 1024;
/// Octets read at once from a client that sends a message: most are not longer, and the allocator puts what is
/// much longer together with its neighbours each time that it is given back.
pub(super) const READ_TEXT: usize = 8 * 1024;
/// The same once that many have come at once.
const READ_LONG_TEXT: usize = 32 * 1024;

impl Driver<'_> {
    /// Octets that may be read from the client at once.
    pub(super) fn room(&self) -> usize {
        if self.exchange.stage() == Stage::Data { self.text_room } else { READ }
    }

    pub(super) fn client_read(&mut self, read: io::Result<usize>, now: Instant) {
        match read {
            Ok(0) => self.exchange.client_ended(now),
            Ok(octets) => {
                self.live.add_from_client(count(octets));
                self.context.telemetry.add(Counter::ClientOctets, count(octets));
                if octets >= READ_TEXT {
                    self.text_room = READ_LONG_TEXT;
                }
                self.exchange.client_received(now);
            }
            Err(_) => self.exchange.client_lost(now),
        }
    }

    pub(super) fn server_read(&mut self, read: io::Result<usize>, now: Instant) {
        match read {
            Ok(octets @ 1..) => {
                self.live.add_from_server(count(octets));
                self.context.telemetry.add(Counter::ServerOctets, count(octets));
                self.exchange.server_received(now);
            }
            Ok(0) | Err(_) => self.exchange.server_ended(now),
        }
    }

    pub(super) fn write_client(&mut self, now: Instant) -> bool {
        if self.exchange.to_client().is_empty() {
            return false;
        }
        let octets = self.exchange.to_client();
        let written = if self.exchange.is_closing() {
            write_last(&self.client, octets)
        } else {
            self.client.try_write(octets)
        };
        match written {
            Ok(octets) => self.exchange.client_sent(octets, now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => self.exchange.client_lost(now),
        }
        true
    }

    pub(super) fn write_server(&mut self, now: Instant) -> bool {
        let Some(server) = &self.server else { return false };
        if self.exchange.to_server().is_empty() {
            return false;
        }
        match server.try_write(self.exchange.to_server()) {
            Ok(octets) => self.exchange.server_sent(octets, now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => {
                // It may have said why before it closed.
                let buffer = self.exchange.server_buffer();
                buffer.reserve(READ);
                if let Ok(octets @ 1..) = server.try_read_buf(buffer) {
                    self.server_read(Ok(octets), now);
                }
                self.exchange.server_ended(now);
            }
        }
        true
    }
}

/// Writes octets behind which the stream ends: the segment waits for that, and says both (`MSG_MORE`, send(2)).
fn write_last(stream: &TcpStream, octets: &[u8]) -> io::Result<usize> {
    stream.try_io(Interest::WRITABLE, || SockRef::from(stream).send_with_flags(octets, MSG_MORE))
}

fn count(octets: usize) -> u64 {
    u64::try_from(octets).unwrap_or(u64::MAX)
}

/// Appends what there is from `stream` to `buffer`, as soon as there is something; returns how many
/// octets that were. Cancelled, it has read nothing.
///
/// Memory is taken only then: most sessions wait most of the time. A read that does not fill
/// its room leaves the socket known as empty, so that no second one is needed to find that out.
pub(super) async fn receive(
    stream: Option<ReadHalf<'_>>,
    buffer: &mut BytesMut,
    room: usize,
    wanted: bool,
) -> io::Result<usize> {
    let Some(mut stream) = stream.filter(|_| wanted) else { return pending().await };
    poll_fn(|cx| {
        ready!(stream.as_ref().poll_read_ready(cx))?;
        buffer.reserve(room);
        pin!(stream.read_buf(buffer)).poll(cx)
    })
    .await
}

/// Waits until `stream` takes octets again.
pub(super) async fn writable(stream: Option<WriteHalf<'_>>, wanted: bool) -> io::Result<()> {
    match stream.filter(|_| wanted) {
        Some(stream) => stream.writable().await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;
    use nix::{getsockopt_impl, libc, sockopt_impl};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_last_reply_and_the_end_of_the_stream_are_one_segment() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, (mut stream, _)) = (client.unwrap(), accepted.unwrap());
        stream.set_nodelay(true).unwrap();
        let before = segments(&client);
        stream.writable().await.unwrap();
        assert_eq!(write_last(&stream, b"221 2.0.0 Bye\r\n").unwrap(), 15);
        stream.shutdown().await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"221 2.0.0 Bye\r\n");
        assert_eq!(segments(&client) - before, 1);
    }

    sockopt_impl!(
        /// Beginning of `struct tcp_info` (linux/tcp.h).
        Info,
        GetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_INFO,
        [u32; 38]
    );

    /// Segments that came in (`tcpi_segs_in`).
    fn segments(stream: &TcpStream) -> u32 {
        getsockopt(stream, Info).unwrap()[35]
    }
}
