//! What of a message is signed: fields and body in their canonical form (RFC 6376 section 3.4).
//!
//! Takes lines that end with CRLF and hold no other CR or LF, as they go to servers.

use mail_auth::dkim::Canonicalization;
use ring::digest::{Context, SHA256};

/// Line ends that are written at once.
const LINE_ENDS: &[u8] = b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n";

/// Appends a field: its name, and what stands behind its colon, up to its CRLF.
pub(super) fn field(way: Canonicalization, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match way {
        Canonicalization::Simple => {
            out.extend_from_slice(name);
            out.push(b':');
            out.extend_from_slice(value);
        }
        Canonicalization::Relaxed => {
            out.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
            out.push(b':');
            // What a fold leaves is the blank behind it.
            let words = value.split(|octet| is_blank(*octet) || matches!(octet, b'\r' | b'\n'));
            for (number, word) in words.filter(|word| !word.is_empty()).enumerate() {
                if number > 0 {
                    out.push(b' ');
                }
                out.extend_from_slice(word);
            }
        }
    }
    if way == Canonicalization::Relaxed || !value.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
}

const fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// The body's hash (`bh=`), while the body passes.
#[derive(Clone)]
pub(super) struct BodyHash {
    way: Canonicalization,
    digest: Context,
    /// There was a line with text.
    text: bool,
    /// Ends of lines that count if text follows.
    ends: u64,
    /// Blanks that count if text follows in the same line.
    blank: bool,
}

impl BodyHash {
    pub(super) fn new(way: Canonicalization) -> Self {
        Self { way, digest: Context::new(&SHA256), text: false, ends: 0, blank: false }
    }

    /// Takes octets of the body, in pieces of any length.
    pub(super) fn octets(&mut self, octets: &[u8]) {
        let relaxed = self.way == Canonicalization::Relaxed;
        let mut rest = octets;
        while let Some((first, tail)) = rest.split_first() {
            match first {
                b'\n' => {
                    self.ends = self.ends.saturating_add(1);
                    self.blank = false;
                    rest = tail;
                }
                b'\r' => rest = tail,
                b' ' | b'\t' if relaxed => {
                    self.blank = true;
                    rest = tail;
                }
                _ => rest = self.word(rest, relaxed),
            }
        }
    }

    /// Takes what goes on unchanged; returns what is behind it. Between words there is one blank most of the time,
    /// which is taken along.
    fn word<'o>(&mut self, octets: &'o [u8], relaxed: bool) -> &'o [u8] {
        self.write_ends();
        self.text = true;
        if std::mem::take(&mut self.blank) {
            self.digest.update(b" ");
        }
        let end = if relaxed { end_of_words(octets) } else { memchr::memchr2(b'\r', b'\n', octets) };
        let (word, rest) = octets.split_at_checked(end.unwrap_or(octets.len())).unwrap_or((octets, b""));
        self.digest.update(word);
        rest
    }

    fn write_ends(&mut self) {
        while self.ends > 0 {
            let most = u64::try_from(LINE_ENDS.len() / 2).unwrap_or(1);
            let some = self.ends.min(most);
            let octets = usize::try_from(some).unwrap_or(1).saturating_mul(2);
            self.digest.update(LINE_ENDS.get(..octets).unwrap_or_default());
            self.ends = self.ends.saturating_sub(some);
        }
    }

    /// The hash. Empty lines at the end do not count; an empty body is one of them, but where it is relaxed.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.text || self.way == Canonicalization::Simple {
            self.digest.update(b"\r\n");
        }
        self.digest.finish().as_ref().to_vec()
    }
}

