//! One message is read, and signed.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use mail_auth::dkim::Canonicalization;

use super::canonical::BodyHash;
use super::header::Header;
use super::{Signer, Signers};

/// Octets of a header; messages with a longer one are not signed. It is held, since fields are signed from below.
const LONGEST_HEADER: usize = 256 * 1024;

/// Why a message is not signed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// No key is for its From field and its client.
    #[error("no key signs for its From field")]
    NotOurs,
    /// It has no From field, several, or one without a domain.
    #[error("its From field names no domain")]
    NoSender,
    /// What should be its header is none.
    #[error("its header has lines that are no fields")]
    Malformed,
    /// Its header is longer than what is held of one.
    #[error("its header has more than {LONGEST_HEADER} octets")]
    TooLong,
    /// The key failed.
    #[error("the key of {0} failed")]
    Failed(String),
}

/// What became of a message that should be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// All keys that are for it signed it.
    Made,
    /// Its header is one that cannot be signed; it goes out without a signature.
    Impossible,
    /// A key failed; the message waits.
    Failed,
}

impl Signature {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Made, Self::Impossible, Self::Failed];

    /// One word for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Impossible => "impossible",
            Self::Failed => "failed",
        }
    }

    /// What a pass came to; `None`: the message was none to be signed.
    #[must_use]
    pub const fn of<T>(signed: &Result<T, Unsigned>) -> Option<Self> {
        match signed {
            Ok(_) => Some(Self::Made),
            Err(Unsigned::NotOurs) => None,
            Err(Unsigned::NoSender | Unsigned::Malformed | Unsigned::TooLong) => Some(Self::Impossible),
            Err(Unsigned::Failed(_)) => Some(Self::Failed),
        }
    }
}

/// Reads a message as servers will, without stuffed dots.
pub struct SigningPass {
    signers: Arc<Signers>,
    client: Option<IpAddr>,
    state: State,
}

impl fmt::Debug for SigningPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningPass").field("signers", &self.signers).finish_non_exhaustive()
    }
}

enum State {
    /// What was read of the header.
    Header(Vec<u8>),
    /// The header was read, and there are keys for it.
    Body {
        header: Header,
        signers: Vec<Arc<Signer>>,
        /// One of each kind that is asked for, however many keys there are.
        hashes: Vec<(Canonicalization, BodyHash)>,
    },
    /// It is not signed.
    Unsigned(Unsigned),
}

impl SigningPass {
    pub(super) const fn new(signers: Arc<Signers>, client: Option<IpAddr>) -> Self {
        Self { signers, client, state: State::Header(Vec::new()) }
    }

    /// Takes octets of the message, in pieces of any length; says whether it wants more.
    pub fn octets(&mut self, octets: &[u8]) -> bool {
        match &mut self.state {
            State::Header(read) => {
                // The end may stand across two pieces.
                let known = read.len().saturating_sub(3);
                read.extend_from_slice(octets);
                if let Some(end) = end_of_header(read, known) {
                    let body = read.split_off(end.body);
                    read.truncate(end.header);
                    let header = std::mem::take(read);
                    self.begin_body(header);
                    return self.octets(&body);
                }
                if read.len() > LONGEST_HEADER {
                    self.state = State::Unsigned(Unsigned::TooLong);
                }
            }
            State::Body { hashes, .. } => hashes.iter_mut().for_each(|(_, hash)| hash.octets(octets)),
            State::Unsigned(_) => {}
        }
        !matches!(self.state, State::Unsigned(_))
    }

    fn begin_body(&mut self, header: Vec<u8>) {
        self.state = match self.chosen(header) {
            Ok((header, signers)) => {
                let mut hashes: Vec<(Canonicalization, BodyHash)> = Vec::new();
                for signer in &signers {
                    if hashes.iter().all(|(way, _)| *way != signer.body) {
                        hashes.push((signer.body, BodyHash::new(signer.body)));
                    }
                }
                State::Body { header, signers, hashes }
            }
            Err(unsigned) => State::Unsigned(unsigned),
        };
    }

    fn chosen(&self, header: Vec<u8>) -> Result<(Header, Vec<Arc<Signer>>), Unsigned> {
        if header.len() > LONGEST_HEADER {
            return Err(Unsigned::TooLong);
        }
        let header = Header::parse(header).ok_or(Unsigned::Malformed)?;
        let domain = header.sender_domain().ok_or(Unsigned::NoSender)?;
        let signers = self.signers.for_domain(&domain, self.client);
        if signers.is_empty() { Err(Unsigned::NotOurs) } else { Ok((header, signers)) }
    }

    /// Takes the end of the message; returns the fields that go on top of it. An RSA key takes about a millisecond.
    ///
    /// # Errors
    ///
    /// It is not signed.
    pub fn finish(mut self, wall: SystemTime) -> Result<Vec<u8>, Unsigned> {
        if let State::Header(header) = &mut self.state {
            // There is no body, nor a line that divides it from the header.
            let header = std::mem::take(header);
            self.begin_body(header);
        }
        match self.state {
            State::Body { header, signers, hashes } => {
                let hashes: Vec<_> = hashes.into_iter().map(|(way, hash)| (way, hash.finish())).collect();
                let mut fields = Vec::new();
                for signer in signers {
                    let hash = hashes.iter().find(|(way, _)| *way == signer.body);
                    let hash = hash.map(|(_, hash)| hash.as_slice()).unwrap_or_default();
                    signer.sign(&header, hash, wall, &mut fields)?;
                }
                Ok(fields)
            }
            State::Unsigned(unsigned) => Err(unsigned),
            State::Header(_) => Err(Unsigned::Malformed),
        }
    }
}

/// Where a header ends, its last CRLF counted, and where the body begins.
struct End {
    header: usize,
    body: usize,
}

/// The end of the header, where it is not before `known`.
fn end_of_header(octets: &[u8], known: usize) -> Option<End> {
    if octets.starts_with(b"\r\n") {
        return Some(End { header: 0, body: 2 });
    }
    let fresh = octets.get(known..)?;
    let at = known.saturating_add(memchr::memmem::find(fresh, b"\r\n\r\n")?);
    Some(End { header: at.saturating_add(2), body: at.saturating_add(4) })
}
