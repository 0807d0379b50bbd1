//! Line ends of a text whose octets are counted (RFC 3030), where the client did not say that it has none.
//!
//! Read as `body` reads them, so that the text has one reading however it is handed on: a carriage
//! return or line feed that stands alone is a line end, and NUL octets are left out.

use bytes::BytesMut;
use memchr::memchr3;

use super::body::Oddities;

/// Makes every line end CRLF.
#[derive(Debug, Default)]
pub struct LineEnds {
    /// Behind one or more CR.
    after_cr: bool,
    oddities: Oddities,
}

impl LineEnds {
    /// Reads `input` and appends to `content`.
    pub fn decode(&mut self, input: &[u8], content: &mut BytesMut) {
        let mut rest = input;
        while !rest.is_empty() {
            if self.after_cr {
                rest = self.behind_cr(rest, content);
                continue;
            }
            let end = memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len());
            let (plain, special) = rest.split_at(end);
            content.extend_from_slice(plain);
            let Some((&octet, tail)) = special.split_first() else { return };
            rest = tail;
            match octet {
                b'\r' => self.after_cr = true,
                b'\n' => self.made(content),
                _ => self.oddities.nul = true,
            }
        }
    }

    /// The text has ended.
    pub fn finish(&mut self, content: &mut BytesMut) {
        if std::mem::take(&mut self.after_cr) {
            self.made(content);
        }
    }

    /// What was found besides text so far.
    #[must_use]
    pub const fn oddities(&self) -> Oddities {
        self.oddities
    }

    fn behind_cr<'a>(&mut self, rest: &'a [u8], content: &mut BytesMut) -> &'a [u8] {
        match rest.split_first() {
            Some((b'\r', tail)) => tail,
            Some((b'\n', tail)) => {
                self.after_cr = false;
                content.extend_from_slice(b"\r\n");
                tail
            }
            Some(_) | None => {
                self.after_cr = false;
                self.made(content);
                rest
            }
        }
    }

    /// Appends a line end that was made from a bare CR or LF.
    fn made(&mut self, content: &mut BytesMut) {
        self.oddities.bare_newline = true;
        content.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::smtp::body::BodyDecoder;

    fn read(parts: &[&[u8]]) -> (Vec<u8>, Oddities) {
        let (mut ends, mut content) = (LineEnds::default(), BytesMut::new());
        for part in parts {
            ends.decode(part, &mut content);
        }
        ends.finish(&mut content);
        (content.to_vec(), ends.oddities())
    }

    #[test]
    fn a_dot_line_between_bare_line_feeds_is_between_line_ends() {
        assert_eq!(read(&[b"M1\n.\nM2\r\n"]).0, b"M1\r\n.\r\nM2\r\n");
        assert_eq!(read(&[b"a\r", b"\nb\r\r\nc\0d\r"]).0, b"a\r\nb\r\ncd\r\n");
    }

    proptest! {
        #[test]
        fn a_text_reads_as_it_would_behind_data(
            text in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(0u8), Just(b'a'), Just(b'b')], 0..80),
            cut in 0usize..80,
        ) {
            let (head, tail) = text.split_at(cut.min(text.len()));
            let (content, oddities) = read(&[head, tail]);
            prop_assert_eq!(&content, &read(&[&text]).0);
            let (mut decoder, mut other, mut wire) = (BodyDecoder::default(), BytesMut::new(), BytesMut::new());
            // The decoder keeps a CR at the end of a text back, which an octet behind it brings out.
            decoder.decode(&text, &mut other, &mut wire);
            decoder.decode(b"x", &mut other, &mut wire);
            prop_assert_eq!([content.as_slice(), b"x"].concat(), other.to_vec());
            prop_assert_eq!(oddities, decoder.oddities());
        }
    }
}
