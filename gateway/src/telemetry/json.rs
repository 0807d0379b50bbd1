//! The JSON form of a record: one object a line.
//!
//! Owns the escaping. Like the `key=value` form it holds nothing but printable ASCII: letters
//! outside it are written `\uNNNN` (RFC 8259 section 7), which every reader of JSON undoes.

use std::fmt::Write as _;

use super::logfmt::VALUE_LENGTH;

/// Appends `"key":"value"` to the members in `out`.
pub fn push_text(out: &mut String, key: &str, value: &str) {
    push_key(out, key);
    let end = value.floor_char_boundary(VALUE_LENGTH);
    push_string(out, value.get(..end).unwrap_or_default());
}

/// Appends `"key":value` for a number or a truth value.
pub fn push_bare(out: &mut String, key: &str, value: impl std::fmt::Display) {
    push_key(out, key);
    write!(out, "{value}").unwrap_or_default();
}

fn push_key(out: &mut String, key: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    push_string(out, key);
    out.push(':');
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(letter),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap_or_default();
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_member_is_printable_and_reads_back(value in any::<String>()) {
            let mut out = String::new();
            push_text(&mut out, "k", &value);
            push_bare(&mut out, "n", 7);
            prop_assert!(out.bytes().all(|byte| matches!(byte, 0x20..=0x7e)));
            let read: serde_json::Value = serde_json::from_str(&format!("{{{out}}}")).unwrap();
            prop_assert_eq!(read["k"].as_str(), Some(value.as_str()));
            prop_assert_eq!(read["n"].as_u64(), Some(7));
        }
    }
}
