//! Addresses as they go into MAIL and RCPT (RFC 5321 section 4.1.2).

use std::borrow::Cow;
use std::fmt::Write as _;

/// The address with its local part as a quoted string where it is no dot-string.
///
/// Octets above 127 count as plain where `smtputf8` is in force (RFC 6531 section 3.3).
#[must_use]
pub fn quoted(address: &str, smtputf8: bool) -> Cow<'_, str> {
    let (local, domain) = match address.rsplit_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (address, None),
    };
    if address.is_empty() || is_dot_string(local, smtputf8) {
        return Cow::Borrowed(address);
    }
    let mut quoted = String::with_capacity(address.len().saturating_add(8));
    quoted.push('"');
    for character in local.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    if let Some(domain) = domain {
        quoted.push('@');
        quoted.push_str(domain);
    }
    Cow::Owned(quoted)
}

fn is_dot_string(local: &str, smtputf8: bool) -> bool {
    local
        .split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(|character| is_plain(character, smtputf8)))
}

fn is_plain(character: char, smtputf8: bool) -> bool {
    match character {
        '<' | '>' | '(' | ')' | '[' | ']' | '\\' | ',' | ';' | ':' | '@' | '"' => false,
        '!'..='~' => true,
        _ => smtputf8 && !character.is_ascii() && !character.is_control(),
    }
}

/// Whether an address can go into a command line at all: no line end, no NUL, no other control.
#[must_use]
pub(super) fn is_sendable(address: &str) -> bool {
    !address.chars().any(char::is_control)
}

/// The text as `utf-8-addr-unitext` (RFC 6533 section 3): UTF-8 stays, what xtext escapes becomes `\x{H}`.
#[must_use]
pub fn unitext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '+' | '=' | '\\' => unicode(&mut out, character),
            '!'..='~' => out.push(character),
            _ if !character.is_ascii() && !character.is_control() => out.push(character),
            _ => unicode(&mut out, character),
        }
    }
    out
}

/// Appends a character as `\x{H}`.
pub(super) fn unicode(out: &mut String, character: char) {
    write!(out, "\\x{{{:X}}}", u32::from(character)).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::smtp::address::Path;

    #[test]
    fn local_parts_that_are_no_dot_strings_are_quoted() {
        for (address, expected) in [
            ("", ""),
            ("joe@a.test", "joe@a.test"),
            ("joe", "joe"),
            ("j.o+e@a.test", "j.o+e@a.test"),
            ("john..doe@a.test", "\"john..doe\"@a.test"),
            ("trail.@a.test", "\"trail.\"@a.test"),
            (".lead@a.test", "\".lead\"@a.test"),
            ("two words@a.test", "\"two words\"@a.test"),
            ("a@b@c.test", "\"a@b\"@c.test"),
            ("quo\"te\\@a.test", "\"quo\\\"te\\\\\"@a.test"),
            ("@a.test", "\"\"@a.test"),
            ("jö@a.test", "\"jö\"@a.test"),
        ] {
            assert_eq!(quoted(address, false), expected, "{address}");
        }
        assert_eq!(quoted("jö@a.test", true), "jö@a.test");
    }

    #[test]
    fn unitext_escapes_what_a_parameter_cannot_hold() {
        assert_eq!(unitext("j\u{f6}+ x"), "j\u{f6}\\x{2B}\\x{20}x");
    }

    proptest! {
        #[test]
        fn a_quoted_address_is_a_path(local in "[ -~]{1,20}") {
            let line = format!("<{}>", quoted(&format!("{local}@a.test"), false));
            let (path, rest) = Path::parse(line.as_bytes()).unwrap();
            prop_assert!(path.as_str().ends_with("@a.test"));
            prop_assert!(rest.is_empty());
        }
    }
}
