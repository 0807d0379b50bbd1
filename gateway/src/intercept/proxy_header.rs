//! The header of the PROXY protocol, versions 1 and 2 (HAProxy, `doc/proxy-protocol.txt`, 2020/03/05).
//!
//! Owns which octets are the header, and what they say. Never guesses whether there is one, and
//! takes no octet behind it.

use std::net::SocketAddr;

mod crc32c;
mod v1;
mod v2;

/// What a header says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself, or does not know for whom: LOCAL, UNKNOWN, UNSPEC.
    Local,
    /// The connection that the proxy accepted.
    Proxied {
        /// Where it came from.
        source: SocketAddr,
        /// Where it went to.
        destination: SocketAddr,
    },
}

/// Why octets are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They begin with neither signature.
    #[error("no header of the PROXY protocol")]
    NoHeader,
    /// Version 1: longer than 107 octets.
    #[error("a PROXY line without an end")]
    TooLong,
    /// Version 1: not what section 2.1 has.
    #[error("a malformed PROXY line")]
    Line,
    /// Version 2: another version, or an unknown command.
    #[error("version or command {0:#04x} of the PROXY protocol")]
    Command(u8),
    /// Version 2: neither TCP nor nothing.
    #[error("family and protocol {0:#04x} of the PROXY protocol")]
    Family(u8),
    /// Version 2: no room for the addresses, or more than any proxy sends.
    #[error("a PROXY header with {0} octets behind its head")]
    Length(u16),
    /// Version 2: the additional values do not fill their room.
    #[error("malformed values in a PROXY header")]
    Values,
    /// Version 2: the checksum is another one.
    #[error("a PROXY header with a wrong checksum")]
    Checksum,
}

/// Takes a header out of a stream, however it is cut into pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    seen: Vec<u8>,
}

impl Decoder {
    /// Looks at the next octets of the stream: how many of them belong to the header, and what it
    /// says once it is complete.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; the connection cannot be served.
    pub fn take(&mut self, octets: &[u8]) -> Result<(usize, Option<Header>), Malformed> {
        let mut taken: usize = 0;
        loop {
            let rest = octets.get(taken..).unwrap_or_default();
            let Some(first) = self.seen.first().or(rest.first()) else { return Ok((taken, None)) };
            let more = match *first {
                v1::FIRST => v1::wanted(&self.seen, rest)?,
                v2::FIRST => v2::wanted(&self.seen)?,
                _ => return Err(Malformed::NoHeader),
            };
            if more == 0 {
                let read = if *first == v1::FIRST { v1::read } else { v2::read };
                return read(&self.seen).map(|header| (taken, Some(header)));
            }
            let piece = rest.get(..more.min(rest.len())).unwrap_or_default();
            if piece.is_empty() {
                return Ok((taken, None));
            }
            self.seen.extend_from_slice(piece);
            taken = taken.saturating_add(piece.len());
        }
    }
}

#[cfg(test)]
mod tests;
