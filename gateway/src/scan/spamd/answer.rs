//! What spamd's reply to SYMBOLS means (SpamAssassin's `spamd/PROTOCOL`). Pure.
//!
//! Strict where it counts and tolerant elsewhere: spamd names another version of the protocol in
//! each kind of reply. What is not understood is never taken for ham.

use crate::config::decimal::Decimal;
use crate::scan::text::{printable, symbols};

/// Longest part of an unknown reply that is shown to the operator.
const EXCERPT_LENGTH: usize = 200;

/// What spamd thinks of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// By its own threshold.
    pub(super) is_spam: bool,
    pub(super) score: Decimal,
    pub(super) threshold: Decimal,
    pub(super) symbols: Vec<String>,
}

/// Reads a whole reply; else an excerpt of it, or nothing when it is not complete.
pub(super) fn parse(reply: &[u8]) -> Result<Answer, Option<String>> {
    let unknown = || {
        Some(printable(
            reply.split(|octet| *octet == b'\n').next().unwrap_or_default().trim_ascii_end(),
            EXCERPT_LENGTH,
        ))
    };
    if reply.is_empty() {
        return Err(None);
    }
    let (first, mut rest) = line(reply).ok_or_else(unknown)?;
    if !is_ok(first) {
        return Err(unknown());
    }
    let (mut spam, mut length) = (None, None);
    loop {
        let (field, after) = line(rest).ok_or(None)?;
        rest = after;
        if field.is_empty() {
            break;
        }
        let excerpt = || Some(printable(field, EXCERPT_LENGTH));
        let colon = memchr::memchr(b':', field).ok_or_else(excerpt)?;
        let (name, value) = field.split_at(colon);
        let value = text(value.get(1..).unwrap_or_default()).ok_or_else(excerpt)?;
        if name.eq_ignore_ascii_case(b"spam") {
            let rating = rating(value).filter(|_| spam.is_none()).ok_or_else(excerpt)?;
            spam = Some(rating);
        } else if name.eq_ignore_ascii_case(b"content-length") {
            length = Some(value.parse::<usize>().ok().filter(|_| length.is_none()).ok_or_else(excerpt)?);
        }
    }
    // Without its length, nothing says that the list is whole; it decides nothing.
    if length.is_some_and(|length| length != rest.len()) {
        return Err(None);
    }
    let (is_spam, score, threshold) = spam.ok_or_else(unknown)?;
    let names = rest.split(|octet| matches!(octet, b',' | b' ' | b'\t' | b'\r' | b'\n'));
    Ok(Answer { is_spam, score, threshold, symbols: symbols(names) })
}

/// Reads the reply to PING: the name of the protocol.
pub(super) fn pong(reply: &[u8]) -> Option<&[u8]> {
    let (first, _) = line(reply)?;
    (is_ok(first) && first.ends_with(b" PONG"))
        .then(|| first.split(|octet| *octet == b' ').next().unwrap_or_default())
}

/// Whether a first line tells of success: `SPAMD/1.1 0 EX_OK`.
fn is_ok(first: &[u8]) -> bool {
    let mut words = first.split(|octet| *octet == b' ');
    words.next().is_some_and(|protocol| protocol.starts_with(b"SPAMD/")) && words.next() == Some(b"0")
}

/// The first line without its end, and what follows.
fn line(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', octets)?;
    let (line, rest) = octets.split_at(end);
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default()))
}

fn text(octets: &[u8]) -> Option<&str> {
    std::str::from_utf8(octets).ok().map(str::trim)
}

