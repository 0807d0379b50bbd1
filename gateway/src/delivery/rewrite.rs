//! A message on its way out: checks, addresses as others see them, and 7 bits for servers that take no more.
//!
//! Owns their order: checks, then addresses, then encoding. Octets in, octets out, in pieces of any
//! length; memory is bounded by the longest field.

use std::sync::Arc;

use super::checks::{Checks, Edit, Note};
use super::generic::{Generic, map_field};
use crate::mime::{Class, Downgrade, Limits, Piece, Scanner, Survey};
use crate::smtp::client::Report;

/// Octets of a line that are held; what is longer is folded, as for servers that take no such lines.
const LONGEST_LINE: usize = 64 * 1024;
/// Notes of one message; its sender chooses how many there could be.
const MOST_NOTES: usize = 20;

/// What is done with messages.
#[derive(Clone, Debug, Default)]
pub struct Rewriting {
    /// The operator's checks.
    pub checks: Arc<Checks>,
    /// The operator's mapping of addresses.
    pub generic: Arc<Generic>,
    /// Ceilings.
    pub limits: Limits,
}

impl Rewriting {
    /// Whether a message has to be read for it, apart from its encoding.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.checks.is_empty() || !self.generic.maps.is_empty()
    }

    /// Begins to look for parts that need another encoding.
    #[must_use]
    pub fn survey(&self) -> SurveyPass {
        SurveyPass { lines: Lines::default(), scanner: Scanner::new(self.limits), survey: Survey::default() }
    }

    /// Begins to write a message; with a survey of it, in 7 bits.
    #[must_use]
    pub fn write(&self, survey: Option<Survey>) -> WritePass {
        let editor = Editor {
            rules: self.clone(),
            downgrade: survey.map(Downgrade::new),
            notes: Vec::new(),
            more_notes: 0,
        };
        WritePass { lines: Lines::default(), scanner: Scanner::new(self.limits), editor }
    }
}

/// Reads a message once.
#[derive(Debug)]
pub struct SurveyPass {
    lines: Lines,
    scanner: Scanner,
    survey: Survey,
}

