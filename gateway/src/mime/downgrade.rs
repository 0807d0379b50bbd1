//! Messages of any octets, made to pass servers without 8BITMIME (RFC 6152 section 3).
//!
//! A message is read twice: [`Survey`] finds the parts that need it, [`Downgrade`] writes them in
//! quoted-printable, or in base 64 where they are no text. Everything else stays as it is.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::field::{Encoding, name_of};
use super::scanner::{Class, Kind, Part, Piece};

/// Longest line that is written in quoted-printable, its soft line break not counted (RFC 2045 section 6.7).
const QUOTED_LINE: usize = 75;
/// Octets of a line in base 64 (RFC 2045 section 6.8).
const BASE64_LINE: usize = 57;

/// Finds parts with octets above 127.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    parts: BTreeSet<u32>,
    /// The message's own header has these fields.
    mime_version: bool,
    content_type: bool,
    top: bool,
}

impl Survey {
    /// Takes a piece of the message.
    pub fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Field(_, text) if !self.top => {
                let name = name_of(text);
                self.mime_version |= name.eq_ignore_ascii_case(b"mime-version");
                self.content_type |= name.eq_ignore_ascii_case(b"content-type");
            }
            Piece::EndOfHeader { .. } => self.top = true,
            Piece::Line(part, text) if !text.is_ascii() => {
                // Encoded parts must not have such octets; there is no way to write them that is right.
                if !matches!(part.kind, Kind::Between) {
                    self.parts.insert(part.number);
                }
            }
            Piece::Field(..) | Piece::Line(..) | Piece::Boundary(_) => {}
        }
    }
}

/// Writes a message of 7 bits.
#[derive(Clone, Debug)]
pub struct Downgrade {
    survey: Survey,
    /// The Content-Transfer-Encoding of the header that is being read.
    encoding: Vec<u8>,
    /// Octets that wait for a line of base 64 to be full.
    pending: Vec<u8>,
    /// The part whose octets they are, once it has a line.
    open: Option<u32>,
}

impl Downgrade {
    /// For a message that `survey` has seen to its end.
    #[must_use]
    pub const fn new(survey: Survey) -> Self {
        Self { survey, encoding: Vec::new(), pending: Vec::new(), open: None }
    }

    /// Takes a piece of the message, and puts lines with CRLF behind each into `out`.
    pub fn piece(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) {
        match piece {
            Piece::Field(_, text) if name_of(text).eq_ignore_ascii_case(b"content-transfer-encoding") => {
                self.encoding = text.to_vec();
            }
            Piece::Field(_, text) => lines(text, out),
            Piece::EndOfHeader { class, part, blank } => {
                self.end_header(class, part, out);
                if blank {
                    out.extend_from_slice(b"\r\n");
                }
            }
            Piece::Line(part, text) => match self.method(part) {
                Method::AsItIs => line(&legible(part, text), out),
                Method::QuotedPrintable => quoted_printable(text, out),
                Method::Base64 => self.base64(part, text, out),
            },
            Piece::Boundary(text) => {
                self.flush(out);
                line(text, out);
            }
        }
    }

    /// Takes the end of the message.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.open.is_some() && self.survey.parts.contains(&0) {
            // Only where there are no parts the last line end is the body's own.
            self.pending.extend_from_slice(b"\r\n");
        }
        self.flush(out);
    }

    fn method(&self, part: Part) -> Method {
        if !self.survey.parts.contains(&part.number) || part.kind == Kind::Between {
            return Method::AsItIs;
        }
        match (part.encoding, part.kind) {
            (Encoding::QuotedPrintable | Encoding::Base64 | Encoding::Other, _) => Method::AsItIs,
            (_, Kind::Text) => Method::QuotedPrintable,
            _ => Method::Base64,
        }
    }

    fn end_header(&mut self, class: Class, part: Part, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.encoding);
        let is_seven_bit =
            matches!(part.kind, Kind::Multipart | Kind::Message) || !self.survey.parts.contains(&part.number);
        let method = if is_seven_bit { Method::AsItIs } else { self.method(part) };
        let encoding: &[u8] = match (method, part.encoding) {
            (Method::QuotedPrintable, _) => b"Content-Transfer-Encoding: quoted-printable",
            (Method::Base64, _) => b"Content-Transfer-Encoding: base64",
            (Method::AsItIs, Encoding::EightBit | Encoding::Binary) if is_seven_bit => {
                b"Content-Transfer-Encoding: 7bit"
            }
            (Method::AsItIs, _) => &held,
        };
        if class == Class::Primary && method != Method::AsItIs {
            if !self.survey.mime_version {
                line(b"MIME-Version: 1.0", out);
            }
            if !self.survey.content_type {
                // RFC 1428 section 3: nobody knows which characters these are.
                line(b"Content-Type: text/plain; charset=unknown-8bit", out);
            }
        }
        if !encoding.is_empty() {
            lines(encoding, out);
        }
    }

    fn base64(&mut self, part: Part, text: &[u8], out: &mut Vec<u8>) {
        if self.open == Some(part.number) {
            self.pending.extend_from_slice(b"\r\n");
        }
        self.open = Some(part.number);
        self.pending.extend_from_slice(text);
        let full = self.pending.len().saturating_sub(self.pending.len() % BASE64_LINE);
        for octets in self.pending.get(..full).unwrap_or_default().chunks(BASE64_LINE) {
            line(STANDARD.encode(octets).as_bytes(), out);
        }
        self.pending.drain(..full);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        self.open = None;
        for octets in std::mem::take(&mut self.pending).chunks(BASE64_LINE) {
            line(STANDARD.encode(octets).as_bytes(), out);
        }
    }
}

