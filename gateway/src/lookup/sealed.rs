//! The gateway's own format: one datagram of 182 octets each way, under a seal.
//!
//! | octets | what |
//! | --- | --- |
//! | 4 | `GWOL` |
//! | 1 | version, 1 |
//! | 1 | 1: question, 2: found, 3: unknown |
//! | 2 | 0 |
//! | 16 | nonce, at random for each question; the answer repeats it |
//! | 8 | milliseconds since 1970 |
//! | 18 | client: address (IPv4 mapped into IPv6) and port |
//! | 18 | gateway: the same |
//! | 18 | destination: the same, 0 if not known |
//! | 64 | identity, filled with 0 |
//! | 32 | HMAC-SHA-256 (RFC 2104) of all before, under the common secret |
//!
//! Numbers are in network byte order. Both have the same length, so that nobody is sent more than
//! has asked.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Answer, Asked, Nonce, Question, Unusable};
use crate::intercept::identity::Identity;

const MAGIC: [u8; 4] = *b"GWOL";
const VERSION: u8 = 1;
const QUESTION: u8 = 1;
const FOUND: u8 = 2;
const UNKNOWN: u8 = 3;

/// Address and port.
#[derive(Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct End {
    address: [u8; 16],
    port: [u8; 2],
}

impl From<SocketAddr> for End {
    fn from(end: SocketAddr) -> Self {
        let address = match end.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Self { address: address.octets(), port: end.port().to_be_bytes() }
    }
}

impl From<End> for SocketAddr {
    fn from(end: End) -> Self {
        let address = Ipv6Addr::from(end.address);
        Self::new(IpAddr::V6(address).to_canonical(), u16::from_be_bytes(end.port))
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Body {
    magic: [u8; 4],
    version: u8,
    kind: u8,
    zero: [u8; 2],
    nonce: [u8; 16],
    sent: [u8; 8],
    client: End,
    gateway: End,
    destination: End,
    identity: [u8; 64],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Datagram {
    body: Body,
    seal: [u8; 32],
}

const _: () = assert!(size_of::<Datagram>() == 182);

/// What both sides know.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl Key {
    /// The key that a secret stands for.
    #[must_use]
    pub fn new(secret: &str) -> Option<Self> {
        Hmac::new_from_slice(secret.as_bytes()).ok().map(Self)
    }

    fn seal(&self, body: Body) -> Vec<u8> {
        let mut mac = self.0.clone();
        mac.update(body.as_bytes());
        let seal = mac.finalize().into_bytes().into();
        Datagram { body, seal }.as_bytes().to_vec()
    }

    /// The datagram's body, once its seal is known to be whole.
    fn open(&self, datagram: &[u8]) -> Result<Body, Unusable> {
        let datagram = Datagram::ref_from_bytes(datagram).map_err(|_| Unusable::Format)?;
        let body = datagram.body;
        if body.magic != MAGIC || body.version != VERSION || body.zero != [0; 2] {
            return Err(Unusable::Format);
        }
        let mut mac = self.0.clone();
        mac.update(body.as_bytes());
        // In constant time, so that nobody learns a seal octet by octet.
        mac.verify_slice(&datagram.seal).map_err(|_| Unusable::Secret)?;
        Ok(body)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

fn body(kind: u8, question: Question, nonce: Nonce, wall: u64) -> Body {
    Body {
        magic: MAGIC,
        version: VERSION,
        kind,
        zero: [0; 2],
        nonce: nonce.0,
        sent: wall.to_be_bytes(),
        client: question.client.into(),
        gateway: question.gateway.into(),
        destination: End::default(),
        identity: [0; 64],
    }
}

/// The datagram that asks.
pub(super) fn ask(key: &Key, question: Question, nonce: Nonce, wall: u64) -> Vec<u8> {
    key.seal(body(QUESTION, question, nonce, wall))
}

/// Reads a datagram that asks.
pub(super) fn asked(key: &Key, datagram: &[u8]) -> Result<Asked, Unusable> {
    let body = key.open(datagram)?;
    if body.kind != QUESTION {
        return Err(Unusable::Format);
    }
    let question = Question { client: body.client.into(), gateway: body.gateway.into() };
    Ok(Asked { question, nonce: Nonce(body.nonce), sent: Some(u64::from_be_bytes(body.sent)) })
}

/// The datagram that answers.
pub(super) fn answer(key: &Key, asked: &Asked, answer: &Answer, wall: u64) -> Vec<u8> {
    let mut body = body(UNKNOWN, asked.question, asked.nonce, wall);
    if let Answer::Found { destination, identity } = answer {
        body.kind = FOUND;
        body.destination = (*destination).into();
        let text = identity.as_ref().map(Identity::as_str).unwrap_or_default();
        for (room, octet) in body.identity.iter_mut().zip(text.bytes()) {
            *room = octet;
        }
    }
    key.seal(body)
}

/// Reads a datagram that answers. A nonce of this moment makes it fresh, whatever its clock says.
pub(super) fn answered(
    key: &Key,
    datagram: &[u8],
    question: Question,
    nonces: &[Nonce],
) -> Result<Answer, Unusable> {
    let body = key.open(datagram)?;
    let ends = (End::from(question.client), End::from(question.gateway));
    if !nonces.contains(&Nonce(body.nonce)) || (body.client, body.gateway) != ends {
        return Err(Unusable::Other);
    }
    match body.kind {
        FOUND => Ok(Answer::Found {
            destination: body.destination.into(),
            identity: Identity::new(&body.identity),
        }),
        UNKNOWN => Ok(Answer::Unknown),
        _ => Err(Unusable::Format),
    }
}
