//! xtext: values in ESMTP parameters (RFC 3461 section 4).

use std::fmt::Write as _;

/// The text as xtext: `+`, `=` and whatever is not printable ASCII as `+HH`.
#[must_use]
pub fn xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'+' | b'=' => hex(&mut out, octet),
            b'!'..=b'~' => out.push(char::from(octet)),
            _ => hex(&mut out, octet),
        }
    }
    out
}

/// What xtext stands for; `None` where it is none, or not UTF-8.
#[must_use]
pub fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        match octet {
            b'+' => {
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                octets.push(high << 4 | low);
            }
            b'=' => return None,
            _ => octets.push(octet),
        }
    }
    String::from_utf8(octets).ok()
}

/// What `utf-8-addr-xtext` and `utf-8-addr-unitext` stand for (RFC 6533 section 3): characters as they are,
/// or as `\x{HEX}`.
#[must_use]
pub fn utf8_address(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        decoded.push_str(plain);
        let (digits, behind) = escaped.strip_prefix("x{")?.split_once('}')?;
        decoded.push(u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?);
        rest = behind;
    }
    decoded.push_str(rest);
    Some(decoded)
}

/// Upper case only, as RFC 3461 has it, and lower case, as some write it.
fn digit(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn hex(out: &mut String, octet: u8) {
    // Writing to a string cannot fail.
    write!(out, "+{octet:02X}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_parameter_cannot_hold_is_escaped() {
        assert_eq!(xtext("a+b=c d\u{e9}"), "a+2Bb+3Dc+20d+C3+A9");
    }

    #[test]
    fn what_is_no_xtext_is_not_decoded() {
        for text in ["+", "+2", "+2G", "a=b", "+FF"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }

    #[test]
    fn an_internationalized_address_is_decoded() {
        assert_eq!(utf8_address("j\\x{F6}\\x{2B}x@b\u{e9}.test").as_deref(), Some("j\u{f6}+x@b\u{e9}.test"));
        for text in ["\\", "\\x{", "\\x{}", "\\x{D800}", "\\x{110000}", "\\y{41}"] {
            assert_eq!(utf8_address(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_decoded_to_what_it_was(text in ".{0,40}") {
            prop_assert_eq!(decoded(&xtext(&text)), Some(text));
        }
    }
}
