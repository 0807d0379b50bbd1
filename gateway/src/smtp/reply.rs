//! Replies: the server's, taken apart and put together again, and the gateway's own
//! (RFC 5321 section 4.2).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::line::is_illegal;

/// Octets of a reply line that are kept, CRLF not counted; the rest is cut off
/// (RFC 5321 section 4.5.3.1.5 asks for 512, and for tolerance).
const MAX_LINE: usize = 998;
/// Octets without a line end after which the server is not speaking SMTP.
const MAX_UNFINISHED: usize = 64 * 1024;
/// Lines of one reply.
const MAX_LINES: usize = 256;

/// Octets around the text of a line: three digits, a space or hyphen, CRLF.
const AROUND: usize = 6;

/// A complete reply of one or more lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    lines: Vec<Bytes>,
}

impl Reply {
    /// A reply of one line.
    #[must_use]
    pub fn new(code: u16, text: &str) -> Self {
        Self { code, lines: vec![sanitized(text.as_bytes())] }
    }

    /// A reply with these lines.
    #[must_use]
    pub const fn with_lines(code: u16, lines: Vec<Bytes>) -> Self {
        Self { code, lines }
    }

    /// The three digits.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The texts behind the digits, line by line.
    #[must_use]
    pub fn lines(&self) -> &[Bytes] {
        &self.lines
    }

    /// 2xx.
    #[must_use]
    pub const fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether it ends the connection (RFC 5321 section 3.8).
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.code == 421
    }

    /// The last line, for records.
    #[must_use]
    pub fn summary(&self) -> String {
        let text = self.lines.last().map(|line| String::from_utf8_lossy(line)).unwrap_or_default();
        format!("{} {text}", self.code)
    }

    /// Appends the reply as it goes over the wire.
    pub fn encode(&self, out: &mut BytesMut) {
        let last = self.lines.len().saturating_sub(1);
        let length = |sum: usize, line: &Bytes| sum.saturating_add(AROUND).saturating_add(line.len());
        out.reserve(self.lines.iter().fold(0, length));
        let digits = [self.code / 100 % 10, self.code / 10 % 10, self.code % 10]
            .map(|digit| b'0'.saturating_add(u8::try_from(digit).unwrap_or(0)));
        for (number, line) in self.lines.iter().enumerate() {
            out.extend_from_slice(&digits);
            out.put_u8(if number == last { b' ' } else { b'-' });
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// How a server broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line does not begin with three digits and a space or hyphen.
    #[error("a line is not a reply line")]
    Malformed,
    /// The digits differ between lines of one reply.
    #[error("the code changes within a reply")]
    CodeChanges,
    /// Too many lines, or a line without end.
    #[error("the reply is endless")]
    Endless,
}

/// Collects replies from a server's stream.
#[derive(Debug, Default)]
pub struct ReplyDecoder {
    code: Option<u16>,
    lines: Vec<Bytes>,
}

impl ReplyDecoder {
    /// Takes the next complete reply from `input`; `None` when its end has not come yet.
    ///
    /// A bare LF ends a line here: the gateway speaks to the client with CRLF in any case.
    ///
    /// # Errors
    ///
    /// [`ReplyError`]: the server cannot be understood from here on.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        while let Some(end) = memchr::memchr(b'\n', input) {
            let line = input.get(..end).unwrap_or_default();
            let reply = self.line(line.strip_suffix(b"\r").unwrap_or(line));
            input.advance(end.saturating_add(1));
            if let Some(reply) = reply? {
                return Ok(Some(reply));
            }
        }
        if input.len() > MAX_UNFINISHED { Err(ReplyError::Endless) } else { Ok(None) }
    }

    /// Whether the server has begun a reply and not ended it.
    #[must_use]
    pub const fn is_inside(&self) -> bool {
        self.code.is_some()
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::Malformed)?;
        let code = std::str::from_utf8(digits)
            .ok()
            .filter(|text| text.bytes().all(|octet| octet.is_ascii_digit()))
            .and_then(|text| text.parse::<u16>().ok())
            .filter(|code| (200..600).contains(code))
            .ok_or(ReplyError::Malformed)?;
        if self.code.is_some_and(|begun| begun != code) {
            return Err(ReplyError::CodeChanges);
        }
        let (last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(ReplyError::Malformed),
        };
        if self.lines.len() >= MAX_LINES {
            return Err(ReplyError::Endless);
        }
        self.lines.push(sanitized(text));
        self.code = Some(code);
        if !last {
            return Ok(None);
        }
        self.code = None;
        Ok(Some(Reply { code, lines: std::mem::take(&mut self.lines) }))
    }
}

/// The text without control octets, cut so that its line stays within [`MAX_LINE`].
fn sanitized(text: &[u8]) -> Bytes {
    let text = text.get(..MAX_LINE.saturating_sub(4)).unwrap_or(text);
    if text.iter().copied().any(is_illegal) {
        text.iter().map(|octet| if is_illegal(*octet) { b'?' } else { *octet }).collect()
    } else {
        Bytes::copy_from_slice(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(octets: &[u8]) -> Result<Vec<String>, ReplyError> {
        let mut decoder = ReplyDecoder::default();
        let mut input = BytesMut::from(octets);
        let mut replies = Vec::new();
        while let Some(reply) = decoder.next(&mut input)? {
            let mut out = BytesMut::new();
            reply.encode(&mut out);
            replies.push(String::from_utf8_lossy(&out).into_owned());
        }
        Ok(replies)
    }

    #[test]
    fn replies_pass_as_they_came() {
        let wire = "250-a.test\r\n250-SIZE 10\r\n250 DSN\r\n354\r\n";
        assert_eq!(
            decode(wire.as_bytes()).unwrap(),
            ["250-a.test\r\n250-SIZE 10\r\n250 DSN\r\n", "354 \r\n"]
        );
    }

    #[test]
    fn a_code_that_changes_is_no_reply() {
        assert_eq!(decode(b"250-a\r\n550 b\r\n"), Err(ReplyError::CodeChanges));
        assert_eq!(decode(b"25O ok\r\n"), Err(ReplyError::Malformed));
        assert_eq!(decode(b"250x\r\n"), Err(ReplyError::Malformed));
        assert_eq!(decode(&[b'2'; 70_000]), Err(ReplyError::Endless));
    }

    #[test]
    fn a_long_line_is_cut_and_stays_one_line() {
        let wire = format!("354 {}\r\n", "x".repeat(2000));
        let replies = decode(wire.as_bytes()).unwrap();
        assert_eq!(replies.len(), 1);
        assert_eq!(replies.concat().len(), 1000);
    }

    #[test]
    fn control_octets_do_not_reach_the_client() {
        assert_eq!(decode(b"250 a\rb\x1b\r\n").unwrap(), ["250 a?b?\r\n"]);
    }

    proptest! {
        #[test]
        fn any_stream_gives_replies_or_an_error(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            for reply in decode(&octets).unwrap_or_default() {
                prop_assert!(reply.ends_with("\r\n"));
            }
        }
    }
}
