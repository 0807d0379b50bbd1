//! The fingerprint of a TLS client, in the form of JA4.
//!
//! The same software offers the same suites and extensions to everybody, whatever it sends inside.
//! Values that clients make up (GREASE, RFC 8701) are left out, and lists are sorted, since some
//! clients shuffle them.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use tls_parser::{
    SNIType, TlsClientHelloContents, TlsExtension, TlsExtensionType, parse_tls_client_hello_extensions,
};

/// Extension numbers that the fingerprint's third part leaves out, since they follow the server.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
/// What stands for an empty list.
const NOTHING: &str = "000000000000";

/// What a client offers, as far as it is looked at.
#[derive(Debug, Default)]
pub(super) struct Offer<'a> {
    /// Highest version.
    pub(super) version: u16,
    /// The server name asked for.
    pub(super) server_name: Option<&'a [u8]>,
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    signatures: Vec<u16>,
    alpn: Option<&'a [u8]>,
}

impl<'a> Offer<'a> {
    pub(super) fn of(hello: &TlsClientHelloContents<'a>) -> Self {
        let mut offer = Self {
            version: hello.version.0,
            ciphers: hello
                .ciphers
                .iter()
                .map(|cipher| cipher.0)
                .filter(|number| !is_grease(*number))
                .collect(),
            ..Self::default()
        };
        let extensions = hello.ext.and_then(|octets| parse_tls_client_hello_extensions(octets).ok());
        for extension in extensions.map(|(_, list)| list).unwrap_or_default() {
            let number = TlsExtensionType::from(&extension).0;
            if !matches!(extension, TlsExtension::Grease(..)) && !is_grease(number) {
                offer.extensions.push(number);
            }
            offer.note(extension);
        }
        offer
    }

    fn note(&mut self, extension: TlsExtension<'a>) {
        if let TlsExtension::SNI(names) = extension {
            let host = names.into_iter().find(|(kind, _)| *kind == SNIType::HostName);
            self.server_name = host.map(|(_, name)| name);
        } else if let TlsExtension::SupportedVersions(versions) = extension {
            let versions = versions.into_iter().map(|version| version.0);
            self.version = versions.filter(|version| !is_grease(*version)).max().unwrap_or(self.version);
        } else if let TlsExtension::SignatureAlgorithms(list) = extension {
            self.signatures = list;
        } else if let TlsExtension::ALPN(protocols) = extension {
            self.alpn = protocols.first().copied();
        }
    }

    /// The three parts, with underscores between.
    pub(super) fn ja4(&self) -> String {
        let version = match self.version {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            _ => "00",
        };
        let name = if self.extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
        let (ciphers, extensions) = (self.ciphers.len().min(99), self.extensions.len().min(99));
        let alpn = ends(self.alpn.unwrap_or_default());
        format!(
            "t{version}{name}{ciphers:02}{extensions:02}{alpn}_{}_{}",
            self.cipher_hash(),
            self.extension_hash()
        )
    }

    fn cipher_hash(&self) -> String {
        if self.ciphers.is_empty() { NOTHING.to_owned() } else { hash(&sorted(&self.ciphers)) }
    }

    fn extension_hash(&self) -> String {
        if self.extensions.is_empty() {
            return NOTHING.to_owned();
        }
        let kept: Vec<_> =
            self.extensions.iter().copied().filter(|number| ![SERVER_NAME, ALPN].contains(number)).collect();
        let mut text = sorted(&kept);
        let signatures: Vec<_> =
            self.signatures.iter().copied().filter(|number| !is_grease(*number)).collect();
        if !signatures.is_empty() {
            text.push('_');
            text.push_str(&list(&signatures));
        }
        hash(&text)
    }
}

/// RFC 8701 section 2: both octets are alike and end in `a`.
const fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

/// First and last letter of a protocol's name; those of its hexadecimal form where they are none.
fn ends(name: &[u8]) -> String {
    match (name.first(), name.last()) {
        (Some(first), Some(last)) if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() => {
            [char::from(*first), char::from(*last)].iter().collect()
        }
        (Some(first), Some(last)) => format!("{:x}{:x}", first >> 4, last & 0xf),
        _ => "00".to_owned(),
    }
}

fn sorted(numbers: &[u16]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    list(&numbers)
}

fn list(numbers: &[u16]) -> String {
    let numbers: Vec<_> = numbers.iter().map(|number| format!("{number:04x}")).collect();
    numbers.join(",")
}

/// The first twelve digits of the text's SHA-256.
fn hash(text: &str) -> String {
    let mut digits = String::new();
    for octet in Sha256::digest(text.as_bytes()).iter().take(6) {
        // Writing to a string cannot fail.
        if write!(digits, "{octet:02x}").is_err() {
            break;
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_values_are_known() {
        for number in [0x0a0a, 0x1a1a, 0xfafa] {
            assert!(is_grease(number));
        }
        for number in [0x0a1a, 0x1301, 0x0000, 0x0a0b] {
            assert!(!is_grease(number));
        }
    }

    #[test]
    fn the_published_example_has_its_published_fingerprint() {
        // The worked example of the JA4 specification (FoxIO, technical_details/JA4.md).
        let offer = Offer {
            version: 0x0304,
            server_name: Some(b"example.com"),
            ciphers: vec![
                0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014,
                0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012,
                0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
            ],
            signatures: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            alpn: Some(b"h2"),
        };
        assert_eq!(offer.ja4(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn protocol_names_without_letters_are_shown_in_hexadecimal() {
        assert_eq!(ends(b"h2"), "h2");
        assert_eq!(ends(b"http/1.1"), "h1");
        assert_eq!(ends(b""), "00");
        assert_eq!(ends(&[0xab, 0xcd]), "ad");
    }
}
