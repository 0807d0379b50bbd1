//! Addresses in header fields (RFC 5322 section 3.4).

use std::ops::Range;

use super::Generic;
use crate::mime::name_of;
use crate::smtp::client::quoted;

/// Where a rewritten field is folded.
const WIDTH: usize = 70;

/// Fields that hold addresses of senders and recipients.
const FIELDS: &[&str] = &[
    "apparently-to",
    "bcc",
    "cc",
    "disposition-notification-to",
    "errors-to",
    "from",
    "mail-followup-to",
    "reply-to",
    "resent-bcc",
    "resent-cc",
    "resent-from",
    "resent-reply-to",
    "resent-sender",
    "resent-to",
    "return-receipt-to",
    "sender",
    "to",
];

/// The field of the message itself in which addresses are mapped; `None`: it stays as it is. Folded
/// lines are divided by LF.
#[must_use]
pub fn map_field(generic: &Generic, field: &[u8]) -> Option<Vec<u8>> {
    if generic.maps.is_empty() {
        return None;
    }
    let name = name_of(field);
    if !FIELDS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name)) {
        return None;
    }
    let value = field.get(memchr::memchr(b':', field)?.checked_add(1)?..)?;
    let mut mapped = false;
    let mut members = Vec::new();
    for Member { text, address } in members_of(value) {
        let whole = value.get(text.clone()).unwrap_or_default();
        let new = address.as_ref().and_then(|address| {
            let written = std::str::from_utf8(value.get(address.clone())?).ok()?;
            generic.map(&unquoted(written))
        });
        match (new, address) {
            (Some(new), Some(address)) => {
                mapped = true;
                let mut member = value.get(text.start..address.start).unwrap_or_default().to_vec();
                member.extend_from_slice(quoted(&new, true).as_bytes());
                member.extend_from_slice(value.get(address.end..text.end).unwrap_or_default());
                members.push(unfolded(&member));
            }
            _ => members.push(unfolded(whole)),
        }
    }
    mapped.then(|| folded(name, &members))
}

/// The first address of a field's value, its local part as it is meant.
#[must_use]
pub fn first_address(value: &[u8]) -> Option<String> {
    let address = members_of(value).into_iter().find_map(|member| member.address)?;
    std::str::from_utf8(value.get(address)?).ok().map(unquoted)
}

/// A member of a list with what divides it from the next, and the place of its address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    text: Range<usize>,
    address: Option<Range<usize>>,
}

/// The members of a list of addresses. What cannot be read has no address, and stays.
fn members_of(value: &[u8]) -> Vec<Member> {
    let mut members = Vec::new();
    let mut start = 0usize;
    // The angle brackets, and the first and last octet outside of comments.
    let (mut angle, mut open, mut bare): (Option<Range<usize>>, Option<usize>, Option<Range<usize>>) =
        (None, None, None);
    let (mut quote, mut comment) = (false, 0usize);
    let mut octets = value.iter().enumerate();
    while let Some((at, octet)) = octets.next() {
        let next = at.saturating_add(1);
        if *octet == b'\\' && (quote || comment > 0) {
            octets.next();
            continue;
        }
        match octet {
            b'"' if comment == 0 => quote = !quote,
            _ if quote => {}
            b'(' => comment = comment.saturating_add(1),
            b')' if comment > 0 => {
                comment = comment.saturating_sub(1);
                continue;
            }
            _ if comment > 0 => {}
            b'<' if open.is_none() => open = Some(next),
            b'>' => angle = open.take().map(|open| open..at).or(angle),
            // A colon in angle brackets ends a route; elsewhere it ends the name of a group.
            b':' if open.is_some() => open = Some(next),
            b':' => bare = None,
            b',' | b';' if open.is_none() => {
                members.push(Member { text: start..next, address: angle.take().or(bare.take()) });
                (start, bare) = (next, None);
                continue;
            }
            _ => {}
        }
        if comment == 0 && !octet.is_ascii_whitespace() && *octet != b':' {
            bare = Some(bare.map_or(at, |bare| bare.start)..next);
        }
    }
    if start < value.len() {
        members.push(Member { text: start..value.len(), address: angle.or(bare) });
    }
    for member in &mut members {
        let written = member.address.as_ref().and_then(|address| value.get(address.clone()));
        // Without an at sign, or with blanks, it is a name or the end of a group.
        let is_address = written.is_some_and(|text| text.contains(&b'@') && !has_blank(text));
        if !is_address {
            member.address = None;
        }
    }
    members
}