/// Reads `True ; 1000.0 / 5.0`.
fn rating(value: &str) -> Option<(bool, Decimal, Decimal)> {
    let (flag, numbers) = value.split_once(';')?;
    let is_spam = match flag.trim() {
        "True" | "Yes" => true,
        "False" | "No" => false,
        _ => return None,
    };
    let (score, threshold) = numbers.split_once('/')?;
    let number = |text: &str| text.trim().parse().ok().and_then(Decimal::nearest);
    Some((is_spam, number(score)?, number(threshold)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(is_spam: bool, score: &str, symbols: &[&str]) -> Answer {
        let (score, threshold) = (score.parse().unwrap(), Decimal::whole(5));
        Answer { is_spam, score, threshold, symbols: symbols.iter().map(|&name| name.to_owned()).collect() }
    }

    #[test]
    fn replies_of_a_real_spamd_are_understood() {
        let spam = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 18\r\nSpam: True ; 1000.0 / 5.0\r\n\r\nGTUBE,NO_RELAYS\r\n\r";
        let spam = [&spam[..spam.len() - 1], b"\n"].concat();
        let length = b"GTUBE,NO_RELAYS\r\n\n".len();
        assert_eq!(length, 18);
        assert_eq!(parse(&spam), Ok(answer(true, "1000", &["GTUBE", "NO_RELAYS"])));
        let ham = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; -1.9 / 5.0\r\n\r\n";
        assert_eq!(parse(ham), Ok(answer(false, "-1.9", &[])));
        assert_eq!(pong(b"SPAMD/1.5 0 PONG\r\n"), Some(&b"SPAMD/1.5"[..]));
        assert_eq!(pong(b"SPAMD/1.5 76 PONG\r\n"), None);
    }

    #[test]
    fn bare_line_ends_other_versions_and_unknown_fields_are_tolerated() {
        let reply = b"SPAMD/2.9 0 EX_OK\nX-New: yes\nspam: No ; 0.1 / 5\n\nA B";
        assert_eq!(parse(reply), Ok(answer(false, "0.1", &["A", "B"])));
    }

    #[test]
    fn what_is_not_understood_is_never_ham() {
        let ok = "SPAMD/1.1 0 EX_OK\r\n";
        for reply in [
            "SPAMD/1.1 76 Bad header line: (EX_PROTOCOL)\r\n\r\n",
            "HTTP/1.1 0 EX_OK\r\nSpam: False ; 0 / 5\r\n\r\n",
            "SPAMD/1.1 00 EX_OK\r\nSpam: False ; 0 / 5\r\n\r\n",
            &format!("{ok}\r\n"),
            &format!("{ok}Content-length: 0\r\n\r\n"),
            &format!("{ok}Spam: Maybe ; 0 / 5\r\n\r\n"),
            &format!("{ok}Spam: False ; nan / 5\r\n\r\n"),
            &format!("{ok}Spam: False ; 0 / inf\r\n\r\n"),
            &format!("{ok}Spam: False ; 0\r\n\r\n"),
            &format!("{ok}Spam: False\r\n\r\n"),
            &format!("{ok}Spam: True ; 9 / 5\r\nSpam: False ; 0 / 5\r\n\r\n"),
            &format!("{ok}Spam False ; 0 / 5\r\n\r\n"),
            &format!("{ok}Spam: False ; 0 / 5\r\nContent-length: x\r\n\r\n"),
        ] {
            assert!(matches!(parse(reply.as_bytes()), Err(Some(_))), "{reply}");
        }
    }

    #[test]
    fn a_reply_cut_short_is_no_answer() {
        let whole = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 7\r\nSpam: False ; 0.0 / 5.0\r\n\r\nA,B,C\r\n";
        assert!(parse(whole).is_ok());
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_give_an_answer_only_with_a_rating(reply in reply()) {
            if let Ok(answer) = parse(&reply) {
                let lower = reply.to_ascii_lowercase();
                prop_assert!(lower.starts_with(b"spamd/"));
                prop_assert!(lower.windows(5).any(|window| window == b"spam:"));
                for symbol in answer.symbols {
                    prop_assert!(symbol.bytes().all(|octet| octet.is_ascii_graphic()));
                }
            }
        }
    }

    /// Octets that often look like a reply.
    fn reply() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"SPAMD/1.1 0 EX_OK\r\n".to_vec()),
            Just(b"Spam: True ; 15.0 / 5.0\r\n".to_vec()),
            Just(b"Spam: False ; 1 / 5\n".to_vec()),
            Just(b"Content-length: 3\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"A,\x1b".to_vec()),
            prop::collection::vec(any::<u8>(), 0..12),
        ];
        prop::collection::vec(part, 0..7).prop_map(|parts| parts.concat())
    }
}
