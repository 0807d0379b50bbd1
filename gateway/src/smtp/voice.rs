//! How the gateway speaks for itself: its name and its texts in a reply line.

use super::reply::Reply;
use crate::config::file::Messages;

/// Longest reply line without its CRLF (RFC 5321 section 4.5.3.1.5).
const LONGEST: usize = 510;
/// The code and the space behind it.
const CODE: usize = 4;

/// The gateway's name and texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voice {
    /// Stands in every reply.
    pub name: String,
    /// The operator's texts.
    pub messages: Messages,
}

impl Voice {
    /// The greeting (RFC 5321 section 4.3.1).
    #[must_use]
    pub fn greeting(&self) -> Reply {
        Reply::new(220, &format!("{} ESMTP", self.name))
    }

    /// A reply of one line: code, status, name and text, which may bring a status of its own.
    #[must_use]
    pub fn reply(&self, code: u16, status: &str, text: &str) -> Reply {
        let (own, text) = split_status(text);
        let class = code.to_string();
        let status = own.filter(|own| own.as_bytes().first() == class.as_bytes().first()).unwrap_or(status);
        let mut line = format!("{status} {} {text}", self.name);
        line.truncate(line.floor_char_boundary(LONGEST - CODE));
        Reply::new(code, &line)
    }
}

/// A status code (RFC 3463 section 2) at the head of `text`, and the rest.
fn split_status(text: &str) -> (Option<&str>, &str) {
    let Some((word, rest)) = text.split_once(' ') else { return (None, text) };
    let mut parts = word.split('.');
    let number = |part: Option<&str>| {
        part.is_some_and(|part| {
            matches!(part.len(), 1..=3) && part.bytes().all(|octet| octet.is_ascii_digit())
        })
    };
    let class = matches!(parts.next(), Some("2" | "4" | "5"));
    let is_status = class && number(parts.next()) && number(parts.next()) && parts.next().is_none();
    if is_status { (Some(word), rest) } else { (None, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(code: u16, text: &str) -> String {
        let voice = Voice { name: "gw.test".to_owned(), ..Voice::default() };
        voice.reply(code, "5.7.1", text).summary()
    }

    #[test]
    fn a_status_of_the_text_is_used_where_its_class_agrees() {
        assert_eq!(line(550, "Go away"), "550 5.7.1 gw.test Go away");
        assert_eq!(line(550, "5.7.9 Go away"), "550 5.7.9 gw.test Go away");
        assert_eq!(line(550, "4.7.9 Go away"), "550 5.7.1 gw.test Go away");
        assert_eq!(line(550, "5.7 times"), "550 5.7.1 gw.test 5.7 times");
        assert_eq!(line(550, "5.7.1234 Go away"), "550 5.7.1 gw.test 5.7.1234 Go away");
    }

    #[test]
    fn a_line_is_never_longer_than_512_octets() {
        let voice = Voice { name: "n".repeat(255), ..Voice::default() };
        let text = "ä".repeat(400);
        assert!(voice.reply(550, "5.7.1", &text).summary().len() <= 510);
    }
}
