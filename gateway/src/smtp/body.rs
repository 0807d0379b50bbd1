//! The text after DATA: where it ends, and what it says (RFC 5321 sections 4.1.1.4 and 4.5.2).
//!
//! Owns the one reading of a message. The decoder writes the same content twice: plain, for the
//! scanners, and dot-stuffed with CRLF line ends only, for the server. Only CRLF "." CRLF ends a
//! text; a line end that was made from a bare CR or LF can neither end it nor start a dot line.

use bytes::{BufMut as _, BytesMut};
use memchr::memchr3;

/// What was found besides text. Each flag stands once it was found anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// A CR or LF that stands alone.
    pub bare_newline: bool,
    /// A NUL octet.
    pub nul: bool,
}

/// How far one call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Octets consumed from the input.
    pub consumed: usize,
    /// Whether the text has ended; what follows in the input are commands.
    pub ended: bool,
}

/// Takes the text of one message apart.
#[derive(Debug, Default)]
pub struct BodyDecoder {
    state: State,
    oddities: Oddities,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Behind a CRLF of the client's.
    #[default]
    LineStart,
    /// Behind a line end made from a bare CR or LF, or behind a NUL that stood first in its line.
    MadeLineStart,
    /// Inside a line.
    Line,
    /// Behind one or more CR.
    Cr,
    /// Behind a dot that stood first in its line.
    Dot,
    /// Behind such a dot and one or more CR.
    DotCr,
}

/// The two forms of the content, appended to as it is read.
struct Sink<'a> {
    content: &'a mut BytesMut,
    wire: &'a mut BytesMut,
}

impl Sink<'_> {
    fn text(&mut self, octets: &[u8]) {
        self.content.extend_from_slice(octets);
        self.wire.extend_from_slice(octets);
    }

    fn newline(&mut self) {
        self.text(b"\r\n");
    }

    /// A dot that is content and stands first in its line.
    fn leading_dot(&mut self) {
        self.content.put_u8(b'.');
        self.wire.extend_from_slice(b"..");
    }
}

impl BodyDecoder {
    /// Reads `input`, appends to `content` (plain) and `wire` (dot-stuffed), and stops behind
    /// the end of the text. The final dot line is appended to neither.
    pub fn decode(&mut self, input: &[u8], content: &mut BytesMut, wire: &mut BytesMut) -> Progress {
        let mut sink = Sink { content, wire };
        let mut rest = input;
        loop {
            if self.state == State::Line || self.state == State::LineStart {
                rest = self.plain(rest, &mut sink);
            }
            let Some((&octet, tail)) = rest.split_first() else {
                return Progress { consumed: input.len(), ended: false };
            };
            rest = tail;
            if self.step(octet, &mut sink) {
                return Progress { consumed: input.len().saturating_sub(rest.len()), ended: true };
            }
        }
    }

    /// What was found besides text so far.
    #[must_use]
    pub const fn oddities(&self) -> Oddities {
        self.oddities
    }

    /// Copies whole stretches that need no change, and returns the rest, which starts with an
    /// octet that does.
    fn plain<'a>(&mut self, input: &'a [u8], sink: &mut Sink<'_>) -> &'a [u8] {
        let mut end = 0usize;
        loop {
            let ahead = input.get(end..).unwrap_or_default();
            match ahead.first() {
                None => break,
                Some(b'.') if self.state == State::LineStart => break,
                Some(_) => {}
            }
            let Some(special) = memchr3(b'\r', b'\n', 0, ahead) else {
                end = input.len();
                self.state = State::Line;
                break;
            };
            if special > 0 {
                self.state = State::Line;
            }
            end = end.saturating_add(special);
            if input.get(end..end.saturating_add(2)) != Some(b"\r\n") {
                break;
            }
            end = end.saturating_add(2);
            self.state = State::LineStart;
        }
        let (plain, rest) = input.split_at(end.min(input.len()));
        sink.text(plain);
        rest
    }

    /// Takes one octet; true behind the end of the text.
    fn step(&mut self, octet: u8, sink: &mut Sink<'_>) -> bool {
        match (self.state, octet) {
            (State::DotCr, b'\n') => return true,
            (State::Cr, b'\n') => {
                sink.newline();
                self.state = State::LineStart;
            }
            (State::Cr | State::DotCr, b'\r') => {}
            (State::Dot, b'\r') => self.state = State::DotCr,
            (State::LineStart, b'.') => self.state = State::Dot,
            (State::LineStart | State::MadeLineStart | State::Line, b'\r') => self.state = State::Cr,
            (State::Dot, b'.') => {
                // A stuffed dot: the first is taken away here and put back for the server.
                sink.leading_dot();
                self.state = State::Line;
            }
            (State::Dot, b'\n' | 0) => {
                sink.leading_dot();
                self.state = State::Line;
                return self.step(octet, sink);
            }
            (State::Dot, _) => {
                // The sender forgot to stuff; the dot goes away as RFC 5321 section 4.5.2 says.
                sink.text(&[octet]);
                self.state = State::Line;
            }
            (State::Cr, _) => {
                self.made_newline(sink);
                return self.step(octet, sink);
            }
            (State::DotCr, _) => {
                sink.leading_dot();
                self.made_newline(sink);
                return self.step(octet, sink);
            }
            (State::LineStart | State::MadeLineStart | State::Line, b'\n') => self.made_newline(sink),
            (State::LineStart | State::MadeLineStart, 0) => {
                self.oddities.nul = true;
                self.state = State::MadeLineStart;
            }
            (State::Line, 0) => self.oddities.nul = true,
            (State::MadeLineStart, b'.') => {
                sink.leading_dot();
                self.state = State::Line;
            }
            (State::LineStart | State::MadeLineStart | State::Line, _) => {
                sink.text(&[octet]);
                self.state = State::Line;
            }
        }
        false
    }