/// Whether there are blanks or comments outside of quotes.
fn has_blank(text: &[u8]) -> bool {
    let (mut quote, mut escaped) = (false, false);
    text.iter().any(|octet| {
        quote ^= *octet == b'"' && !escaped;
        escaped = *octet == b'\\' && !escaped;
        !quote && (octet.is_ascii_whitespace() || *octet == b'(')
    })
}

/// The address with its local part as it is meant.
fn unquoted(address: &str) -> String {
    let Some((local, domain)) = address.rsplit_once('@') else { return address.to_owned() };
    let Some(inside) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return address.to_owned();
    };
    let mut out = String::with_capacity(address.len());
    let mut characters = inside.chars();
    while let Some(c) = characters.next() {
        out.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    out.push('@');
    out.push_str(domain);
    out
}

/// In one line, without blanks at the ends.
fn unfolded(text: &[u8]) -> Vec<u8> {
    text.trim_ascii().iter().copied().filter(|octet| !matches!(octet, b'\n' | b'\r')).collect()
}

fn folded(name: &[u8], members: &[Vec<u8>]) -> Vec<u8> {
    let mut out = name.to_vec();
    out.push(b':');
    let mut width = out.len();
    for (number, member) in members.iter().enumerate() {
        if number > 0 && width.saturating_add(member.len()) >= WIDTH {
            out.push(b'\n');
            width = 0;
        }
        out.push(b' ');
        out.extend_from_slice(member);
        width = width.saturating_add(member.len()).saturating_add(1);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::generic::tests::generic;

    fn mapped(field: &str) -> Option<String> {
        let generic = generic("@local.test=@out.test, two words@local.test=w@out.test", &[]);
        map_field(&generic, field.as_bytes()).map(|field| String::from_utf8(field).unwrap())
    }

    // Specification section 10: primary sender and recipient headers.
    #[test]
    fn addresses_are_mapped_and_all_else_stays() {
        for (field, expected) in [
            ("To: a@local.test", Some("To: a@out.test")),
            ("from: \"A, b\" <a@local.test> (c, d)", Some("from: \"A, b\" <a@out.test> (c, d)")),
            (
                "Cc: x@b.test,\n A <a@local.test>, (c) c@local.test",
                Some("Cc: x@b.test, A <a@out.test>, (c) c@out.test"),
            ),
            ("To: all: a@local.test, b@b.test;", Some("To: all: a@out.test, b@b.test;")),
            ("To: <@r.test:a@local.test>", Some("To: <@r.test:a@out.test>")),
            ("To: \"two words\"@local.test", Some("To: w@out.test")),
            ("To: \"a\\\"b c\"@local.test", Some("To: \"a\\\"b c\"@out.test")),
            ("To: a@b.test", None),
            ("To: undisclosed-recipients:;", None),
            ("To: a b@local.test", None),
            ("Subject: a@local.test", None),
            ("To: \"a@local.test\"", None),
            ("To: (a@local.test)", None),
            ("To:", None),
        ] {
            assert_eq!(mapped(field).as_deref(), expected, "{field}");
        }
    }

    // Specification section 10: refolded to about 70 columns.
    #[test]
    fn long_lists_are_folded() {
        let list = ["somebody.somewhere@local.test"; 4].join(", ");
        let found = mapped(&format!("To: {list}")).unwrap();
        let lines: Vec<_> = found.split('\n').collect();
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= 72), "{found}");
        assert!(lines[1..].iter().all(|line| line.starts_with(' ')));
    }

    proptest! {
        /// Whatever stands in a field, it stays one field.
        #[test]
        fn a_field_stays_a_field(value in "[a-c@.,;:<>()\"\\\\ \n]{0,60}(a@local.test)?[,>) ]{0,3}") {
            let value = value.replace('\n', "\n ");
            if let Some(found) = mapped(&format!("To: {value}")) {
                prop_assert!(found.starts_with("To: "));
                prop_assert!(found.split('\n').skip(1).all(|line| line.starts_with(' ')));
                prop_assert!(found.contains("@out.test") || found.contains("w@out.test"));
            }
        }
    }
}
