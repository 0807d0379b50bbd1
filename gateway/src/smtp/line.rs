//! Lines that end in CRLF and in nothing else (RFC 5321 section 2.3.8).
//!
//! Owns where a command line ends. A lone CR or LF never ends one: a parser behind this one that
//! thinks otherwise would see commands that the gateway did not.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem;

/// A line, or why it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Its octets without the CRLF: printable ASCII, tab, or above 127.
    Text(Bytes),
    /// Longer than the limit; all of it is consumed.
    TooLong,
    /// It holds a bare CR or LF, a NUL or another control octet; all of it is consumed.
    Illegal,
}

/// Cuts lines from a stream.
#[derive(Debug)]
pub struct LineDecoder {
    limit: usize,
    /// Octets at the head of the input that hold no CRLF.
    searched: usize,
    /// The line that is being consumed is too long already.
    overflow: bool,
}

impl LineDecoder {
    /// A decoder of lines of up to `limit` octets, CRLF included.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, searched: 0, overflow: false }
    }

    /// Takes the next line from `input`; `None` when its end has not come yet.
    pub fn next(&mut self, input: &mut BytesMut) -> Option<Line> {
        let unsearched = input.get(self.searched..).unwrap_or_default();
        let Some(found) = memmem::find(unsearched, b"\r\n") else {
            self.keep_unfinished(input);
            return None;
        };
        let end = self.searched.saturating_add(found);
        let line = input.split_to(end).freeze();
        input.advance(2);
        self.searched = 0;
        if std::mem::take(&mut self.overflow) || line.len().saturating_add(2) > self.limit {
            return Some(Line::TooLong);
        }
        if line.iter().copied().any(is_illegal) {
            return Some(Line::Illegal);
        }
        Some(Line::Text(line))
    }

    /// Forgets what is known of a line whose octets were taken away.
    pub const fn reset(&mut self) {
        self.searched = 0;
        self.overflow = false;
    }

    fn keep_unfinished(&mut self, input: &mut BytesMut) {
        // The last octet may be the CR of a CRLF that is not complete.
        let ends_in_cr = input.last() == Some(&b'\r');
        if input.len() > self.limit {
            let keep = usize::from(ends_in_cr);
            input.advance(input.len().saturating_sub(keep));
            self.overflow = true;
        }
        self.searched = input.len().saturating_sub(usize::from(ends_in_cr));
    }
}

/// Octets that have no place in a command: controls except tab, among them bare CR and LF.
#[must_use]
pub const fn is_illegal(octet: u8) -> bool {
    (octet < b' ' && octet != b'\t') || octet == 0x7f
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(limit: usize, parts: &[&[u8]]) -> Vec<Line> {
        let mut decoder = LineDecoder::new(limit);
        let mut input = BytesMut::new();
        let mut lines = Vec::new();
        for part in parts {
            input.extend_from_slice(part);
            while let Some(line) = decoder.next(&mut input) {
                lines.push(line);
            }
            assert!(input.len() <= limit.saturating_add(1), "an unfinished line grows beyond the limit");
        }
        lines
    }

    fn text(text: &'static str) -> Line {
        Line::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_bare_line_feed_does_not_end_a_line() {
        assert_eq!(lines(64, &[b"MAIL\nRCPT\r\nNOOP\r\n"]), [Line::Illegal, text("NOOP")]);
    }

    #[test]
    fn a_long_line_is_eaten_up_to_its_crlf() {
        let long = [b'a'; 40];
        assert_eq!(lines(16, &[&long, &long, b"\r", b"\nQUIT\r\n"]), [Line::TooLong, text("QUIT")]);
    }

    #[test]
    fn the_limit_counts_the_line_end() {
        assert_eq!(lines(6, &[b"QUIT\r\n"]), [text("QUIT")]);
        assert_eq!(lines(5, &[b"QUIT\r\n"]), [Line::TooLong]);
    }

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_gives_the_same_lines(
            stream in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a'), Just(0u8)], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..12),
        ) {
            let whole = lines(24, &[&stream]);
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut parts = Vec::new();
            let mut rest = stream.as_slice();
            let mut done = 0;
            for cut in cuts {
                let (part, tail) = rest.split_at(cut.saturating_sub(done).min(rest.len()));
                done = done.saturating_add(part.len());
                parts.push(part);
                rest = tail;
            }
            parts.push(rest);
            prop_assert_eq!(whole, lines(24, &parts));
        }
    }
}
