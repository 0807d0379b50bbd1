//! Cipher suites that may be used, as Postfix's words exclude them (`exclude-ciphers`).
//!
//! The library has nine suites, all of OpenSSL's grade `high`: to exclude others does nothing. The words are
//! OpenSSL's (ciphers(1)); those about the cipher and the digest count for TLS 1.3 too, which OpenSSL leaves out.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::{CryptoProvider, ring};

use super::TlsError;

/// A suite, its name, and the words that it answers to besides.
type Suite = (&'static SupportedCipherSuite, &'static str, &'static [&'static [&'static str]]);

const AES128: &[&str] = &["AES", "AES128", "AESGCM", "SHA256"];
const AES256: &[&str] = &["AES", "AES256", "AESGCM", "SHA384"];
const CHACHA: &[&str] = &["CHACHA20", "CHACHA20-POLY1305", "SHA256"];
const ECDHE: &[&str] = &["ECDHE", "EECDH", "kECDHE", "kEECDH", "ECDH", "kECDH", "TLSv1.2"];
const ECDSA: &[&str] = &["ECDSA", "aECDSA"];
const RSA: &[&str] = &["aRSA"];
/// What all of them are.
const ALL: &[&str] = &["ALL", "HIGH"];

static SUITES: [Suite; 9] = [
    (&TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", &[AES256]),
    (&TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", &[AES128]),
    (&TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256", &[CHACHA]),
    (&TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384", &[AES256, ECDHE, ECDSA]),
    (&TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256", &[AES128, ECDHE, ECDSA]),
    (
        &TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        &[CHACHA, ECDHE, ECDSA],
    ),
    (&TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384", &[AES256, ECDHE, RSA]),
    (&TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256", &[AES128, ECDHE, RSA]),
    (&TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", &[CHACHA, ECDHE, RSA]),
];

/// Words for what the library does not have.
const ABSENT: &str = "\
    aNULL eNULL NULL EXPORT EXP EXPORT40 EXPORT56 LOW MEDIUM MD5 SHA SHA1 RC2 RC4 DES 3DES IDEA SEED \
    CAMELLIA CAMELLIA128 CAMELLIA256 ARIA ARIA128 ARIA256 ARIAGCM AESCCM AESCCM8 CBC RSA kRSA DH kDH \
    kDHr kDHd kDHE kEDH DHE EDH ADH AECDH aDH aECDH kECDHr kECDHe DSS aDSS DSA aDSA PSK kPSK aPSK \
    kECDHEPSK kDHEPSK kRSAPSK SRP kSRP aSRP GOST GOST89MAC GOST94 kGOST aGOST aGOST01 KRB5 kKRB5 \
    aKRB5 FZA FORTEZZA SSLv2 SSLv3 TLSv1 TLSv1.0";

/// A set of suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ciphers(u16);

impl Ciphers {
    /// All that there are.
    pub const ALL: Self = Self(0x01ff);

    /// The same without those that `words` name, one by one or by what they have in common (`AES+SHA256`); and
    /// the words that mean nothing to anybody.
    ///
    /// # Errors
    ///
    /// [`TlsError::Cipher`] for a word that OpenSSL would read as an order; [`TlsError::NoCipher`] when none is left.
    pub fn without<'w>(
        self,
        words: impl IntoIterator<Item = &'w str>,
    ) -> Result<(Self, Vec<String>), TlsError> {
        let (mut left, mut strange) = (self.0, Vec::new());
        let words = words.into_iter().flat_map(|word| word.split([' ', '\t', ',', ':']));
        for word in words.filter(|word| !word.is_empty()) {
            if word.starts_with(['!', '+', '-', '@']) {
                return Err(TlsError::Cipher(word.to_owned()));
            }
            let hit = SUITES
                .iter()
                .enumerate()
                .filter(|(_, suite)| word.split('+').all(|part| answers(suite, part)));
            let hit = hit.fold(0u16, |set, (number, _)| set | bit(number));
            left &= !hit;
            if hit == 0 && !word.split('+').all(is_known) {
                strange.push(word.to_owned());
            }
        }
        if left == 0 { Err(TlsError::NoCipher) } else { Ok((Self(left), strange)) }
    }

    /// The library with these suites only.
    pub(super) fn provider(self) -> Arc<CryptoProvider> {
        let has = |(number, suite): (usize, &Suite)| (self.0 & bit(number) != 0).then_some(*suite.0);
        let cipher_suites = SUITES.iter().enumerate().filter_map(has).collect();
        Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
    }

    /// OpenSSL's names of the suites, best first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let has =
            move |(number, suite): (usize, &'static Suite)| (self.0 & bit(number) != 0).then_some(suite.1);
        SUITES.iter().enumerate().filter_map(has)
    }
}

const fn bit(number: usize) -> u16 {
    1 << number
}

fn answers((_, name, words): &Suite, word: &str) -> bool {
    let is = |known: &&str| known.eq_ignore_ascii_case(word);
    is(name) || ALL.iter().any(&is) || words.iter().any(|words| words.iter().any(&is))
}

/// A name of several words is that of a suite; nobody has all of those.
fn is_known(word: &str) -> bool {
    let is = |known: &&str| known.eq_ignore_ascii_case(word);
    word.contains(['-', '_'])
        || ABSENT.split(' ').any(|known| is(&known))
        || SUITES.iter().any(|suite| answers(suite, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(words: &str) -> String {
        match Ciphers::ALL.without([words]) {
            Ok((ciphers, strange)) if strange.is_empty() => ciphers.names().count().to_string(),
            Ok((ciphers, strange)) => format!("{} {strange:?}", ciphers.names().count()),
            Err(error) => error.to_string(),
        }
    }

    // Specification section 7.8.
    #[test]
    fn words_exclude_what_they_name_and_what_is_not_there_is_excluded_already() {
        for (words, expected) in [
            ("", "9"),
            ("aNULL, eNULL, EXPORT, DES, RC4, MD5, PSK, aECDH, EDH-DSS-DES-CBC3-SHA, CAMELLIA", "9"),
            ("AES128", "6"),
            ("AES256 CHACHA20", "3"),
            ("aRSA", "6"),
            ("kECDHE", "3"),
            ("ECDSA+AES128", "8"),
            ("ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256", "7"),
            ("aes128", "6"),
            ("AES128 nonsense", "6 [\"nonsense\"]"),
            ("HIGH", "no cipher suite that may be used"),
            ("AESGCM CHACHA20", "no cipher suite that may be used"),
            (
                "!AES",
                "`!AES` is no cipher to be excluded; write for example `AES128`, without a sign before it",
            ),
        ] {
            assert_eq!(without(words), expected, "{words}");
        }
    }

    #[test]
    fn the_library_gets_what_is_left() {
        let (ciphers, _) = Ciphers::ALL.without(["AES", "ECDSA"]).unwrap();
        assert_eq!(
            ciphers.names().collect::<Vec<_>>(),
            ["TLS_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"]
        );
        let suites = |provider: &CryptoProvider| {
            provider.cipher_suites.iter().map(SupportedCipherSuite::suite).collect::<Vec<_>>()
        };
        assert_eq!(suites(&ciphers.provider()).len(), 2);
        assert_eq!(suites(&Ciphers::ALL.provider()), suites(&ring::default_provider()));
    }
}
