//! What a TLS client says of itself before anything is encrypted.
//!
//! Owns the reading of the first message of a session that is about to pass unread: the server
//! name it asks for, the version it offers, and a fingerprint of its software. Pure: octets in,
//! facts out. Never keeps octets beyond [`LONGEST`], and never decides anything: a client hello that
//! cannot be read passes like any other octets.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};
use tls_parser::{
    TlsClientHelloContents, TlsMessage, TlsMessageHandshake, parse_tls_message_handshake,
    parse_tls_record_header,
};

mod fingerprint;

/// Longest client hello that is read, in octets; post-quantum key shares make some of 2,000.
pub const LONGEST: usize = 16 * 1024;
/// Octets of a record's header (RFC 8446 section 5.1).
const RECORD_HEADER: usize = 5;
/// Octets of a handshake message's header (RFC 8446 section 4).
const HANDSHAKE_HEADER: usize = 4;
/// Longest server name kept (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 255;

/// What a client hello says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// Server name asked for (RFC 6066 section 3); octets from the network, ASCII only.
    pub server_name: Option<String>,
    /// Highest version offered: `1.3`, or the two octets in hexadecimal.
    pub version: String,
    /// Fingerprint of the client's software in the form of JA4 (FoxIO).
    pub ja4: String,
}

/// How far the reading is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More octets are needed.
    Incomplete,
    /// The client hello is complete.
    Hello(TlsFacts),
    /// This is not a client hello, or a malformed one.
    Other,
}

/// Reads the beginning of a client's stream, which holds all octets so far.
#[must_use]
pub fn read(octets: &[u8]) -> Progress {
    let mut hello = Vec::new();
    let mut rest = octets;
    // A hello may be cut into several records.
    loop {
        match record(rest) {
            Record::Incomplete(part) => {
                hello.extend_from_slice(part);
                return match message(&hello) {
                    Progress::Incomplete if octets.len() >= LONGEST => Progress::Other,
                    progress @ (Progress::Incomplete | Progress::Hello(_) | Progress::Other) => progress,
                };
            }
            Record::Handshake(part, behind) => {
                hello.extend_from_slice(part);
                rest = behind;
                match message(&hello) {
                    Progress::Incomplete if hello.len() < LONGEST => {}
                    Progress::Incomplete => return Progress::Other,
                    progress @ (Progress::Hello(_) | Progress::Other) => return progress,
                }
            }
            Record::Other => return Progress::Other,
        }
    }
}

enum Record<'a> {
    Incomplete(&'a [u8]),
    Handshake(&'a [u8], &'a [u8]),
    Other,
}

/// The content of a handshake record (RFC 8446 section 5.1), and what follows it.
fn record(octets: &[u8]) -> Record<'_> {
    /// The content type `handshake`.
    const HANDSHAKE: u8 = 22;
    if octets.first().is_some_and(|kind| *kind != HANDSHAKE) || octets.get(1).is_some_and(|major| *major != 3)
    {
        return Record::Other;
    }
    let Some((header, body)) = octets.split_at_checked(RECORD_HEADER) else { return Record::Incomplete(&[]) };
    let Ok((_, header)) = parse_tls_record_header(header) else { return Record::Other };
    let length = usize::from(header.len);
    if length == 0 || length > LONGEST {
        return Record::Other;
    }
    match body.split_at_checked(length) {
        Some((content, rest)) => Record::Handshake(content, rest),
        None => Record::Incomplete(body),
    }
}

/// Reads a handshake message.
fn message(octets: &[u8]) -> Progress {
    /// The message type `client_hello`.
    const CLIENT_HELLO: u8 = 1;
    let Some((&[kind, high, middle, low], body)) = octets.split_first_chunk::<HANDSHAKE_HEADER>() else {
        return match octets.first() {
            None | Some(&CLIENT_HELLO) => Progress::Incomplete,
            Some(_) => Progress::Other,
        };
    };
    let length = u32::from_be_bytes([0, high, middle, low]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if kind != CLIENT_HELLO || length > LONGEST {
        return Progress::Other;
    }
    let Some(whole) = octets.get(..length.saturating_add(HANDSHAKE_HEADER)) else {
        debug_assert!(body.len() < length, "the message is there as a whole");
        return Progress::Incomplete;
    };
    match parse_tls_message_handshake(whole) {
        Ok((_, TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)))) => {
            Progress::Hello(facts(&hello))
        }
        _ => Progress::Other,
    }
}

fn facts(hello: &TlsClientHelloContents<'_>) -> TlsFacts {
    let offer = fingerprint::Offer::of(hello);
    TlsFacts {
        server_name: offer.server_name.and_then(name),
        version: match offer.version {
            0x0304 => "1.3".to_owned(),
            0x0303 => "1.2".to_owned(),
            0x0302 => "1.1".to_owned(),
            0x0301 => "1.0".to_owned(),
            0x0300 => "SSL 3.0".to_owned(),
            other => format!("{other:04x}"),
        },
        ja4: offer.ja4(),
    }
}

/// A name that a host can have; any other is not worth a record.
fn name(octets: &[u8]) -> Option<String> {
    let fits = !octets.is_empty() && octets.len() <= LONGEST_NAME && octets.iter().all(u8::is_ascii_graphic);
    fits.then(|| String::from_utf8_lossy(octets).into_owned())
}

#[cfg(test)]
mod tests;