/// Where words end that have single spaces between them.
fn end_of_words(octets: &[u8]) -> Option<usize> {
    let mut from = 0usize;
    loop {
        let rest = octets.get(from..)?;
        let at = rest.iter().position(|octet| matches!(octet, b' ' | b'\t' | b'\r' | b'\n'))?;
        let end = from.saturating_add(at);
        let single = octets.get(end) == Some(&b' ')
            && octets.get(end.saturating_add(1)).is_some_and(|next| !next.is_ascii_whitespace());
        if !single {
            return Some(end);
        }
        from = end.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::digest::digest;

    use super::*;

    fn hashed(way: Canonicalization, pieces: &[&[u8]]) -> Vec<u8> {
        let mut hash = BodyHash::new(way);
        pieces.iter().for_each(|piece| hash.octets(piece));
        hash.finish()
    }

    fn is(way: Canonicalization, body: &str, canonical: &str) {
        let wanted = digest(&SHA256, canonical.as_bytes());
        assert_eq!(hashed(way, &[body.as_bytes()]), wanted.as_ref(), "{body:?}");
    }

    // RFC 6376 section 3.4.5.
    #[test]
    fn the_examples_of_the_standard() {
        let fields: [(&[u8], &[u8]); 2] = [(b"A", b" X\r\n"), (b"B ", b" Y\t\r\n\tZ  \r\n")];
        let canonical = |way| {
            let mut out = Vec::new();
            fields.iter().for_each(|(name, value)| field(way, name, value, &mut out));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(canonical(Canonicalization::Relaxed), "a:X\r\nb:Y Z\r\n");
        assert_eq!(canonical(Canonicalization::Simple), "A: X\r\nB : Y\t\r\n\tZ  \r\n");
        let body = " C \r\nD \t E\r\n\r\n\r\n";
        is(Canonicalization::Relaxed, body, " C\r\nD E\r\n");
        is(Canonicalization::Simple, body, " C \r\nD \t E\r\n");
    }

    // RFC 6376 sections 3.4.3 and 3.4.4.
    #[test]
    fn bodies_without_text() {
        for body in ["", "\r\n", "\r\n\r\n"] {
            is(Canonicalization::Simple, body, "\r\n");
            is(Canonicalization::Relaxed, body, "");
        }
        is(Canonicalization::Relaxed, " \t\r\n", "");
        is(Canonicalization::Simple, " \r\n", " \r\n");
        is(Canonicalization::Relaxed, "a\r\n \r\n", "a\r\n");
        is(
            Canonicalization::Relaxed,
            &format!("a{}b\r\n", "\r\n".repeat(300)),
            &format!("a{}b\r\n", "\r\n".repeat(300)),
        );
    }

    /// What the standard says, in its own order.
    fn reference(way: Canonicalization, body: &str) -> String {
        let body = if way == Canonicalization::Simple {
            body.to_owned()
        } else {
            let lines = body.split("\r\n").map(|line| {
                let words: Vec<_> = line.split([' ', '\t']).collect();
                let mut reduced = String::new();
                for (number, word) in words.iter().enumerate() {
                    if number > 0 && !reduced.ends_with(' ') {
                        reduced.push(' ');
                    }
                    reduced.push_str(word);
                }
                reduced.trim_end_matches(' ').to_owned()
            });
            lines.collect::<Vec<_>>().join("\r\n")
        };
        let mut text = body.as_str();
        while let Some(shorter) = text.strip_suffix("\r\n") {
            text = shorter;
        }
        match (text.is_empty(), way) {
            (true, Canonicalization::Relaxed) => String::new(),
            _ => format!("{text}\r\n"),
        }
    }

    proptest! {
        #[test]
        fn any_body_is_what_the_standard_says_however_it_is_cut(
            lines in proptest::collection::vec("[ab \t]{0,9}", 0..12),
            cut in 0..120usize,
            relaxed in any::<bool>(),
        ) {
            let way = if relaxed { Canonicalization::Relaxed } else { Canonicalization::Simple };
            let body: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let (head, tail) = body.as_bytes().split_at(cut.min(body.len()));
            let wanted = digest(&SHA256, reference(way, &body).as_bytes());
            prop_assert_eq!(hashed(way, &[head, tail]), wanted.as_ref());
        }
    }
}