impl SurveyPass {
    /// Takes some octets of the message.
    pub fn octets(&mut self, octets: &[u8]) {
        let Self { lines, scanner, survey } = self;
        lines.feed(octets, |line| scanner.line(line, &mut |piece: Piece<'_>| survey.piece(piece)));
    }

    /// Takes the end of the message.
    ///
    /// # Errors
    ///
    /// The message has more parts within parts than the limit allows: what is deeper cannot be encoded.
    pub fn finish(mut self) -> Result<Survey, Report> {
        let Self { lines, scanner, survey } = &mut self;
        lines.finish(|line| scanner.line(line, &mut |piece: Piece<'_>| survey.piece(piece)));
        scanner.finish(&mut |piece: Piece<'_>| survey.piece(piece));
        if self.scanner.is_too_deep() {
            return Err(Report::permanent(6, 0, "MIME nesting exceeds safety limit"));
        }
        Ok(self.survey)
    }
}

/// Writes a message once.
#[derive(Debug)]
pub struct WritePass {
    lines: Lines,
    scanner: Scanner,
    editor: Editor,
}

impl WritePass {
    /// Takes some octets of the message, and puts what is to be sent into `out`.
    pub fn octets(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let Self { lines, scanner, editor } = self;
        lines.feed(octets, |line| scanner.line(line, &mut |piece: Piece<'_>| editor.piece(piece, out)));
    }

    /// Takes the end of the message; returns what the log says of it, and how many more notes there were.
    #[must_use]
    pub fn finish(mut self, out: &mut Vec<u8>) -> (Vec<Note>, u64) {
        let Self { lines, scanner, editor } = &mut self;
        lines.finish(|line| scanner.line(line, &mut |piece: Piece<'_>| editor.piece(piece, out)));
        scanner.finish(&mut |piece: Piece<'_>| editor.piece(piece, out));
        if let Some(downgrade) = &mut self.editor.downgrade {
            downgrade.finish(out);
        }
        (self.editor.notes, self.editor.more_notes)
    }
}

#[derive(Debug)]
struct Editor {
    rules: Rewriting,
    downgrade: Option<Downgrade>,
    notes: Vec<Note>,
    more_notes: u64,
}

impl Editor {
    fn piece(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) {
        let checks = Arc::clone(&self.rules.checks);
        match piece {
            Piece::EndOfHeader { .. } => self.send(piece, out),
            Piece::Field(class, text) => {
                let (edit, note) = checks.field(class, text);
                self.note(note);
                match edit {
                    Edit::Keep => self.field(class, text, out),
                    Edit::Drop => {}
                    Edit::Replace(new) => self.field(class, &one_field(&new), out),
                    Edit::Prepend(new) => {
                        self.send(Piece::Field(class, &one_field(&new)), out);
                        self.field(class, text, out);
                    }
                }
            }
            Piece::Line(_, text) | Piece::Boundary(text) => {
                let (edit, note) = checks.line(text);
                self.note(note);
                let with = |new| match piece {
                    Piece::Line(part, _) => Piece::Line(part, new),
                    Piece::Boundary(_) | Piece::Field(..) | Piece::EndOfHeader { .. } => Piece::Boundary(new),
                };
                match edit {
                    Edit::Keep => self.send(piece, out),
                    Edit::Drop => {}
                    Edit::Replace(new) => self.send(with(&one_line(&new)), out),
                    Edit::Prepend(new) => {
                        self.send(with(&one_line(&new)), out);
                        self.send(piece, out);
                    }
                }
            }
        }
    }

    fn field(&mut self, class: Class, text: &[u8], out: &mut Vec<u8>) {
        let mapped = if class == Class::Primary { map_field(&self.rules.generic, text) } else { None };
        self.send(Piece::Field(class, mapped.as_deref().unwrap_or(text)), out);
    }

    fn note(&mut self, note: Option<Note>) {
        match note {
            Some(note) if self.notes.len() < MOST_NOTES => self.notes.push(note),
            Some(_) => self.more_notes = self.more_notes.saturating_add(1),
            None => {}
        }
    }

    fn send(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) {
        if let Some(downgrade) = &mut self.downgrade {
            return downgrade.piece(piece, out);
        }
        match piece {
            Piece::Field(_, text) => {
                for line in text.split(|octet| *octet == b'\n') {
                    out.extend_from_slice(line);
                    out.extend_from_slice(b"\r\n");
                }
            }
            Piece::EndOfHeader { blank: true, .. } => out.extend_from_slice(b"\r\n"),
            Piece::EndOfHeader { blank: false, .. } => {}
            Piece::Line(_, text) | Piece::Boundary(text) => {
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// Lines that go on begin with a blank, whatever a pattern's groups have left of it.
fn one_field(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (number, line) in text.split(|octet| *octet == b'\n').enumerate() {
        if number > 0 {
            out.push(b'\n');
            if !line.starts_with(b" ") && !line.starts_with(b"\t") {
                out.push(b' ');
            }
        }
        out.extend(line.iter().filter(|octet| **octet != b'\r'));
    }
    out
}

fn one_line(text: &[u8]) -> Vec<u8> {
    text.iter().map(|octet| if matches!(octet, b'\r' | b'\n') { b' ' } else { *octet }).collect()
}

/// Octets, divided at CRLF.
#[derive(Debug, Default)]
struct Lines {
    held: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, mut octets: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', octets) {
            let (line, rest) = octets.split_at_checked(end).unwrap_or((octets, b""));
            octets = rest.get(1..).unwrap_or_default();
            if let Some(line) =
                line.strip_suffix(b"\r").filter(|_| self.held.is_empty() && end <= LONGEST_LINE)
            {
                each(line);
                continue;
            }
            self.hold(line, &mut each);
            if self.held.pop_if(|last| *last == b'\r').is_some() {
                each(&self.held);
                self.held.clear();
            } else {
                // A bare LF ends no line.
                self.hold(b"\n", &mut each);
            }
        }
        self.hold(octets, &mut each);
    }

    fn hold(&mut self, mut octets: &[u8], each: &mut impl FnMut(&[u8])) {
        while self.held.len().saturating_add(octets.len()) > LONGEST_LINE {
            let room = LONGEST_LINE.saturating_sub(self.held.len());
            let (some, rest) = octets.split_at_checked(room).unwrap_or((octets, b""));
            self.held.extend_from_slice(some);
            octets = rest;
            // A CR at the end may belong to a line end.
            let cr = self.held.pop_if(|last| *last == b'\r');
            each(&self.held);
            self.held.clear();
            self.held.push(b' ');
            self.held.extend(cr);
        }
        self.held.extend_from_slice(octets);
    }

    fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.held.is_empty() {
            each(&self.held);
            self.held.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::table::{Maps, TableSpec};

    fn maps(spec: &str) -> Maps {
        Maps::new(vec![spec.parse::<TableSpec>().unwrap().table("").unwrap()])
    }

    /// Made once: to compile patterns takes longer than to use them.
    static REWRITING: LazyLock<Rewriting> = LazyLock::new(|| {
        let checks = Checks {
            header: maps(
                "pcre:{ {/^Received:/ IGNORE}, {/^X-Old: (.*)/ REPLACE X-New: $1}, {/^Subject:/ PREPEND X-Seen: yes} }",
            ),
            mime_header: maps("pcre:{ {/^Content-Description:/ STRIP} }"),
            nested_header: Maps::default(),
            body: maps("pcre:{ {/secret/ REPLACE (left out)}, {/./ WARN} }"),
        };
        let generic = Generic { maps: maps("inline:{@in.test=@out.test}"), ..Generic::default() };
        Rewriting { checks: Arc::new(checks), generic: Arc::new(generic), limits: Limits::default() }
    });

    /// A message written in pieces of that length.
    fn written(rules: &Rewriting, message: &[u8], length: usize, downgrade: bool) -> (String, usize, u64) {
        let mut survey = rules.survey();
        message.chunks(length).for_each(|piece| survey.octets(piece));
        let survey = survey.finish().unwrap();
        let mut pass = rules.write(downgrade.then_some(survey));
        let mut out = Vec::new();
        message.chunks(length).for_each(|piece| pass.octets(piece, &mut out));
        let (notes, more) = pass.finish(&mut out);
        (String::from_utf8_lossy(&out).into_owned(), notes.len(), more)
    }

    const MESSAGE: &str = "Received: from a\r\n by b\r\nX-Old: 1\r\n 2\r\nFrom: <a@in.test>\r\nSubject: s\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Description: d\r\nFrom: <a@in.test>\r\n\r\n\
        secret\r\nna\u{ef}ve\r\n--b--\r\n";

    // Specification section 10, order: checks, then generic mapping of primary address headers, then output.
    #[test]
    fn a_message_is_checked_then_mapped_then_encoded() {
        let (text, notes, more) = written(&REWRITING, MESSAGE.as_bytes(), 7, true);
        assert_eq!(
            text,
            "X-New: 1\r\n 2\r\nFrom: <a@out.test>\r\nX-Seen: yes\r\nSubject: s\r\n\
             Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nFrom: <a@in.test>\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\n(left out)\r\nna=C3=AFve\r\n--b--\r\n"
        );
        assert_eq!((notes, more), (7, 0));
        let many = format!("A: b\r\n\r\n{}", "x\r\n".repeat(100));
        let (_, notes, more) = written(&REWRITING, many.as_bytes(), 1_000, false);
        assert_eq!((notes, more), (MOST_NOTES, 80));
    }

    // Specification section 10: errors here (nesting) fail the transaction permanently.
    #[test]
    fn a_message_too_deep_cannot_be_encoded() {
        let rules = Rewriting { limits: Limits { nesting: 1, ..Limits::default() }, ..Rewriting::default() };
        let mut survey = rules.survey();
        survey.octets(b"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n");
        assert_eq!(survey.finish().unwrap_err().status.to_string(), "5.6.0");
    }

    #[test]
    fn a_replacement_stays_one_field() {
        assert_eq!(one_field(b"X: a\nb\r\n\tc"), b"X: a\n b\n\tc");
        assert_eq!(one_line(b"a\r\nb"), b"a  b");
    }

    #[test]
    fn endless_lines_are_folded() {
        let rules = Rewriting::default();
        let message = format!("A: b\r\n\r\n{}\r\nend\r\n", "x".repeat(3 * LONGEST_LINE));
        let (text, ..) = written(&rules, message.as_bytes(), 50_000, false);
        assert!(text.ends_with("x\r\nend\r\n") && text.lines().all(|line| line.len() <= LONGEST_LINE));
        assert_eq!(text.matches('x').count(), 3 * LONGEST_LINE);
    }

    proptest! {
        /// However a message comes in pieces, what goes out is the same; without rules, it is the message.
        #[test]
        fn pieces_make_no_difference(
            lines in proptest::collection::vec("(X-Old|To|Content-Type: multipart/a; boundary=b|--b|--b--)?[:a-c @\u{e4}\r]{0,12}", 0..20),
            length in 1..40usize,
            downgrade in any::<bool>(),
        ) {
            let message: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let whole = written(&REWRITING, message.as_bytes(), usize::MAX, downgrade);
            prop_assert_eq!(&written(&REWRITING, message.as_bytes(), length, downgrade), &whole);
            prop_assert_eq!(written(&Rewriting::default(), message.as_bytes(), length, false).0, message);
        }
    }
}
