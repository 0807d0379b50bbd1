//! A domain's record: which text it is, and whether its syntax holds.

use std::net::{Ipv4Addr, Ipv6Addr};

use mail_auth::common::parse::TxtRecordParser as _;
use mail_auth::spf::Spf;

/// Whether a text is a record of version 1 (RFC 7208 section 4.5).
pub(super) fn is_record(text: &[u8]) -> bool {
    text.get(..6).is_some_and(|version| version.eq_ignore_ascii_case(b"v=spf1"))
        && text.get(6).is_none_or(|next| *next == b' ')
}

/// Reads a record; none where its syntax is in error. One error spoils all of it (RFC 7208 section
/// 4.6), since what stands behind a term that was meant differently would refuse mail that it was
/// never to refuse: `mail-auth` skips mechanisms that it does not know, and takes any number for a
/// prefix length. Modifiers that this standard does not know it is not given: they mean nothing.
pub(super) fn read(text: &[u8]) -> Option<Spf> {
    let terms = std::str::from_utf8(text).ok()?.get(6..)?;
    let mut record = "v=spf1".to_owned();
    for term in terms.split(' ').filter(|term| !term.is_empty()) {
        match meaning(term)? {
            Meaning::Known => {
                record.push(' ');
                record.push_str(term);
            }
            Meaning::Unknown => {}
        }
    }
    Spf::parse(record.as_bytes()).ok()
}

/// What a term of good syntax is.
enum Meaning {
    /// A directive, or a modifier of RFC 7208 section 6.
    Known,
    /// Another modifier.
    Unknown,
}

/// RFC 7208 section 12: a modifier, or a directive whose mechanism exists and whose address and
/// prefix length are ones; none for any other term.
fn meaning(term: &str) -> Option<Meaning> {
    let bare = term.strip_prefix(['+', '-', '~', '?']).unwrap_or(term);
    let (name, rest) = bare.split_at(bare.find([':', '/', '=']).unwrap_or(bare.len()));
    let name = name.to_ascii_lowercase();
    if rest.starts_with('=') {
        let known = matches!(name.as_str(), "redirect" | "exp");
        let good = bare.len() == term.len() && is_modifier(&name);
        return good.then_some(if known { Meaning::Known } else { Meaning::Unknown });
    }
    is_directive(&name, rest).then_some(Meaning::Known)
}

fn is_directive(name: &str, rest: &str) -> bool {
    let value = rest.strip_prefix(':');
    match name {
        "all" => rest.is_empty(),
        "include" | "exists" => value.is_some(),
        "ptr" => rest.is_empty() || value.is_some(),
        "a" | "mx" => is_host(rest),
        "ip4" => value.is_some_and(|value| is_network::<Ipv4Addr>(value, 32)),
        "ip6" => value.is_some_and(|value| is_network::<Ipv6Addr>(value, 128)),
        _ => false,
    }
}

fn is_modifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet))
}

/// `[":" domain-spec] ["/" ip4-length] ["//" ip6-length]`; slashes within the macros of a domain
/// belong to it.
fn is_host(rest: &str) -> bool {
    let lengths = rest.rfind('}').map_or(0, |end| end.saturating_add(1));
    let (domain, lengths) = rest.split_at(lengths);
    let (name, lengths) = lengths.split_at(lengths.find('/').unwrap_or(lengths.len()));
    let is_named = domain.starts_with(':') || domain.is_empty() && (name.is_empty() || name.starts_with(':'));
    let (v4, v6) = match lengths.split_once("//") {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (lengths, None),
    };
    let is_v4 = v4.is_empty() || v4.strip_prefix('/').is_some_and(|length| is_length(length, 32));
    is_named && is_v4 && v6.is_none_or(|length| is_length(length, 128))
}

fn is_network<A: std::str::FromStr>(value: &str, longest: u8) -> bool {
    let (address, length) = match value.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (value, None),
    };
    address.parse::<A>().is_ok() && length.is_none_or(|length| is_length(length, longest))
}

fn is_length(text: &str, longest: u8) -> bool {
    text.bytes().all(|octet| octet.is_ascii_digit())
        && text.parse::<u8>().is_ok_and(|length| length <= longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_begins_with_its_version_and_nothing_else() {
        for text in ["v=spf1", "V=SPF1 -all", "v=spf1  a"] {
            assert!(is_record(text.as_bytes()), "{text}");
        }
        for text in ["v=spf10 -all", "v=spf2.0/pra -all", " v=spf1", "", "v=spf1\ta"] {
            assert!(!is_record(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn records_of_the_standard_are_read() {
        for text in [
            "v=spf1",
            "v=spf1 +mx a:colo.example.com/28 -all",
            "v=spf1 a/24//64 mx//48 ptr ptr:example.org ?all",
            "v=spf1 ip4:192.0.2.0/24 ip4:192.0.2.7 ip6:2001:db8::/32 ip6:::ffff:192.0.2.1 ~all",
            "v=spf1 include:_spf.%{d} exists:%{ir}.%{l1r+-/}._spf.%{d} -ALL",
            "v=spf1 a:%{d1r/}.example.org/24 -all",
            "v=spf1 redirect=%{d}.d.spf.example.com exp=explain._spf.%{d} unknown=%{s}",
            "v=spf1 moo.cow-far_out=man:dog/cat -all",
        ] {
            assert!(read(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn one_error_spoils_the_record() {
        for term in [
            "ip:192.0.2.1",
            "ipv4:192.0.2.1",
            "192.0.2.1",
            "ip4:192.0.2",
            "ip4:192.0.2.256",
            "ip4:192.0.2.0/33",
            "ip4:192.0.2.0/",
            "ip6:2001:db8::/129",
            "ip6:2001:db8:::1",
            "ip4:2001:db8::1",
            "a/33",
            "a//129",
            "a:/24",
            "mx:",
            "all:example.org",
            "all.",
            "include",
            "include:",
            "exists:",
            "-redirect=example.org",
            "redirect:example.org",
            "1x=y",
            "=y",
            "+-all",
            "exists:%(ir).example.org",
            "exists:%{ir.example.org",
            "redirect=a.example redirect=b.example",
        ] {
            assert!(read(format!("v=spf1 {term} -all").as_bytes()).is_none(), "{term}");
        }
        assert!(read(b"v=spf1 a:\xe9.example -all").is_none());
    }
}
