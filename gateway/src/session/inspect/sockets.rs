//! The session's two sockets: what is read goes into the exchange, what it has for them is written.

use std::future::pending;
use std::io;
use std::time::Instant;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::Driver;
use crate::clock;
use crate::session::table::Stage;
use crate::telemetry::Counter;

/// Octets read at once: commands and replies are short, and most sessions have no more.
const READ: usize = 2 * 1024;
/// Octets read at once from a client that sends a message.
const READ_TEXT: usize = 32 * 1024;

impl Driver<'_> {
    pub(super) fn read_client(&mut self, now: Instant) {
        if !self.exchange.wants_client() {
            return;
        }
        let room = if self.exchange.stage() == Stage::Data { READ_TEXT } else { READ };
        let buffer = self.exchange.client_buffer();
        buffer.reserve(room);
        match self.client.try_read_buf(buffer) {
            Ok(0) => self.exchange.client_ended(now),
            Ok(octets) => {
                self.live.add_from_client(count(octets));
                self.context.telemetry.add(Counter::ClientOctets, count(octets));
                self.exchange.client_received(now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.exchange.client_lost(now),
        }
    }

    pub(super) fn read_server(&mut self, now: Instant) {
        let Some(server) = &self.server else { return };
        if !self.exchange.wants_server() {
            return;
        }
        let buffer = self.exchange.server_buffer();
        buffer.reserve(READ);
        match server.try_read_buf(buffer) {
            Ok(0) => self.exchange.server_ended(now),
            Ok(octets) => {
                self.live.add_from_server(count(octets));
                self.context.telemetry.add(Counter::ServerOctets, count(octets));
                self.exchange.server_received(now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.exchange.server_ended(now),
        }
    }

    pub(super) fn write_client(&mut self) -> bool {
        if self.exchange.to_client().is_empty() {
            return false;
        }
        match self.client.try_write(self.exchange.to_client()) {
            Ok(octets) => self.exchange.client_sent(octets, clock::now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => self.exchange.client_lost(clock::now()),
        }
        true
    }

    pub(super) fn write_server(&mut self) -> bool {
        let Some(server) = &self.server else { return false };
        if self.exchange.to_server().is_empty() {
            return false;
        }
        match server.try_write(self.exchange.to_server()) {
            Ok(octets) => self.exchange.server_sent(octets, clock::now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => {
                // It may have said why before it closed.
                let now = clock::now();
                self.read_server(now);
                self.exchange.server_ended(now);
            }
        }
        true
    }
}

fn count(octets: usize) -> u64 {
    u64::try_from(octets).unwrap_or(u64::MAX)
}

pub(super) fn interest(read: bool, write: bool) -> Option<Interest> {
    match (read, write) {
        (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
        (true, false) => Some(Interest::READABLE),
        (false, true) => Some(Interest::WRITABLE),
        (false, false) => None,
    }
}

pub(super) async fn ready(
    stream: Option<&TcpStream>,
    interest: Option<Interest>,
) -> io::Result<tokio::io::Ready> {
    match (stream, interest) {
        (Some(stream), Some(interest)) => stream.ready(interest).await,
        _ => pending().await,
    }
}
