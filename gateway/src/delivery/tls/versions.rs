//! Which versions of TLS may be used, as Postfix writes it (`protocols`, `mandatory-protocols`).

use std::ops::RangeInclusive;

use super::TlsError;
use crate::smtp::client::TlsLevel;

/// The versions by name and by number on the wire, in order.
const VERSIONS: [(&str, u16); 6] = [
    ("SSLv2", 0x0002),
    ("SSLv3", 0x0300),
    ("TLSv1", 0x0301),
    ("TLSv1.1", 0x0302),
    ("TLSv1.2", TLS12),
    ("TLSv1.3", TLS13),
];
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;

/// What a list of versions leaves of those that there are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// TLS 1.2 may be used.
    pub tls12: bool,
    /// TLS 1.3 may be used.
    pub tls13: bool,
    /// The list leaves neither. Both are used nevertheless, because the other way were clear text: to be told.
    pub substituted: bool,
}

impl Versions {
    /// Reads names, `!name`, `>=name` and `<=name`, separated by space, comma or colon. When a name stands alone,
    /// all that are not named are excluded. An empty list allows all.
    ///
    /// # Errors
    ///
    /// [`TlsError::Version`] for a word that means nothing; [`TlsError::NoVersion`] when at a level that demands
    /// TLS nothing is left.
    pub fn parse(text: &str, level: TlsLevel) -> Result<Self, TlsError> {
        let mut excluded = Vec::new();
        let mut named = Vec::new();
        let mut bounds: RangeInclusive<u16> = 0..=u16::MAX;
        for word in text.split([' ', '\t', ',', ':']).filter(|word| !word.is_empty()) {
            if let Some(name) = word.strip_prefix('!') {
                excluded.push(number(name, word)?);
            } else if let Some(name) = word.strip_prefix(">=") {
                bounds = number_or_hex(name, word)?..=*bounds.end();
            } else if let Some(name) = word.strip_prefix("<=") {
                bounds = *bounds.start()..=number_or_hex(name, word)?;
            } else {
                named.push(number(word, word)?);
            }
        }
        let may = |version: u16| {
            bounds.contains(&version)
                && !excluded.contains(&version)
                && (named.is_empty() || named.contains(&version))
        };
        let (tls12, tls13) = (may(TLS12), may(TLS13));
        if tls12 || tls13 {
            return Ok(Self { tls12, tls13, substituted: false });
        }
        if level.is_mandatory() {
            return Err(TlsError::NoVersion);
        }
        Ok(Self { tls12: true, tls13: true, substituted: true })
    }
}

fn number(name: &str, word: &str) -> Result<u16, TlsError> {
    let found = VERSIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, number)| *number).ok_or_else(|| TlsError::Version(word.to_owned()))
}

/// A bound may be a number, for versions that have no name yet.
fn number_or_hex(name: &str, word: &str) -> Result<u16, TlsError> {
    let digits = name.strip_prefix("0x").unwrap_or(name);
    let is_hex = digits.len() == 4 && digits.bytes().all(|octet| octet.is_ascii_hexdigit());
    match u16::from_str_radix(digits, 16) {
        Ok(number) if is_hex => Ok(number),
        Ok(_) | Err(_) => number(name, word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, level: TlsLevel) -> String {
        match Versions::parse(text, level) {
            Ok(Versions { tls12, tls13, substituted }) => {
                let words = [(tls12, "1.2"), (tls13, "1.3"), (substituted, "substituted")];
                words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_list_is_read_as_postfix_reads_it() {
        for (text, expected) in [
            ("", "1.2 1.3"),
            ("!SSLv2, !SSLv3", "1.2 1.3"),
            ("!SSLv2 !SSLv3 !TLSv1 !TLSv1.1", "1.2 1.3"),
            (">=TLSv1", "1.2 1.3"),
            (">=TLSv1.2", "1.2 1.3"),
            (">=tlsv1.3", "1.3"),
            ("<=TLSv1.2", "1.2"),
            (">=0303, <=0x0303", "1.2"),
            ("!TLSv1.2", "1.3"),
            ("TLSv1.2", "1.2"),
            ("TLSv1:TLSv1.3", "1.3"),
            ("TLSv1.2, !TLSv1.2", "no TLS version that may be used"),
            ("SSLv3, TLSv1", "no TLS version that may be used"),
            ("<=TLSv1.1", "no TLS version that may be used"),
            ("TLSv2", "`TLSv2` is not a TLS version; write for example `>=TLSv1.2`"),
            (">=03", "`>=03` is not a TLS version; write for example `>=TLSv1.2`"),
            ("!", "`!` is not a TLS version; write for example `>=TLSv1.2`"),
        ] {
            assert_eq!(parse(text, TlsLevel::Encrypt), expected, "{text}");
        }
    }

    #[test]
    fn where_clear_text_would_do_old_lists_become_the_versions_there_are() {
        assert_eq!(parse("SSLv3, TLSv1", TlsLevel::May), "1.2 1.3 substituted");
        assert_eq!(parse("!TLSv1.3", TlsLevel::May), "1.2");
    }
}
