//! Header fields that say what a part is.

/// Content-Transfer-Encoding (RFC 2045 section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Lines of ASCII; what holds when nothing is said.
    #[default]
    SevenBit,
    /// Lines of any octets.
    EightBit,
    /// Any octets.
    Binary,
    /// Printable ASCII and escapes.
    QuotedPrintable,
    /// Base 64.
    Base64,
    /// Something else.
    Other,
}

impl Encoding {
    /// Reads the value of a field.
    pub(super) fn read(value: &[u8]) -> Self {
        let mut tokens = Tokens(value);
        match tokens.next().unwrap_or_default().to_ascii_lowercase().as_slice() {
            b"7bit" => Self::SevenBit,
            b"8bit" => Self::EightBit,
            b"binary" => Self::Binary,
            b"quoted-printable" => Self::QuotedPrintable,
            b"base64" => Self::Base64,
            _ => Self::Other,
        }
    }
}

/// What Content-Type says (RFC 2045 section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContentType {
    pub(super) top: Vec<u8>,
    pub(super) sub: Vec<u8>,
    pub(super) boundary: Option<Vec<u8>>,
}

impl ContentType {
    /// Reads the value of a field; type and subtype in lower case.
    pub(super) fn read(value: &[u8]) -> Self {
        let mut tokens = Tokens(value);
        let top = tokens.next().unwrap_or_default().to_ascii_lowercase();
        let slash = tokens.next();
        let sub = if slash.as_deref() == Some(b"/") { tokens.next() } else { None };
        let mut found = Self { top, sub: sub.unwrap_or_default().to_ascii_lowercase(), boundary: None };
        while let Some(token) = tokens.next() {
            if token != b";" {
                continue;
            }
            let name = tokens.next().unwrap_or_default();
            if tokens.next().as_deref() != Some(b"=") {
                continue;
            }
            let value = tokens.value();
            if name.eq_ignore_ascii_case(b"boundary") && found.boundary.is_none() && !value.is_empty() {
                found.boundary = Some(value);
            }
        }
        found
    }
}

/// Words, quoted strings and single characters; comments and blanks are passed over.
struct Tokens<'v>(&'v [u8]);

impl Tokens<'_> {
    fn skip(&mut self) {
        let mut depth = 0usize;
        while let Some((first, rest)) = self.0.split_first() {
            match first {
                b'(' => depth = depth.saturating_add(1),
                b')' if depth > 0 => depth = depth.saturating_sub(1),
                b'\\' if depth > 0 => {
                    self.0 = rest.get(1..).unwrap_or_default();
                    continue;
                }
                _ if depth > 0 => {}
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => return,
            }
            self.0 = rest;
        }
    }

    /// A parameter's value: boundaries may hold what tokens may not, and many do without quotes.
    fn value(&mut self) -> Vec<u8> {
        self.skip();
        if self.0.first() == Some(&b'"') {
            return self.next().unwrap_or_default();
        }
        let end = self.0.iter().position(|octet| b"; \t\r\n\"".contains(octet)).unwrap_or(self.0.len());
        let (value, rest) = self.0.split_at_checked(end).unwrap_or((self.0, b""));
        self.0 = rest;
        value.to_vec()
    }
}

impl Iterator for Tokens<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.skip();
        let (first, rest) = self.0.split_first()?;
        if *first == b'"' {
            let mut out = Vec::new();
            let mut octets = rest.iter().enumerate();
            while let Some((at, octet)) = octets.next() {
                match octet {
                    b'"' => {
                        self.0 = rest.get(at.saturating_add(1)..).unwrap_or_default();
                        return Some(out);
                    }
                    b'\\' => out.extend(octets.next().map(|(_, escaped)| *escaped)),
                    b'\r' | b'\n' => {}
                    _ => out.push(*octet),
                }
            }
            self.0 = b"";
            return Some(out);
        }
        let word = |octet: &u8| octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(octet);
        let length = self.0.iter().take_while(|octet| word(octet)).count().max(1);
        let (token, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(token.to_vec())
    }
}

/// Whether a line begins a field (RFC 5322 section 2.2, and blanks before the colon, section 4.5).
#[must_use]
pub fn is_field(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

/// A field's name.
#[must_use]
pub fn name_of(field: &[u8]) -> &[u8] {
    let colon = memchr::memchr(b':', field).unwrap_or(field.len());
    field.get(..colon).unwrap_or_default().trim_ascii_end()
}

/// A field's value.
pub(super) fn value_of(field: &[u8]) -> &[u8] {
    let colon = memchr::memchr(b':', field).unwrap_or(field.len());
    field.get(colon.saturating_add(1)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (value, top, sub, boundary) in [
            ("text/plain", "text", "plain", None),
            ("TEXT / Plain ; charset=us-ascii", "text", "plain", None),
            ("multipart/mixed; boundary=abc", "multipart", "mixed", Some("abc")),
            ("multipart/mixed;\n\tboundary=\"a b\\\"c\"", "multipart", "mixed", Some("a b\"c")),
            ("multipart/mixed; x=1; BOUNDARY=\"=_=\"; boundary=no", "multipart", "mixed", Some("=_=")),
            ("multipart/mixed; boundary=----=_Part/1", "multipart", "mixed", Some("----=_Part/1")),
            ("multipart (a (b) c)/mixed (x); boundary=(y)abc", "multipart", "mixed", Some("abc")),
            ("multipart/mixed; boundary=\"open", "multipart", "mixed", Some("open")),
            ("multipart/mixed; boundary", "multipart", "mixed", None),
            ("text", "text", "", None),
            ("", "", "", None),
        ] {
            let expected = ContentType {
                top: top.into(),
                sub: sub.into(),
                boundary: boundary.map(|boundary| boundary.as_bytes().to_vec()),
            };
            assert_eq!(ContentType::read(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn fields_and_encodings() {
        for (line, is) in [
            ("A: b", true),
            ("A :b", true),
            (": b", false),
            ("a b: c", false),
            ("ab", false),
            ("\u{e4}: b", false),
        ] {
            assert_eq!(is_field(line.as_bytes()), is, "{line}");
        }
        assert_eq!((name_of(b"A :b"), value_of(b"A :b")), (b"A".as_slice(), b"b".as_slice()));
        assert_eq!(Encoding::read(b" 8BIT (x)"), Encoding::EightBit);
        assert_eq!(Encoding::read(b"x-uuencode"), Encoding::Other);
    }
}
