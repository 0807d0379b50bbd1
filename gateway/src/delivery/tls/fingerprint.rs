//! Digests of certificates and of their keys, by which servers are known (`fingerprint-cert-match`).

use std::fmt;

use md5::{Digest as _, Md5};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};

use super::TlsError;
use crate::config::file::delivery::FingerprintDigest;

/// A digest of a certificate or of its public key (RFC 7469 section 2.4 has the same for keys).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    by: FingerprintDigest,
    octets: Vec<u8>,
}

impl Fingerprint {
    /// Reads the hexadecimal digits of a digest `by` that algorithm, with colons or without.
    ///
    /// # Errors
    ///
    /// [`TlsError::Fingerprint`].
    pub fn parse(text: &str, by: FingerprintDigest) -> Result<Self, TlsError> {
        let digits: Vec<u8> = text.bytes().filter(|octet| *octet != b':').collect();
        let octets = digits.chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            // `+f` would be taken for a number, too.
            pair.bytes().all(|octet| octet.is_ascii_hexdigit()).then(|| u8::from_str_radix(pair, 16).ok())?
        });
        let octets = octets.collect::<Option<Vec<u8>>>().filter(|octets| octets.len() == length(by));
        octets.map(|octets| Self { by, octets }).ok_or_else(|| TlsError::Fingerprint {
            text: text.to_owned(),
            digits: length(by).saturating_mul(2),
            by: by.name(),
        })
    }

    /// Whether it is the digest of these octets.
    pub(super) fn is_of(&self, octets: &[u8]) -> bool {
        match self.by {
            FingerprintDigest::Md5 => Md5::digest(octets).as_slice() == self.octets,
            FingerprintDigest::Sha1 => digest(&SHA1_FOR_LEGACY_USE_ONLY, octets).as_ref() == self.octets,
            FingerprintDigest::Sha256 => digest(&SHA256, octets).as_ref() == self.octets,
            FingerprintDigest::Sha384 => digest(&SHA384, octets).as_ref() == self.octets,
            FingerprintDigest::Sha512 => digest(&SHA512, octets).as_ref() == self.octets,
        }
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

const fn length(by: FingerprintDigest) -> usize {
    match by {
        FingerprintDigest::Md5 => 16,
        FingerprintDigest::Sha1 => 20,
        FingerprintDigest::Sha256 => 32,
        FingerprintDigest::Sha384 => 48,
        FingerprintDigest::Sha512 => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 1321 and FIPS 180-4 have the digests of `abc`.
    #[test]
    fn digests_are_those_of_the_standards() {
        for (by, text) in [
            (FingerprintDigest::Md5, "90:01:50:98:3C:D2:4F:B0:D6:96:3F:7D:28:E1:7F:72"),
            (FingerprintDigest::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (FingerprintDigest::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                FingerprintDigest::Sha384,
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
            ),
            (
                FingerprintDigest::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd\
                 454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ] {
            let fingerprint = Fingerprint::parse(text, by).unwrap();
            assert!(fingerprint.is_of(b"abc") && !fingerprint.is_of(b"abd"), "{by:?}");
        }
    }

    #[test]
    fn what_is_no_digest_is_told() {
        for text in ["", "xy", "+f", "abc", "aa:bb", &"0".repeat(63), &"0".repeat(96)] {
            let error = Fingerprint::parse(text, FingerprintDigest::Sha256).unwrap_err().to_string();
            assert!(error.ends_with("is no sha256 fingerprint; write its 64 hexadecimal digits"), "{error}");
        }
    }
}
