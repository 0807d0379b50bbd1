//! The line of smtp-gated's `remote` mode: a question of the ident protocol (RFC 1413), with an
//! answer of its own, over TCP and for IPv4 only.
//!
//! Addresses are not told but those of the connection that carries it. The question is `CPORT ,
//! LPORT`, the answer `CPORT , LPORT : ORIGIN : address : port : identity`.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Answer, Question, Unusable};
use crate::intercept::identity::Identity;

/// Longest line with its line end (RFC 1413 section 6 has 1000 for an answer).
pub const LONGEST: u64 = 1000;

/// The line that asks, with its line end.
#[must_use]
pub fn ask(question: Question) -> String {
    format!("{} , {}\r\n", question.client.port(), question.gateway.port())
}

/// Reads a line that asks, with its line end: the ports of client and gateway.
///
/// # Errors
///
/// [`Unusable::Format`].
pub fn asked(line: &[u8]) -> Result<(u16, u16), Unusable> {
    ports(whole(line)?)
}

/// The line that answers, with its line end.
#[must_use]
pub fn answer(question: Question, answer: &Answer) -> String {
    let ports = format!("{} , {}", question.client.port(), question.gateway.port());
    match answer {
        Answer::Found { destination: SocketAddr::V4(destination), identity } => {
            let identity = identity.as_ref().map(Identity::as_str).unwrap_or_default();
            format!("{ports} : ORIGIN : {} : {} : {identity}\r\n", destination.ip(), destination.port())
        }
        // RFC 1413 section 4: the connection is not in use.
        Answer::Found { .. } | Answer::Unknown => format!("{ports} : ERROR : NO-USER\r\n"),
    }
}

/// Reads a line that answers `question`, with its line end.
///
/// # Errors
///
/// [`Unusable`].
pub fn answered(line: &[u8], question: Question) -> Result<Answer, Unusable> {
    let mut fields = whole(line)?.splitn(5, ':').map(str::trim);
    let mut next = || fields.next().ok_or(Unusable::Format);
    if ports(next()?)? != (question.client.port(), question.gateway.port()) {
        return Err(Unusable::Other);
    }
    match next()? {
        "ERROR" => Ok(Answer::Unknown),
        "ORIGIN" => {
            let address: Ipv4Addr = next()?.parse().map_err(|_| Unusable::Address)?;
            let port: u16 = next()?.parse().map_err(|_| Unusable::Address)?;
            let identity = Identity::new(next().unwrap_or_default().as_bytes());
            Ok(Answer::Found { destination: SocketAddr::from((address, port)), identity })
        }
        _ => Err(Unusable::Format),
    }
}

/// A line that was not cut off.
fn whole(line: &[u8]) -> Result<&str, Unusable> {
    let line = line.strip_suffix(b"\n").ok_or(Unusable::Format)?;
    str::from_utf8(line).map_err(|_| Unusable::Format)
}

fn ports(text: &str) -> Result<(u16, u16), Unusable> {
    let (client, gateway) = text.split_once(',').ok_or(Unusable::Format)?;
    let port = |text: &str| text.trim().parse().map_err(|_| Unusable::Format);
    Ok((port(client)?, port(gateway)?))
}
