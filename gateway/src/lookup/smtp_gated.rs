//! The datagram of smtp-gated's `remote-udp` mode: 66 octets each way, in clear, IPv4 only.
//!
//! | octets | what |
//! | --- | --- |
//! | 4 | `RPHD` |
//! | 4 | cookie, at random for each question; the answer repeats it |
//! | 4 | secret |
//! | 2 | version, 0x0402 |
//! | 2 | 1: question, 2: answer; 0x10: found, 0x20: not found |
//! | 4, 4 | address of the client, of the gateway; in an answer the second is the destination's |
//! | 2, 2 | ports of both |
//! | 32 | identity, filled with 0 |
//! | 6 | not used |
//!
//! The secret shows who may ask. Nothing shows who answers but the cookie, which is as secret as
//! the path is private.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Answer, Asked, Nonce, Question, Unusable};
use crate::intercept::identity::Identity;

const MAGIC: [u8; 4] = *b"RPHD";
const VERSION: [u8; 2] = 0x0402_u16.to_be_bytes();
const QUESTION: u16 = 1;
const ANSWER: u16 = 2;
const FOUND: u16 = 0x10;
const NOT_FOUND: u16 = 0x20;

/// The number that both sides know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub u32);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Datagram {
    magic: [u8; 4],
    cookie: [u8; 4],
    secret: [u8; 4],
    version: [u8; 2],
    flags: [u8; 2],
    client: [u8; 4],
    gateway: [u8; 4],
    client_port: [u8; 2],
    gateway_port: [u8; 2],
    identity: [u8; 32],
    mac: [u8; 6],
}

const _: () = assert!(size_of::<Datagram>() == 66);

/// Longest identity that the other side keeps.
const LONGEST: usize = 20;

impl Datagram {
    fn new(secret: Secret, flags: u16, question: Question, nonce: Nonce) -> Result<Self, Unusable> {
        let (IpAddr::V4(client), IpAddr::V4(gateway)) = (question.client.ip(), question.gateway.ip()) else {
            return Err(Unusable::Address);
        };
        let [a, b, c, d, ..] = nonce.0;
        Ok(Self {
            magic: MAGIC,
            cookie: [a, b, c, d],
            secret: secret.0.to_be_bytes(),
            version: VERSION,
            flags: flags.to_be_bytes(),
            client: client.octets(),
            gateway: gateway.octets(),
            client_port: question.client.port().to_be_bytes(),
            gateway_port: question.gateway.port().to_be_bytes(),
            identity: [0; 32],
            mac: [0; 6],
        })
    }

    fn read(octets: &[u8]) -> Result<&Self, Unusable> {
        let datagram = Self::ref_from_bytes(octets).map_err(|_| Unusable::Format)?;
        let ours = datagram.magic == MAGIC && datagram.version == VERSION;
        if ours { Ok(datagram) } else { Err(Unusable::Format) }
    }

    const fn flags(&self) -> u16 {
        u16::from_be_bytes(self.flags)
    }

    fn question(&self) -> Question {
        let end =
            |address: [u8; 4], port| SocketAddr::from((Ipv4Addr::from(address), u16::from_be_bytes(port)));
        Question { client: end(self.client, self.client_port), gateway: end(self.gateway, self.gateway_port) }
    }

    /// The cookie, in a nonce's room.
    fn nonce(&self) -> Nonce {
        let mut nonce = [0; 16];
        for (room, octet) in nonce.iter_mut().zip(self.cookie) {
            *room = octet;
        }
        Nonce(nonce)
    }
}

/// The datagram that asks; a nonce's first four octets are the cookie.
pub(super) fn ask(secret: Secret, question: Question, nonce: Nonce) -> Result<Vec<u8>, Unusable> {
    Datagram::new(secret, QUESTION, question, nonce).map(|datagram| datagram.as_bytes().to_vec())
}

/// Reads a datagram that asks.
pub(super) fn asked(secret: Secret, octets: &[u8]) -> Result<Asked, Unusable> {
    let datagram = Datagram::read(octets)?;
    if datagram.flags() != QUESTION {
        return Err(Unusable::Format);
    }
    if datagram.secret != secret.0.to_be_bytes() {
        return Err(Unusable::Secret);
    }
    Ok(Asked { question: datagram.question(), nonce: datagram.nonce(), sent: None })
}

/// The datagram that answers.
pub(super) fn answer(secret: Secret, asked: &Asked, answer: &Answer) -> Result<Vec<u8>, Unusable> {
    let Answer::Found { destination, identity } = answer else {
        let datagram = Datagram::new(secret, ANSWER | NOT_FOUND, asked.question, asked.nonce)?;
        return Ok(datagram.as_bytes().to_vec());
    };
    let told = Question { gateway: *destination, ..asked.question };
    let mut datagram = Datagram::new(secret, ANSWER | FOUND, told, asked.nonce)?;
    let text = identity.as_ref().map(Identity::as_str).unwrap_or_default();
    for (room, octet) in datagram.identity.iter_mut().take(LONGEST).zip(text.bytes()) {
        *room = octet;
    }
    Ok(datagram.as_bytes().to_vec())
}

/// Reads a datagram that answers.
pub(super) fn answered(octets: &[u8], nonces: &[Nonce]) -> Result<Answer, Unusable> {
    let datagram = Datagram::read(octets)?;
    let cookie = |nonce: &Nonce| nonce.0.starts_with(&datagram.cookie);
    if !nonces.iter().any(cookie) {
        return Err(Unusable::Other);
    }
    let flags = datagram.flags();
    if flags & ANSWER == 0 {
        return Err(Unusable::Format);
    }
    match flags & (FOUND | NOT_FOUND) {
        FOUND => Ok(Answer::Found {
            destination: datagram.question().gateway,
            identity: Identity::new(&datagram.identity),
        }),
        NOT_FOUND => Ok(Answer::Unknown),
        _ => Err(Unusable::Format),
    }
}
