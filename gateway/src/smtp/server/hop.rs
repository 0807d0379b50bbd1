//! Received fields: how often a message was handed on (RFC 5321 section 6.3).

use memchr::memchr;

/// Octets of a field that are looked at.
const LOOKED_AT: usize = 998;

/// Counts the Received fields in the header of a message that comes in pieces.
#[derive(Debug)]
pub(super) struct Hops {
    /// The gateway's name.
    own: String,
    /// The field at hand, without its line ends.
    field: Vec<u8>,
    line: Vec<u8>,
    in_body: bool,
    all: u32,
    by_own: u32,
}

impl Hops {
    pub(super) fn new(own: &str) -> Self {
        Self { own: own.to_ascii_lowercase(), field: vec![], line: vec![], in_body: false, all: 0, by_own: 0 }
    }

    /// Reads the next octets, whose lines end in LF.
    pub(super) fn read(&mut self, mut octets: &[u8]) {
        while !self.in_body && !octets.is_empty() {
            let end = memchr(b'\n', octets);
            let (piece, rest) = octets.split_at(end.map_or(octets.len(), |end| end.saturating_add(1)));
            let room = LOOKED_AT.saturating_sub(self.line.len());
            self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            octets = rest;
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                self.take_line(line.trim_ascii_end());
            }
        }
    }

    /// How many there are, and how many of the gateway's own.
    pub(super) const fn counted(&self) -> (u32, u32) {
        (self.all, self.by_own)
    }

    fn take_line(&mut self, line: &[u8]) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            let room = LOOKED_AT.saturating_sub(self.field.len());
            self.field.extend_from_slice(line.get(..room).unwrap_or(line));
            return;
        }
        self.end_field();
        self.in_body = line.is_empty() || !line.contains(&b':');
        self.field.extend_from_slice(line);
    }

    fn end_field(&mut self) {
        let field = std::mem::take(&mut self.field);
        let is_received = field.get(..9).is_some_and(|name| name.eq_ignore_ascii_case(b"Received:"));
        if !is_received {
            return;
        }
        self.all = self.all.saturating_add(1);
        let text = String::from_utf8_lossy(&field).to_ascii_lowercase();
        let mut words = text.split_ascii_whitespace();
        while let Some(word) = words.next() {
            if word == "by" {
                let own = words.next() == Some(self.own.as_str());
                self.by_own = self.by_own.saturating_add(u32::from(own));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(message: &str, cut: usize) -> (u32, u32) {
        let mut hops = Hops::new("gw.test");
        let (head, tail) = message.as_bytes().split_at(cut);
        hops.read(head);
        hops.read(tail);
        hops.counted()
    }

    #[test]
    fn fields_of_the_header_are_counted_however_they_are_cut() {
        let message = "Received: from a.test (by way of)\r\n\tby b.test id 1\r\nSubject: Received: x\r\n\
                       received: from b.test\r\n by\r\n GW.test with ESMTP\r\nTo: x\r\n\r\nReceived: in the body\r\n";
        for cut in 0..message.len() {
            assert_eq!(count(message, cut), (2, 1), "cut at {cut}");
        }
    }

    #[test]
    fn a_message_without_a_body_or_a_header_is_read_too() {
        assert_eq!(count("Received: by gw.test\r\n\r\n", 3), (1, 1));
        assert_eq!(count("no header at all\r\nReceived: by gw.test\r\n\r\n", 3), (0, 0));
        assert_eq!(count("", 0), (0, 0));
    }
}
