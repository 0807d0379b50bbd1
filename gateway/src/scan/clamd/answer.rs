//! What clamd's reply to INSTREAM means (clamd(8), section COMMANDS). Pure.
//!
//! Never takes anything for an infection or for a clean message that does not say exactly so: an
//! error, an empty or a garbled reply is a failure of the scanner.

use crate::scan::text::printable;

/// Longest signature name that is passed on: it becomes part of an SMTP reply line, which may have
/// 512 octets (RFC 5321 section 4.5.3.1.5).
const NAME_LENGTH: usize = 128;

/// Longest part of an unknown reply that is shown to the operator.
const EXCERPT_LENGTH: usize = 200;

/// What clamd said of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// `stream: OK`.
    Clean,
    /// `stream: NAME FOUND`; the name in printable ASCII.
    Found(String),
    /// The stream is longer than clamd's `StreamMaxLength`.
    TooLarge,
    /// Anything else; an excerpt in printable ASCII.
    Failed(String),
}

/// Reads one reply, without the NUL that ends it.
pub(super) fn parse(line: &[u8]) -> Answer {
    if line == b"stream: OK" {
        return Answer::Clean;
    }
    // A line break would make the reply two lines, of which the first may say something else.
    let one_line = !line.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    let name = line.strip_prefix(b"stream: ").and_then(|rest| rest.strip_suffix(b" FOUND"));
    if let (true, Some(name)) = (one_line, name) {
        return Answer::Found(printable(name, NAME_LENGTH));
    }
    if line.starts_with(b"INSTREAM size limit exceeded") {
        return Answer::TooLarge;
    }
    Answer::Failed(printable(line, EXCERPT_LENGTH))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replies_of_a_real_clamd_are_understood() {
        assert_eq!(parse(b"stream: OK"), Answer::Clean);
        assert_eq!(
            parse(b"stream: Eicar-Test-Signature.UNOFFICIAL FOUND"),
            Answer::Found("Eicar-Test-Signature.UNOFFICIAL".to_owned())
        );
        assert_eq!(parse(b"INSTREAM size limit exceeded. ERROR"), Answer::TooLarge);
        assert_eq!(
            parse(b"stream: Can't allocate memory ERROR"),
            Answer::Failed("stream: Can't allocate memory ERROR".to_owned())
        );
        assert_eq!(parse(b"UNKNOWN COMMAND"), Answer::Failed("UNKNOWN COMMAND".to_owned()));
    }

    #[test]
    fn nothing_but_the_exact_words_is_clean_or_infected() {
        for line in [
            &b""[..],
            b"stream: ",
            b"stream: FOUND",
            b"stream:  OK",
            b"stream: OK ",
            b"stream: ok",
            b"OK",
            b"X FOUND",
            b"stream: X FOUND ERROR",
            b"stream: X FOUND\nstream: OK",
            b"stream: OK\nstream: X FOUND",
            b"stream: X ERROR",
        ] {
            assert!(matches!(parse(line), Answer::Failed(_)), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_signature_name_cannot_break_the_reply_it_is_shown_in() {
        let mut line = b"stream: a\x00b\x1b[2J\xff".to_vec();
        line.extend([b'n'; 500]);
        line.extend(b" FOUND");
        let Answer::Found(name) = parse(&line) else { panic!("not found") };
        assert!(name.starts_with("a?b?[2J?nnn"), "{name}");
        assert_eq!(name.len(), NAME_LENGTH);
        assert_eq!(parse(b"stream:  FOUND"), Answer::Found("(nothing)".to_owned()));
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_printable_answer(line in line()) {
            let printable = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            match parse(&line) {
                Answer::Clean => prop_assert_eq!(&line[..], b"stream: OK"),
                Answer::Found(name) => {
                    prop_assert!(line.starts_with(b"stream: ") && line.ends_with(b" FOUND"));
                    prop_assert!(!name.is_empty() && name.len() <= NAME_LENGTH && printable(&name));
                }
                Answer::TooLarge => prop_assert!(line.starts_with(b"INSTREAM size limit")),
                Answer::Failed(text) => {
                    prop_assert!(!text.is_empty() && text.len() <= EXCERPT_LENGTH && printable(&text));
                }
            }
        }
    }

    /// Bytes that often look like a reply.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"stream: ".to_vec()),
            Just(b" FOUND".to_vec()),
            Just(b"OK".to_vec()),
            Just(b" ERROR".to_vec()),
            Just(b"INSTREAM size limit exceeded. ERROR".to_vec()),
            Just(b"\n".to_vec()),
            prop::collection::vec(any::<u8>(), 0..12),
        ];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }
}
