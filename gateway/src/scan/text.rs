//! Texts of scanners, made fit to be shown.

/// `bytes` with everything but printable ASCII replaced, cut to `length`; never empty.
pub(super) fn printable(bytes: &[u8], length: usize) -> String {
    if bytes.is_empty() {
        return "(nothing)".to_owned();
    }
    bytes
        .iter()
        .take(length)
        .map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' })
        .collect()
}

/// Names of rules that a rating holds.
const SYMBOLS: usize = 24;

/// Longest name of a rule.
const SYMBOL_LENGTH: usize = 64;

/// The first of these names of rules, in printable ASCII without separators.
pub(super) fn symbols<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let clean = |name: &[u8]| printable(name, SYMBOL_LENGTH).replace([',', ' ', ';'], "_");
    names.filter(|name| !name.is_empty()).take(SYMBOLS).map(clean).collect()
}

/// `text` as one word of a header field: visible ASCII, where all else and `unwanted` become `?`.
pub(super) fn word(text: &str, length: usize, unwanted: &[u8]) -> String {
    let fit = |octet: &u8| octet.is_ascii_graphic() && !unwanted.contains(octet);
    let octets = text.as_bytes().iter().take(length);
    octets.map(|octet| if fit(octet) { char::from(*octet) } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_cannot_leave_its_place_in_a_header_field() {
        assert_eq!(word("mx.example.org", 255, b"()"), "mx.example.org");
        assert_eq!(word("a\r\nX-Spam: no", 255, b""), "a??X-Spam:?no");
        assert_eq!(word("a)b\u{fc}", 255, b"()"), "a?b??");
        assert_eq!(word("aaaa", 2, b""), "aa");
    }

    #[test]
    fn symbols_are_few_short_and_without_separators() {
        let long = [b'x'; 500];
        let names = [&b"GTUBE"[..], b"", b"A,B C;D", b"\x1b[2J", &long];
        let named = symbols(names.into_iter().chain([&b"Y"[..]; 100]));
        assert_eq!(named[..3], ["GTUBE", "A_B_C_D", "?[2J"]);
        assert_eq!(named[3].len(), SYMBOL_LENGTH);
        assert_eq!(named.len(), SYMBOLS);
    }
}
