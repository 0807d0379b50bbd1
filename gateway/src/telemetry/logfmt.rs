//! The `key=value` form of a record.
//!
//! Owns quoting and escaping, which are exact: a line has one reading, and holds nothing but
//! printable ASCII, whatever a stranger put into a value.

use std::fmt::Write as _;

/// Octets of one value that are written; the rest is cut with `...`.
pub const VALUE_LENGTH: usize = 2_048;

/// Appends ` key="value"` to `out`, without quotes where the value needs none.
pub fn push_text(out: &mut String, key: &str, value: &str) {
    separate(out);
    out.push_str(key);
    out.push('=');
    let plain = !value.is_empty() && value.len() <= VALUE_LENGTH && value.bytes().all(is_plain);
    if plain {
        out.push_str(value);
        return;
    }
    out.push('"');
    let end = value.floor_char_boundary(VALUE_LENGTH);
    for byte in value.bytes().take(end) {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            other => push_byte(out, other),
        }
    }
    if end < value.len() {
        out.push_str("...");
    }
    out.push('"');
}

/// Appends ` key=value` to `out` for a value that is a number or a truth value.
pub fn push_bare(out: &mut String, key: &str, value: impl std::fmt::Display) {
    separate(out);
    // Writing to a `String` cannot fail.
    write!(out, "{key}={value}").unwrap_or_default();
}

/// A text from the network as a terminal or a log may have it: every octet outside 0x20 to 0x7e
/// as `\xNN`, a backslash as `\\`.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'\\' => out.push_str("\\\\"),
            other => push_byte(&mut out, other),
        }
    }
    out
}

fn push_byte(out: &mut String, byte: u8) {
    if matches!(byte, 0x20..=0x7e) {
        out.push(char::from(byte));
    } else {
        write!(out, "\\x{byte:02x}").unwrap_or_default();
    }
}

fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push(' ');
    }
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && !matches!(byte, b'"' | b'\\' | b'=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(value: &str) -> String {
        let mut out = String::new();
        push_text(&mut out, "k", value);
        out
    }

    #[test]
    fn terminal_sequences_come_out_as_hex() {
        assert_eq!(pair("x\x1b[2J\x1b]0;own\x07"), r#"k="x\x1b[2J\x1b]0;own\x07""#);
        assert_eq!(pair("\u{9b}31m"), r#"k="\xc2\x9b31m""#);
        assert_eq!(escape("a\\b\r\n"), r"a\\b\x0d\x0a");
    }

    #[test]
    fn a_value_that_looks_like_a_format_is_written_verbatim() {
        assert_eq!(pair("a%n%s{}@b.test"), "k=a%n%s{}@b.test");
    }

    #[test]
    fn a_value_cannot_pretend_to_be_another_pair() {
        assert_eq!(pair("x action=passed"), r#"k="x action=passed""#);
        assert_eq!(pair("x\" action=\"passed"), r#"k="x\" action=\"passed""#);
        assert_eq!(pair(""), r#"k="""#);
    }

    #[test]
    fn a_long_value_is_cut() {
        let out = pair(&"\0".repeat(100_000));
        assert_eq!(out.len(), "k=\"...\"".len() + 4 * VALUE_LENGTH);
    }

    proptest! {
        #[test]
        fn a_pair_is_printable_and_reads_back(value in any::<String>()) {
            let out = pair(&value);
            prop_assert!(out.bytes().all(|byte| matches!(byte, 0x20..=0x7e)));
            prop_assert_eq!(read_back(&out), value.into_bytes());
        }
    }

    /// What a strict reader makes of `k=value`.
    fn read_back(pair: &str) -> Vec<u8> {
        let value = pair.strip_prefix("k=").unwrap();
        let Some(quoted) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return value.as_bytes().to_vec();
        };
        let mut bytes = quoted.bytes();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            assert_ne!(byte, b'"', "a quote inside quotes");
            if byte != b'\\' {
                out.push(byte);
                continue;
            }
            match bytes.next().unwrap() {
                b'x' => {
                    let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                    out.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                }
                other => out.push(other),
            }
        }
        out
    }
}
