//! The header of a message that is to be signed: who it is from, and which of its fields are signed.

use std::ops::Range;

use crate::delivery::destination::host_name;
use crate::delivery::generic::first_address;

/// A field: its name, and what stands behind its colon with its CRLF.
pub(super) type Field<'h> = (&'h [u8], &'h [u8]);

/// A header, up to the empty line.
#[derive(Debug)]
pub(super) struct Header {
    octets: Vec<u8>,
    /// From above; see [`Field`].
    fields: Vec<(Range<usize>, Range<usize>)>,
}

impl Header {
    /// Reads lines with CRLF behind each; `None` where one is no part of a field: whoever reads the message may take
    /// something else for its header.
    pub(super) fn parse(octets: Vec<u8>) -> Option<Self> {
        let mut fields: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        let mut start = 0usize;
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            let end = start.saturating_add(line.len());
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                fields.last_mut()?.1.end = end;
            } else {
                let colon = start.saturating_add(memchr::memchr(b':', line)?);
                let name = octets.get(start..colon)?.trim_ascii_end();
                if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
                    return None;
                }
                fields.push((start..colon, colon.saturating_add(1)..end));
            }
            start = end;
        }
        Some(Self { octets, fields })
    }

    fn text(&self, range: &Range<usize>) -> &[u8] {
        self.octets.get(range.clone()).unwrap_or_default()
    }

    /// The fields of that name, from below: so they are counted (RFC 6376 section 5.4.2).
    fn named<'h>(&'h self, wanted: &'h str) -> impl Iterator<Item = Field<'h>> {
        let is = move |name: &[u8]| name.trim_ascii_end().eq_ignore_ascii_case(wanted.as_bytes());
        let fields = self.fields.iter().rev().map(|(name, value)| (self.text(name), self.text(value)));
        fields.filter(move |(name, _)| is(name))
    }

    /// The domain of the only From field's first address, in lower case and A-labels.
    pub(super) fn sender_domain(&self) -> Option<String> {
        let mut from = self.named("From");
        let (_, value) = from.next()?;
        if from.next().is_some() {
            return None;
        }
        let address = first_address(value)?;
        let (_, domain) = address.rsplit_once('@')?;
        host_name(domain).ok()
    }

    /// The fields that are signed, and their names as the signature lists them (`h=`): each name as often as it is there, once
    /// more where it is `oversigned`.
    pub(super) fn signed<'h>(
        &'h self,
        names: &'h [String],
        oversigned: &[String],
    ) -> (Vec<String>, Vec<Field<'h>>) {
        let (mut listed, mut fields) = (Vec::new(), Vec::new());
        for name in names {
            for field in self.named(name) {
                listed.push(name.clone());
                fields.push(field);
            }
            if oversigned.iter().any(|more| more.eq_ignore_ascii_case(name)) {
                listed.push(name.clone());
            }
        }
        (listed, fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Option<Header> {
        Header::parse(text.replace('\n', "\r\n").into_bytes())
    }

    #[test]
    fn a_message_is_from_the_domain_of_its_only_from_field() {
        for (text, expected) in [
            ("Subject: x\nFrom: a@B.Test\n", Some("b.test")),
            ("from : \"A, b@c.test\" <a@b.test>\n", Some("b.test")),
            ("From:\n A\n <a@b.test>, c@d.test\n", Some("b.test")),
            ("From: a@b\u{fc}cher.test\n", Some("xn--bcher-kva.test")),
            ("From: a@b.test\nFrom: a@c.test\n", None),
            ("From: a\n", None),
            ("From: <a@[192.0.2.1]>\n", None),
            ("Sender: a@b.test\n", None),
            ("", None),
        ] {
            assert_eq!(header(text).unwrap().sender_domain().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_header_is_not_read_as_one() {
        for text in
            ["From: a@b.test\nno field\n", " From: a@b.test\n", "From a@b.test\n", ": x\n", "A b: c\n"]
        {
            assert!(header(text).is_none(), "{text}");
        }
    }

    // RFC 6376 section 5.4.2.
    #[test]
    fn fields_are_signed_from_below_and_once_more() {
        let header = header("To: 1\nFrom: a@b.test\nto: 2\nX: y\n").unwrap();
        let names = ["From", "To", "Cc"].map(str::to_owned);
        let (listed, fields) = header.signed(&names, &["from".to_owned(), "CC".to_owned()]);
        assert_eq!(listed, ["From", "From", "To", "To", "Cc"]);
        let values: Vec<_> = fields.iter().map(|(_, value)| String::from_utf8_lossy(value)).collect();
        assert_eq!(values, [" a@b.test\r\n", " 2\r\n", " 1\r\n"]);
    }
}
