//! Header fields, written and read.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Where a line is folded, if it can be (RFC 5322 section 2.1.1).
const WIDTH: usize = 78;
/// Where it is folded in any case.
const LONGEST: usize = 998;
/// Octets of a message in which its Message-ID is looked for.
const LOOKED_AT: usize = 64 * 1024;

/// A message in the making, in lines that end with CRLF.
#[derive(Debug)]
pub(super) struct Fields {
    out: Vec<u8>,
    utf8: bool,
}

impl Fields {
    pub(super) const fn new(utf8: bool) -> Self {
        Self { out: Vec::new(), utf8 }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        // The empty line between a part's header and its body, or more of the header.
        std::mem::take(&mut self.out)
    }

    /// Writes a line as it is.
    pub(super) fn line(&mut self, line: &str) {
        self.out.extend_from_slice(self.clean(line).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Writes a field, folded at blanks; whatever its value holds, it stays one field.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        let text = self.clean(&format!("{name}: {value}"));
        self.folded(&text, name.len().saturating_add(1));
    }

    /// Writes text, folded at blanks.
    pub(super) fn paragraph(&mut self, text: &str) {
        let text = self.clean(text);
        self.folded(&text, 0);
    }

    /// Folds `text`, but not before `from`.
    fn folded(&mut self, text: &str, from: usize) {
        let (mut start, mut from, mut room) = (0usize, from, WIDTH);
        while text.len().saturating_sub(start) > room {
            let line = text.get(start..).unwrap_or_default();
            let within = line.get(..line.floor_char_boundary(room)).unwrap_or_default();
            let at = match within.rfind(' ').filter(|at| *at > from) {
                Some(at) => Some(at),
                // A long word is left whole as long as a line may hold it.
                None => line
                    .char_indices()
                    .skip_while(|(at, _)| *at <= from)
                    .find(|(_, c)| *c == ' ')
                    .map(|(at, _)| at),
            };
            let at = at.unwrap_or(line.len()).min(line.floor_char_boundary(LONGEST.saturating_sub(1)));
            if at >= line.len() {
                break;
            }
            self.out.extend_from_slice(line.get(..at).unwrap_or_default().as_bytes());
            self.out.extend_from_slice(b"\r\n ");
            start = start.saturating_add(at);
            // The blank at which it was folded begins the next line already.
            start = start
                .saturating_add(usize::from(text.get(start..).is_some_and(|rest| rest.starts_with(' '))));
            (from, room) = (0, WIDTH.saturating_sub(1));
        }
        self.out.extend_from_slice(text.get(start..).unwrap_or_default().as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// No control characters, and no UTF-8 where none is agreed on.
    fn clean(&self, text: &str) -> String {
        let odd = |c: char| c.is_control() || (!self.utf8 && !c.is_ascii());
        text.trim_end()
            .chars()
            .map(|c| match c {
                '\r' | '\n' | '\t' => ' ',
                c if odd(c) => '?',
                c => c,
            })
            .collect()
    }
}

/// The type of an address (RFC 3464 section 2.3.2, RFC 6533 section 3).
pub(super) fn address_type(address: &str) -> &'static str {
    if address.is_ascii() { "rfc822" } else { "utf-8" }
}

/// A date (RFC 5322 section 3.3).
pub(super) fn date(time: SystemTime) -> String {
    let timestamp = Timestamp::try_from(time).unwrap_or_default();
    jiff::fmt::rfc2822::to_string(&timestamp.to_zoned(TimeZone::UTC)).unwrap_or_default()
}

/// How long the header of a message is, without the empty line behind it.
pub(super) fn header_length(content: &[u8]) -> usize {
    if content.starts_with(b"\r\n") {
        return 0;
    }
    memchr::memmem::find(content, b"\r\n\r\n").map_or(content.len(), |end| end.saturating_add(2))
}

/// The message's own Message-ID, if it is one that can be repeated.
pub(super) fn message_id(content: &[u8]) -> Option<String> {
    let header = content.get(..header_length(content))?;
    let header = header.get(..header.len().min(LOOKED_AT))?;
    let mut lines = header.split(|octet| *octet == b'\n');
    while let Some(line) = lines.next() {
        let line = std::str::from_utf8(line).unwrap_or_default();
        let Some((name, value)) = line.split_once(':') else { continue };
        if !name.trim_end().eq_ignore_ascii_case("message-id") {
            continue;
        }
        let value = value.trim();
        let mut folded = || lines.next().and_then(|line| std::str::from_utf8(line).ok());
        let value = if value.is_empty() { folded()?.trim() } else { value };
        let is_id = value.len() <= 250
            && value.starts_with('<')
            && value.ends_with('>')
            && value.bytes().all(|octet| octet.is_ascii_graphic());
        return is_id.then(|| value.to_owned());
    }
    None
}
