//! Lines in, pieces out.

use super::field::{ContentType, Encoding, is_field, name_of, value_of};

/// Longest field that is given as a whole; what is longer is given as lines.
const LONGEST_FIELD: usize = 100 * 1024;

/// Ceilings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Parts within parts (`mime-nesting-limit`). What is deeper is not looked into.
    pub nesting: usize,
    /// Characters of a boundary that count (`mime-boundary-length-limit`).
    pub boundary: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nesting: 100, boundary: 2_048 }
    }
}

/// Which checks a field is subject to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A field of the message itself.
    Primary,
    /// A field about a part: `Content-…`, `MIME-Version`, and all that stand above a part.
    Mime,
    /// A field of a message within the message.
    Nested,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Anything else that has no parts.
    Other,
    /// It has parts.
    Multipart,
    /// It is a message.
    Message,
    /// What stands before the first part of a multipart, or behind its last.
    Between,
}

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place among all parts, from 0.
    pub number: u32,
    /// What it is.
    pub kind: Kind,
    /// What its header says that it is written in.
    pub encoding: Encoding,
}

/// A piece of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'l> {
    /// A field with its folded lines, between which there is LF.
    Field(Class, &'l [u8]),
    /// The end of a header, and the part above which it stands. `blank`: an empty line follows, which is
    /// no piece of its own.
    EndOfHeader {
        /// The class of fields that do not begin with `Content-`.
        class: Class,
        /// The part.
        part: Part,
        /// Whether an empty line stands there.
        blank: bool,
    },
    /// A line of a part's body.
    Line(Part, &'l [u8]),
    /// A line that divides parts.
    Boundary(&'l [u8]),
}

/// What was learned of the header that is being read.
#[derive(Clone, Debug)]
struct Header {
    class: Class,
    content_type: Option<ContentType>,
    encoding: Encoding,
    /// The part is a message when nothing else is said (RFC 2046 section 5.1.5).
    digest: bool,
}

impl Header {
    const fn new(class: Class, digest: bool) -> Self {
        Self { class, content_type: None, encoding: Encoding::SevenBit, digest }
    }
}

#[derive(Clone, Debug)]
enum State {
    Header(Header),
    Body(Part),
}

#[derive(Clone, Debug)]
struct Multipart {
    boundary: Vec<u8>,
    digest: bool,
    /// How deep it is, messages counted.
    depth: usize,
}

/// Takes a message apart.
#[derive(Clone, Debug)]
pub struct Scanner {
    limits: Limits,
    state: State,
    /// The field that is being read, its lines divided by LF.
    field: Vec<u8>,
    stack: Vec<Multipart>,
    depth: usize,
    parts: u32,
    too_deep: bool,
}

impl Scanner {
    /// Before the first line of a message.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Header(Header::new(Class::Primary, false)),
            field: Vec::new(),
            stack: Vec::new(),
            depth: 0,
            parts: 0,
            too_deep: false,
        }
    }

    /// Whether there were more parts within parts than the limit allows.
    #[must_use]
    pub const fn is_too_deep(&self) -> bool {
        self.too_deep
    }

    /// Takes a line without its CRLF.
    pub fn line(&mut self, line: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        match &self.state {
            State::Body(part) => {
                let part = *part;
                self.body_line(part, line, sink);
            }
            State::Header(_) => self.header_line(line, sink),
        }
    }

    /// Takes the end of the message.
    pub fn finish(&mut self, sink: &mut impl FnMut(Piece<'_>)) {
        if let State::Header(_) = self.state {
            self.end_field(sink);
            self.end_header(false, sink);
        }
    }

    fn header_line(&mut self, line: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        let goes_on = line.starts_with(b" ") || line.starts_with(b"\t");
        if goes_on && !self.field.is_empty() {
            if self.field.len().saturating_add(line.len()) < LONGEST_FIELD {
                self.field.push(b'\n');
                self.field.extend_from_slice(line);
                return;
            }
            // No checks for a field without end, and no memory: the rest goes by as it is.
            self.end_field(sink);
            return sink(Piece::Field(self.class(), line));
        }
        self.end_field(sink);
        if line.is_empty() {
            self.end_header(true, sink);
        } else if is_field(line) && self.boundary(line).is_none() {
            self.field.extend_from_slice(line);
        } else if goes_on {
            sink(Piece::Field(self.class(), line));
        } else {
            self.end_header(false, sink);
            self.line(line, sink);
        }
    }

    fn class(&self) -> Class {
        if let State::Header(header) = &self.state { header.class } else { Class::Primary }
    }

    fn end_field(&mut self, sink: &mut impl FnMut(Piece<'_>)) {
        if self.field.is_empty() {
            return;
        }
        let State::Header(header) = &mut self.state else { return };
        let name = name_of(&self.field).to_ascii_lowercase();
        match name.as_slice() {
            // The first counts, as for most who read it.
            b"content-type" if header.content_type.is_none() => {
                header.content_type = Some(ContentType::read(value_of(&self.field)));
            }
            b"content-transfer-encoding" => header.encoding = Encoding::read(value_of(&self.field)),
            _ => {}
        }
        let about_part = name.starts_with(b"content-") || name == b"mime-version";
        let class = if about_part { Class::Mime } else { header.class };
        sink(Piece::Field(class, &self.field));
        self.field.clear();
    }

    /// Says what the part is, and goes into its body, or into the header that it begins with.
    fn end_header(&mut self, blank: bool, sink: &mut impl FnMut(Piece<'_>)) {
        let State::Header(header) = &self.state else { return };
        let (class, encoding) = (header.class, header.encoding);
        let (kind, boundary, digest) = match &header.content_type {
            Some(ContentType { top, sub, boundary }) => match (top.as_slice(), boundary) {
                (b"multipart", Some(boundary)) => (Kind::Multipart, Some(boundary.clone()), sub == b"digest"),
                (b"message", _) if matches!(sub.as_slice(), b"rfc822" | b"global" | b"news") => {
                    (Kind::Message, None, false)
                }
                (b"text" | b"", _) => (Kind::Text, None, false),
                _ => (Kind::Other, None, false),
            },
            None if header.digest => (Kind::Message, None, false),
            None => (Kind::Text, None, false),
        };
        let nests = matches!(kind, Kind::Multipart | Kind::Message);
        let is_readable = matches!(encoding, Encoding::SevenBit | Encoding::EightBit | Encoding::Binary);
        let fits = self.depth < self.limits.nesting;
        self.too_deep |= nests && !fits;
        let kind = if nests && !(fits && is_readable) { Kind::Other } else { kind };
        let part = Part { number: self.parts, kind, encoding };
        self.parts = self.parts.saturating_add(1);
        sink(Piece::EndOfHeader { class, part, blank });
        self.state = match (kind, boundary) {
            (Kind::Message, _) => {
                self.depth = self.depth.saturating_add(1);
                State::Header(Header::new(Class::Nested, false))
            }
            (Kind::Multipart, Some(mut boundary)) => {
                boundary.truncate(self.limits.boundary);
                self.depth = self.depth.saturating_add(1);
                self.stack.push(Multipart { boundary, digest, depth: self.depth });
                State::Body(Part { kind: Kind::Between, ..part })
            }
            _ => State::Body(part),
        };
    }

    fn body_line(&mut self, part: Part, line: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        let Some((at, closes)) = self.boundary(line) else { return sink(Piece::Line(part, line)) };
        self.stack.truncate(at.saturating_add(1));
        let Some(Multipart { digest, depth, .. }) = self.stack.last() else { return };
        let digest = *digest;
        self.depth = *depth;
        sink(Piece::Boundary(line));
        self.state = if closes {
            self.stack.pop();
            self.depth = self.depth.saturating_sub(1);
            State::Body(Part { number: part.number, kind: Kind::Between, encoding: Encoding::SevenBit })
        } else {
            State::Header(Header::new(Class::Mime, digest))
        };
    }

    /// Which multipart a line divides, and whether it ends it.
    fn boundary(&self, line: &[u8]) -> Option<(usize, bool)> {
        let text = line.strip_prefix(b"--")?;
        let divides = |multipart: &Multipart| -> Option<bool> {
            let rest = text.strip_prefix(multipart.boundary.as_slice())?;
            if multipart.boundary.len() == self.limits.boundary {
                // Nobody knows what is behind the part that counts.
                return Some(rest.trim_ascii_end().ends_with(b"--"));
            }
            match rest.trim_ascii_end() {
                b"" => Some(false),
                b"--" => Some(true),
                _ => None,
            }
        };
        self.stack.iter().enumerate().rev().find_map(|(at, multipart)| Some((at, divides(multipart)?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each piece in a line, one behind the other.
    fn pieces(text: &str, limits: Limits) -> String {
        let mut out = String::new();
        let mut scanner = Scanner::new(limits);
        let mut sink = |piece: Piece<'_>| {
            let text = match piece {
                Piece::Field(class, text) => {
                    format!("{class:?} {}", String::from_utf8_lossy(text).replace('\n', "|"))
                }
                Piece::EndOfHeader { part, .. } => format!("= {} {:?}", part.number, part.kind),
                Piece::Line(part, text) => format!("{} {}", part.number, String::from_utf8_lossy(text)),
                Piece::Boundary(text) => String::from_utf8_lossy(text).into_owned(),
            };
            out.push_str(&text);
            out.push('\n');
        };
        for line in text.lines() {
            scanner.line(line.as_bytes(), &mut sink);
        }
        scanner.finish(&mut sink);
        out
    }

    const NESTED: &str = "Subject: a\n b\nContent-Type: multipart/mixed; boundary=o\n\npre\n--o\nX-Part: 1\n\none\n--o\n\
        Content-Type: message/rfc822\n\nFrom: x\nContent-Type: multipart/digest;\n boundary=\"i i\"\n\n--i i\n\nTo: y\n\n\
        two\n--i i-- \nepi\n--ox\n--o--\nend\n";

    // Specification section 10: classes primary, mime, nested, body.
    #[test]
    fn fields_and_lines_are_told_apart() {
        let expected = "Primary Subject: a| b\nMime Content-Type: multipart/mixed; boundary=o\n= 0 Multipart\n0 pre\n--o\n\
            Mime X-Part: 1\n= 1 Text\n1 one\n--o\nMime Content-Type: message/rfc822\n= 2 Message\nNested From: x\n\
            Mime Content-Type: multipart/digest;| boundary=\"i i\"\n= 3 Multipart\n--i i\n= 4 Message\nNested To: y\n\
            = 5 Text\n5 two\n--i i-- \n5 epi\n5 --ox\n--o--\n5 end\n";
        assert_eq!(pieces(NESTED, Limits::default()), expected);
    }

    #[test]
    fn a_line_that_is_no_field_ends_a_header() {
        assert_eq!(
            pieces("A: b\nno field\nC: d\n", Limits::default()),
            "Primary A: b\n= 0 Text\n0 no field\n0 C: d\n"
        );
        assert_eq!(pieces(" a\nB: c\n", Limits::default()), "Primary  a\nPrimary B: c\n= 0 Text\n");
        let parts = "Content-Type: multipart/x; boundary=o\n\n--o\nA: b\n--o--\n";
        assert!(pieces(parts, Limits::default()).ends_with("--o\nMime A: b\n= 1 Text\n--o--\n"));
    }

    // `mime-nesting-limit`, `mime-boundary-length-limit`.
    #[test]
    fn limits_hold() {
        let found = pieces(NESTED, Limits { nesting: 1, ..Limits::default() });
        assert!(found.contains("= 2 Other\n2 From: x\n2 Content-Type: multipart/digest;\n"), "{found}");
        let long = "Content-Type: multipart/x; boundary=abcdef\n\n--abcxyz\n\none\n--abc--\n";
        let found = pieces(long, Limits { boundary: 3, ..Limits::default() });
        assert!(found.contains("--abcxyz\n= 1 Text\n1 one\n--abc--\n"), "{found}");
        let field = format!("A: {}\nB: c\n\n", "x\n ".repeat(LONGEST_FIELD));
        assert!(pieces(&field, Limits::default()).ends_with("Primary B: c\n= 0 Text\n"));
    }

    proptest! {
        /// Whatever the structure, the pieces are the message again.
        #[test]
        fn nothing_is_lost(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("--a"), Just("--a--"), Just("--b"), Just("--b--"), Just(""), Just("X: y"), Just(" z"),
                    Just("Content-Type: multipart/mixed; boundary=a"), Just("Content-Type: multipart/digest; boundary=b"),
                    Just("Content-Type: message/rfc822"), Just("Content-Transfer-Encoding: base64"), Just("text"),
                ],
                0..40,
            ),
        ) {
            let mut again: Vec<u8> = Vec::new();
            let mut scanner = Scanner::new(Limits { nesting: 3, boundary: 10 });
            let mut sink = |piece: Piece<'_>| {
                match piece {
                    Piece::Field(_, text) | Piece::Line(_, text) | Piece::Boundary(text) => again.extend_from_slice(text),
                    Piece::EndOfHeader { blank: true, .. } => {}
                    Piece::EndOfHeader { blank: false, .. } => return,
                }
                again.push(b'\n');
            };
            for line in &lines {
                scanner.line(line.as_bytes(), &mut sink);
            }
            scanner.finish(&mut sink);
            let mut expected = lines.join("\n").into_bytes();
            if !lines.is_empty() {
                expected.push(b'\n');
            }
            prop_assert_eq!(String::from_utf8(again), String::from_utf8(expected));
        }
    }
}