/// How the lines of a part are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    AsItIs,
    QuotedPrintable,
    Base64,
}

fn line(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// Writes a field, whose lines are divided by LF.
fn lines(text: &[u8], out: &mut Vec<u8>) {
    for text in text.split(|octet| *octet == b'\n') {
        line(text, out);
    }
}

/// A line that nobody shows has `?` in the place of other octets.
fn legible(part: Part, text: &[u8]) -> Vec<u8> {
    if part.kind != Kind::Between {
        return text.to_vec();
    }
    text.iter().map(|octet| if octet.is_ascii() { *octet } else { b'?' }).collect()
}

/// Writes a line in quoted-printable (RFC 2045 section 6.7).
fn quoted_printable(text: &[u8], out: &mut Vec<u8>) {
    let mut width = 0usize;
    let last = text.len().saturating_sub(1);
    for (at, octet) in text.iter().enumerate() {
        let is_plain = match octet {
            b' ' | b'\t' => at != last,
            b'=' => false,
            b'!'..=b'~' => true,
            _ => false,
        };
        let needs = if is_plain { 1 } else { 3 };
        if width.saturating_add(needs) > QUOTED_LINE {
            out.extend_from_slice(b"=\r\n");
            width = 0;
        }
        width = width.saturating_add(needs);
        if is_plain {
            out.push(*octet);
        } else {
            out.extend_from_slice(format!("={octet:02X}").as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;
    use proptest::prelude::*;

    use super::*;
    use crate::mime::{Limits, Scanner};

    fn downgraded(text: &[u8]) -> Vec<u8> {
        let text = text.strip_suffix(b"\r\n").unwrap_or(text);
        let lines =
            || text.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut survey = Survey::default();
        let mut scanner = Scanner::new(Limits::default());
        let mut sink = |piece: Piece<'_>| survey.piece(piece);
        lines().for_each(|line| scanner.line(line, &mut sink));
        scanner.finish(&mut sink);
        let mut downgrade = Downgrade::new(survey);
        let mut out = Vec::new();
        let mut scanner = Scanner::new(Limits::default());
        let mut sink = |piece: Piece<'_>| downgrade.piece(piece, &mut out);
        lines().for_each(|line| scanner.line(line, &mut sink));
        scanner.finish(&mut sink);
        downgrade.finish(&mut out);
        out
    }

    fn text(octets: &[u8]) -> String {
        String::from_utf8_lossy(octets).replace("\r\n", "\n")
    }

    // Specification section 10, 8-bit downgrade.
    #[test]
    fn parts_that_need_it_are_encoded_and_others_are_not() {
        let message = "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\npr\u{e4}\r\n--b\r\n\r\nplain\r\n\
            --b\r\nContent-Transfer-Encoding: 8BIT\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n\r\ngr\u{fc}n = 1 \r\n\
            --b\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\u{fc}\r\n\u{fc}\r\n\
            --b\r\nContent-Transfer-Encoding: 8bit\r\n\r\nnone\r\n--b--\r\n";
        assert_eq!(
            text(&downgraded(message.as_bytes())),
            "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 7bit\n\npr??\n--b\n\nplain\n\
             --b\nContent-Type: text/plain;\n charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\ngr=C3=BCn =3D 1=20\n\
             --b\nContent-Type: image/x\nContent-Transfer-Encoding: base64\n\nw7wNCsO8\n\
             --b\nContent-Transfer-Encoding: 7bit\n\nnone\n--b--\n"
        );
    }

    #[test]
    fn a_message_without_mime_says_what_it_becomes() {
        assert_eq!(
            text(&downgraded(b"Subject: x\r\n\r\n\xe4\r\n")),
            "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\n\
             Content-Transfer-Encoding: quoted-printable\n\n=E4\n"
        );
        let inner = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0\r\n\r\nSubject: y\r\n\r\n\u{e4}\r\n";
        assert_eq!(
            text(&downgraded(inner.as_bytes())),
            "Content-Type: message/rfc822\nMIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\nSubject: y\n\
             Content-Transfer-Encoding: quoted-printable\n\n=C3=A4\n"
        );
    }

    // RFC 2045 section 6.7: rules 3 to 5.
    #[test]
    fn lines_in_quoted_printable_are_short() {
        let mut out = Vec::new();
        quoted_printable("\u{e4}".repeat(100).as_bytes(), &mut out);
        assert!(text(&out).lines().all(|line| line.len() <= 76));
        out.clear();
        quoted_printable(format!("{}\t", "a".repeat(75)).as_bytes(), &mut out);
        assert_eq!(text(&out), format!("{}=\n=09\n", "a".repeat(75)));
    }

    proptest! {
        /// Read by another's parser, a downgraded part is what it was.
        #[test]
        fn nothing_is_lost(
            lines in proptest::collection::vec("[a-z=. \u{e4}\u{20ac}]{0,90}", 1..6),
            is_text in any::<bool>(),
        ) {
            let kind = if is_text { "text/plain; charset=utf-8" } else { "application/x" };
            let body = lines.join("\r\n");
            let message = format!(
                "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: {kind}\r\n\
                 Content-Transfer-Encoding: 8bit\r\n\r\n{body}\r\n--b--\r\n"
            );
            let out = downgraded(message.as_bytes());
            prop_assert!(out.is_ascii());
            let parsed = MessageParser::default().parse(&out).expect("a message");
            let part = parsed.parts.get(1).expect("a part");
            prop_assert_eq!(String::from_utf8_lossy(part.contents()), body);
        }
    }
}
