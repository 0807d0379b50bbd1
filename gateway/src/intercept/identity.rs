//! Who a client is behind an address that many share.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest identity, in octets; smtp-gated kept 20.
const LONGEST: usize = 64;

/// The name under which whoever knows the original destination knows the client behind the address
/// of a router: mostly its address in the network there.
///
/// Octets from the network, made harmless: it stands in logs, in names of locks and in header lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity(Box<str>);

impl Identity {
    /// The identity that `octets` tell, or `None` where they tell none.
    ///
    /// Only letters, digits and `. : _ @ % + -` stay, of at most 64 octets; others become `_`. It
    /// ends at the first NUL or line end.
    #[must_use]
    pub fn new(octets: &[u8]) -> Option<Self> {
        let end = octets.iter().position(|octet| matches!(octet, 0 | b'\r' | b'\n')).unwrap_or(octets.len());
        let text = octets.get(..end).unwrap_or_default().trim_ascii();
        let text: String = text.iter().take(LONGEST).map(|octet| plain(*octet)).collect();
        (!text.is_empty()).then(|| Self(text.into_boxed_str()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn plain(octet: u8) -> char {
    let stays = octet.is_ascii_alphanumeric() || b".:_@%+-".contains(&octet);
    if stays { char::from(octet) } else { '_' }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text without anything that could be an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identity has at least one character")]
pub struct Empty;

impl TryFrom<String> for Identity {
    type Error = Empty;

    fn try_from(text: String) -> Result<Self, Empty> {
        Self::new(text.as_bytes()).ok_or(Empty)
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Option<String> {
        Identity::new(octets).map(String::from)
    }

    #[test]
    fn an_address_stays_as_it_is_and_ends_at_the_first_nul() {
        assert_eq!(read(b"10.1.2.3\0\0\0rest"), Some("10.1.2.3".to_owned()));
        assert_eq!(read(b" fd00::7 \r\n"), Some("fd00::7".to_owned()));
    }

    #[test]
    fn nothing_can_leave_its_line_its_folder_or_its_brackets() {
        assert_eq!(read(b"../x] [\x1b\xff"), Some(".._x_____".to_owned()));
        assert_eq!(read(&[b'a'; 500]).map(|text| text.len()), Some(LONGEST));
    }

    #[test]
    fn no_text_is_no_identity() {
        assert_eq!(read(b""), None);
        assert_eq!(read(b"\0root"), None);
        assert_eq!(read(b"  \r\n"), None);
    }
}
