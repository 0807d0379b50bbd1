//! What a domain says to those whose mail is refused in its name.

use mail_auth::common::parse::TxtRecordParser as _;
use mail_auth::spf::Macro;

/// Longest explanation that is shown: with the gateway's own words and a long domain it still fits
/// into a reply line (RFC 5321 section 4.5.3.1.5).
const LONGEST: usize = 160;

/// Reads an explanation, which may hold macros; none where its syntax is in error.
pub(super) fn read(text: &[u8]) -> Option<Macro> {
    Macro::parse(text).ok()
}

/// What of an explanation is shown. Its words are a stranger's, and by its macros the client's too:
/// without anything but printable ASCII it changes no reply, log or terminal.
pub(super) fn shown(text: &str) -> Option<String> {
    let printable = text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic());
    let text = text.trim();
    let shown = text.get(..text.len().min(LONGEST)).filter(|shown| printable && !shown.is_empty())?;
    Some(shown.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_is_shown_and_not_too_much_of_it() {
        assert_eq!(shown(" See http://a.example/why "), Some("See http://a.example/why".to_owned()));
        for text in ["", "  ", "two\r\nlines", "\x1b[31mred", "caf\u{e9}", "a\0b", "a\x7fb", "\u{202e}gpj"] {
            assert_eq!(shown(text), None, "{text:?}");
        }
        assert_eq!(shown(&"x".repeat(1000)), Some("x".repeat(LONGEST)));
    }

    #[test]
    fn broken_macros_are_no_explanation() {
        assert!(read(b"%{i} may not send mail of %{d}").is_some());
        for text in ["%{", "%{q}", "100% sure"] {
            assert!(read(text.as_bytes()).is_none(), "{text}");
        }
    }
}
