//! Numbers in Crockford's base 32: 13 characters of `[0-9A-Z]` without those that look alike.

use std::fmt;

/// Characters of a number.
pub(crate) const LENGTH: usize = 13;

/// No letter that looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Writes `number`.
pub(crate) fn write(number: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut letters = [b'0'; LENGTH];
    for (place, letter) in letters.iter_mut().rev().enumerate() {
        let digit = usize::try_from(number >> (place * 5) & 31).unwrap_or(0);
        *letter = ALPHABET.get(digit).copied().unwrap_or(b'0');
    }
    f.write_str(std::str::from_utf8(&letters).map_err(|_| fmt::Error)?)
}

/// Reads what [`write()`] wrote, in either case.
pub(crate) fn read(text: &str) -> Option<u64> {
    if text.len() != LENGTH {
        return None;
    }
    text.bytes().try_fold(0u64, |value, byte| {
        let digit = ALPHABET.iter().position(|letter| *letter == byte.to_ascii_uppercase())?;
        Some(value << 5 | u64::try_from(digit).ok()?)
    })
}
