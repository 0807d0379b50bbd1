//! Signatures on mail that leaves (DKIM: RFC 6376, RFC 8463).
//!
//! Owns which keys sign a message, and over which octets: those that the server reads. Checks, mapped addresses, another
//! encoding and folded lines change a message on its way to one server and not to the next, so that it is signed when a
//! server has asked for it, and read once more for that. Keys and the syntax of the field are `mail-auth`'s; what is read
//! goes through in pieces, and only the header is held.

mod canonical;
mod header;
mod key;
mod pass;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mail_auth::common::crypto::{DkimKey, SigningKey as _};
use mail_auth::common::headers::{Writable, Writer};
use mail_auth::dkim::{Canonicalization, Signature as Field};

use crate::config::file::Network;
use crate::config::file::delivery::{self, Dkim, DomainPattern, FieldName};
use header::Header;

pub use key::KeyError;
pub use pass::{Signature, SigningPass, Unsigned};

/// The keys that sign, in the order of the section.
#[derive(Debug, Default)]
pub struct Signers {
    list: Vec<Arc<Signer>>,
}

/// One of them.
struct Signer {
    domain: String,
    selector: String,
    key: DkimKey,
    from: Vec<DomainPattern>,
    clients: Vec<Network>,
    names: Vec<String>,
    oversigned: Vec<String>,
    header: Canonicalization,
    body: Canonicalization,
    expiry: Duration,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}._domainkey.{}", self.selector, self.domain)
    }
}

impl Signers {
    /// The keys of a section; `read` gives what a key's file holds.
    ///
    /// # Errors
    ///
    /// The number of an entry, from 0, and why its file has no key that can sign.
    pub fn new(
        section: &[Dkim],
        read: impl Fn(&Path) -> Result<Vec<u8>, KeyError>,
    ) -> Result<Self, (usize, KeyError)> {
        let signers = section.iter().enumerate().map(|(number, entry)| {
            let signer = read(&entry.key).and_then(|pem| Ok(Signer::new(entry, key::read(&pem)?)));
            signer.map(Arc::new).map_err(|error| (number, error))
        });
        Ok(Self { list: signers.collect::<Result<_, _>>()? })
    }

    /// Whether nothing is signed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Begins to read a message that `client` has brought; `None`: the gateway wrote it.
    #[must_use]
    pub const fn begin(self: Arc<Self>, client: Option<IpAddr>) -> SigningPass {
        SigningPass::new(self, client)
    }

    /// Those that sign mail from a domain; where none of them names it, those for all others.
    fn for_domain(&self, domain: &str, client: Option<IpAddr>) -> Vec<Arc<Signer>> {
        let names = |signer: &&Arc<Signer>| signer.from.iter().any(|from| from.names(domain));
        let others = |signer: &&Arc<Signer>| signer.from.contains(&DomainPattern::Any);
        let named = self.list.iter().any(|signer| names(&signer));
        let allows = |signer: &&Arc<Signer>| {
            client.is_none_or(|client| {
                signer.clients.is_empty() || signer.clients.iter().any(|network| network.0.contains(&client))
            })
        };
        let chosen = self.list.iter().filter(|signer| if named { names(signer) } else { others(signer) });
        chosen.filter(allows).cloned().collect()
    }
}

impl Signer {
    fn new(entry: &Dkim, key: DkimKey) -> Self {
        let names = |names: &[FieldName]| names.iter().map(|name| name.as_str().to_owned()).collect();
        let (header, body) = match entry.canonicalization {
            delivery::Canonicalization::Relaxed => (Canonicalization::Relaxed, Canonicalization::Relaxed),
            delivery::Canonicalization::RelaxedSimple => {
                (Canonicalization::Relaxed, Canonicalization::Simple)
            }
            delivery::Canonicalization::SimpleRelaxed => {
                (Canonicalization::Simple, Canonicalization::Relaxed)
            }
            delivery::Canonicalization::Simple => (Canonicalization::Simple, Canonicalization::Simple),
        };
        Self {
            domain: entry.domain.as_str().to_owned(),
            selector: entry.selector.as_str().to_owned(),
            key,
            from: entry.from_domains(),
            clients: entry.client.clone(),
            names: names(&entry.headers),
            oversigned: names(&entry.oversign),
            header,
            body,
            expiry: entry.expiry.duration(),
        }
    }

    /// Appends the field of a signature.
    fn sign(
        &self,
        header: &Header,
        body_hash: &[u8],
        wall: SystemTime,
        out: &mut Vec<u8>,
    ) -> Result<(), Unsigned> {
        let (listed, fields) = header.signed(&self.names, &self.oversigned);
        let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let expiry = if self.expiry.is_zero() { Duration::ZERO } else { now.saturating_add(self.expiry) };
        let mut signature = Field {
            v: 1,
            a: self.key.algorithm(),
            d: self.domain.clone(),
            s: self.selector.clone(),
            bh: body_hash.to_vec(),
            h: listed,
            t: now.as_secs(),
            x: expiry.as_secs(),
            ch: self.header,
            cb: self.body,
            ..Field::default()
        };
        let mut input = Vec::new();
        for (name, value) in fields {
            canonical::field(self.header, name, value, &mut input);
        }
        // The field itself, with an empty `b=` and without its CRLF, is the last.
        signature.write(&mut input, false);
        let signed = self.key.sign(Input(&input));
        signature.b = signed.map_err(|_| Unsigned::Failed(format!("{self:?}")))?;
        signature.write(out, true);
        Ok(())
    }
}

/// Octets that are signed.
struct Input<'i>(&'i [u8]);

impl Writable for Input<'_> {
    fn write(self, writer: &mut impl Writer) {
        writer.write(self.0);
    }
}
