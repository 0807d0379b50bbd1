//! The text of a message on its way to a server: CRLF line ends only, dots stuffed where a dot ends
//! it, long lines folded (RFC 5321 sections 4.5.2 and 4.5.3.1.6).
//!
//! A bare CR or LF becomes CRLF and NUL goes away, as in [`crate::smtp::body`]: whatever came in,
//! what goes out has one reading.

use bytes::{BufMut as _, BytesMut};
use memchr::memchr3;

/// Writes the content of one message.
#[derive(Debug)]
pub struct Encoder {
    /// Octets of a line without its CRLF; `usize::MAX` where lines are never folded.
    limit: usize,
    /// Dots at line starts are doubled.
    stuffs: bool,
    /// Octets in the present line.
    column: usize,
    /// The latest octet was a CR, which is not written yet.
    cr: bool,
    folded: bool,
}

impl Encoder {
    /// An encoder for DATA that folds lines longer than `limit` octets; 0 folds none.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        let limit = match limit {
            0 => usize::MAX,
            // A folded line holds a space and at least one octet, or it would go on for ever.
            1 => 2,
            limit => limit,
        };
        Self { limit, stuffs: true, column: 0, cr: false, folded: false }
    }

    /// The same for BDAT, where a dot is a dot (RFC 3030 section 2).
    #[must_use]
    pub const fn for_chunks(limit: usize) -> Self {
        Self { stuffs: false, ..Self::new(limit) }
    }

    /// Appends `input` to `out` in its wire form.
    pub fn encode(&mut self, input: &[u8], out: &mut BytesMut) {
        let mut rest = input;
        while let Some((&octet, tail)) = rest.split_first() {
            if std::mem::take(&mut self.cr) {
                self.newline(out);
                if octet == b'\n' {
                    rest = tail;
                    continue;
                }
            }
            match octet {
                b'\r' => {
                    self.cr = true;
                    rest = tail;
                }
                b'\n' => {
                    self.newline(out);
                    rest = tail;
                }
                0 => rest = tail,
                _ => {
                    let end = memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len());
                    let (text, behind) = rest.split_at(end);
                    self.text(text, out);
                    rest = behind;
                }
            }
        }
    }

    /// Ends the last line where the content did not. The dot line is the caller's.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if std::mem::take(&mut self.cr) || self.column > 0 {
            self.newline(out);
        }
    }

    /// Whether a line was folded so far.
    #[must_use]
    pub const fn folded(&self) -> bool {
        self.folded
    }

    fn text(&mut self, text: &[u8], out: &mut BytesMut) {
        if self.stuffs && self.column == 0 && text.first() == Some(&b'.') {
            out.put_u8(b'.');
        }
        let mut rest = text;
        while !rest.is_empty() {
            if self.column >= self.limit {
                self.folded = true;
                out.extend_from_slice(b"\r\n ");
                self.column = 1;
            }
            let room = self.limit.saturating_sub(self.column).min(rest.len());
            let (head, tail) = rest.split_at(room);
            out.extend_from_slice(head);
            self.column = self.column.saturating_add(head.len());
            rest = tail;
        }
    }

    fn newline(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::smtp::body::BodyDecoder;

    fn encoded(limit: usize, parts: &[&[u8]]) -> String {
        let mut encoder = Encoder::new(limit);
        let mut out = BytesMut::new();
        for part in parts {
            encoder.encode(part, &mut out);
        }
        encoder.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn dots_are_stuffed_at_line_starts_only() {
        assert_eq!(encoded(0, &[b".\r\n..\r\na.b\r\n"]), "..\r\n...\r\na.b\r\n");
        assert_eq!(encoded(0, &[b"a\n.\nb"]), "a\r\n..\r\nb\r\n");
        assert_eq!(encoded(0, &[b""]), "");
    }

    #[test]
    fn chunks_hold_dots_as_they_are() {
        let mut out = BytesMut::new();
        let mut encoder = Encoder::for_chunks(0);
        encoder.encode(b".\n..\r\n", &mut out);
        encoder.finish(&mut out);
        assert_eq!(out.as_ref(), b".\r\n..\r\n");
    }

    #[test]
    fn a_long_line_is_folded_with_a_space_that_counts() {
        let line = "x".repeat(2100);
        let folded = encoded(998, &[line.as_bytes()]);
        let lengths: Vec<usize> = folded.lines().map(str::len).collect();
        assert_eq!(lengths, [998, 998, 106]);
        assert_eq!(encoded(4, &[b"abcd\r\nabcde\r\n"]), "abcd\r\nabcd\r\n e\r\n");
        assert_eq!(
            encoded(4, &[b"abcd.\r\n"]),
            "abcd\r\n .\r\n",
            "a folded line begins with a space, not a dot"
        );
        assert_eq!(encoded(1, &[b"abc\r\n"]), "ab\r\n c\r\n");
    }

    #[test]
    fn bare_line_ends_and_nul_do_not_reach_the_server() {
        assert_eq!(encoded(0, &[b"a\rb\nc\r\r\nd\0\r\n\0.\r\n"]), "a\r\nb\r\nc\r\n\r\nd\r\n..\r\n");
    }

    proptest! {
        #[test]
        fn any_content_has_one_reading_however_it_is_cut(
            text in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0u8), Just(b'a')], 0..120),
            cut in 0usize..120,
            limit in 0usize..12,
        ) {
            let whole = encoded(limit, &[&text]);
            let (head, tail) = text.split_at(cut.min(text.len()));
            prop_assert_eq!(&whole, &encoded(limit, &[head, tail]));
            let bare = whole.replace("\r\n", "");
            prop_assert!(!bare.contains(['\r', '\n', '\0']));
            let no_dot_line = !format!("\r\n{whole}").contains("\r\n.\r\n");
            prop_assert!(no_dot_line);
            // A server reads exactly one text, and nothing behind it.
            let wire = format!("{whole}.\r\n");
            let (mut content, mut out) = (BytesMut::new(), BytesMut::new());
            let progress = BodyDecoder::default().decode(wire.as_bytes(), &mut content, &mut out);
            prop_assert!(progress.ended);
            prop_assert_eq!(progress.consumed, wire.len());
            if limit > 1 {
                prop_assert!(content.as_ref().split(|octet| *octet == b'\n').all(|line| line.len() <= limit.saturating_add(1)));
            }
        }
    }
}