    fn made_newline(&mut self, sink: &mut Sink<'_>) {
        self.oddities.bare_newline = true;
        sink.newline();
        self.state = State::MadeLineStart;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Read {
        content: String,
        wire: String,
        left: Option<String>,
        oddities: Oddities,
    }

    fn read(parts: &[&[u8]]) -> Read {
        let mut decoder = BodyDecoder::default();
        let (mut content, mut wire, mut left) = (BytesMut::new(), BytesMut::new(), None::<Vec<u8>>);
        for part in parts {
            if let Some(left) = &mut left {
                left.extend_from_slice(part);
                continue;
            }
            let progress = decoder.decode(part, &mut content, &mut wire);
            if progress.ended {
                left = Some(part.get(progress.consumed..).unwrap().to_vec());
            }
        }
        let plain = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        Read {
            content: plain(content.to_vec()),
            wire: plain(wire.to_vec()),
            left: left.map(plain),
            oddities: decoder.oddities(),
        }
    }

    #[test]
    fn a_plain_text_passes_unchanged_up_to_its_dot() {
        let read = read(&[b"a: b\r\n\r\nM1\r\n.\r\nQUIT\r\n"]);
        assert_eq!(read.content, "a: b\r\n\r\nM1\r\n");
        assert_eq!(read.wire, read.content);
        assert_eq!(read.left.as_deref(), Some("QUIT\r\n"));
        assert_eq!(read.oddities, Oddities::default());
    }

    #[test]
    fn an_empty_text_is_a_text() {
        assert_eq!(read(&[b".\r\n"]).left.as_deref(), Some(""));
    }

    #[test]
    fn a_stuffed_dot_is_unstuffed_for_the_scanner_only() {
        let read = read(&[b"M1\r\n..\r\n...x\r\n.y\r\n.\r\n"]);
        assert_eq!(read.content, "M1\r\n.\r\n..x\r\ny\r\n");
        assert_eq!(read.wire, "M1\r\n..\r\n...x\r\ny\r\n");
    }

    #[test]
    fn no_smuggling_sequence_ends_the_text() {
        for end in [
            "\n.\n",
            "\n.\r\n",
            "\r.\r",
            "\r\n.\n",
            "\n.\r",
            "\r.\n",
            "\r\n.\r",
            "\r.\r\n",
            "\r\n\0.\r\n",
            "\r\n.\0\r\n",
            "\r\n.\r\0\n",
            "\r\n\0.\n",
            "\n\0.\r\n",
        ] {
            let text = format!("M1{end}MAIL FROM:<x>\r\n.\r\n");
            let read = read(&[text.as_bytes()]);
            assert_eq!(read.left.as_deref(), Some(""), "{end:?} must not end the text");
            assert!(read.wire.contains("MAIL FROM:<x>"), "{end:?}");
            assert!(read.oddities.bare_newline || read.oddities.nul, "{end:?}");
            assert_one_reading(&read.wire);
        }
    }

    #[test]
    fn a_dot_between_bare_line_feeds_is_text() {
        let read = read(&[b"M1\n.\nM2\r\n.\r\n"]);
        assert_eq!(read.wire, "M1\r\n..\r\nM2\r\n");
        assert_eq!(read.content, "M1\r\n.\r\nM2\r\n");
    }

    #[test]
    fn carriage_returns_before_a_line_end_make_no_empty_lines() {
        assert_eq!(read(&[b"a: b\r\r\nc: d\r\r\n\r\r\n.\r\n"]).content, "a: b\r\nc: d\r\n\r\n");
    }

    /// Whoever reads bare CR or LF as line ends, or drops NUL, sees the same lines.
    fn assert_one_reading(wire: &str) {
        assert!(!wire.contains('\0'));
        let without = wire.replace("\r\n", "");
        assert!(!without.contains(['\r', '\n']), "{wire:?}");
        assert!(!format!("\r\n{wire}").contains("\r\n.\r\n"), "{wire:?}");
    }

    fn unstuffed(wire: &str) -> String {
        wire.split_inclusive("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line)).collect()
    }

    proptest! {
        #[test]
        fn any_octets_have_one_reading_however_they_are_cut(
            text in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0u8), Just(b'a')], 0..120),
            cut in 0usize..120,
        ) {
            let whole = read(&[&text]);
            let (head, tail) = text.split_at(cut.min(text.len()));
            let parts = read(&[head, tail]);
            prop_assert_eq!(&whole.wire, &parts.wire);
            prop_assert_eq!(&whole.content, &parts.content);
            prop_assert_eq!(&whole.left, &parts.left);
            assert_one_reading(&whole.wire);
            prop_assert_eq!(unstuffed(&whole.wire), whole.content);
        }

        #[test]
        fn a_well_formed_text_passes_unchanged(lines in proptest::collection::vec("[a-z.]{0,8}", 0..20)) {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let stuffed: String = lines.iter()
                .map(|line| if line.starts_with('.') { format!(".{line}\r\n") } else { format!("{line}\r\n") })
                .collect();
            let read = read(&[format!("{stuffed}.\r\nNEXT").as_bytes()]);
            prop_assert_eq!(read.content, content);
            prop_assert_eq!(read.wire, stuffed);
            prop_assert_eq!(read.left.as_deref(), Some("NEXT"));
        }
    }
}
