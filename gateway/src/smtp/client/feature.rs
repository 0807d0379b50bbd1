//! What a server announces in its reply to EHLO or LHLO (RFC 5321 section 4.1.1.1).

use crate::smtp::reply::Reply;

/// What the server can do, less what the operator does not want to know of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Commands may be sent in groups (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152), or SMTPUTF8, which implies it.
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// BDAT (RFC 3030).
    pub chunking: bool,
    /// SIZE (RFC 1870).
    pub size: bool,
    /// The largest message in octets; 0 when unknown or without limit.
    pub size_limit: u64,
    /// AUTH mechanisms (RFC 4954), in upper case, in the server's order.
    pub mechanisms: Vec<String>,
    /// XFORWARD attributes, in upper case.
    pub xforward: Vec<String>,
}

/// Keywords that are treated as not announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discard {
    keywords: Vec<String>,
    silent: bool,
}

impl Discard {
    /// A list of keywords in any case; the pseudo keyword `silent-discard` only keeps it out of the log.
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut discard = Self::default();
        for word in words {
            match word.to_ascii_uppercase() {
                word if word == "SILENT-DISCARD" => discard.silent = true,
                word => discard.keywords.push(word),
            }
        }
        discard
    }

    /// What the log is to say; `None` when it is to say nothing.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let speaks = !self.silent && !self.keywords.is_empty();
        speaks.then(|| self.keywords.join(" ").to_ascii_lowercase())
    }

    fn has(&self, keyword: &str) -> bool {
        self.keywords.iter().any(|discarded| discarded == keyword)
    }
}

impl Features {
    /// Reads a positive reply; its first line is the server's name.
    #[must_use]
    pub fn parse(reply: &Reply, discard: &Discard) -> Self {
        let mut features = Self::default();
        for line in reply.lines().iter().skip(1) {
            let text = String::from_utf8_lossy(line);
            // `AUTH=LOGIN` is an old spelling that some servers still use.
            let mut words = text.split([' ', '\t', '=']).filter(|word| !word.is_empty());
            let Some(keyword) = words.next().map(str::to_ascii_uppercase) else { continue };
            if !discard.has(&keyword) {
                features.announce(&keyword, words);
            }
        }
        // RFC 6531 section 3.1 demands both.
        features.eight_bit_mime |= features.smtputf8;
        features
    }

    /// The name that the server gives itself.
    #[must_use]
    pub fn server_name(reply: &Reply) -> String {
        let line = reply.lines().first().map(|line| String::from_utf8_lossy(line)).unwrap_or_default();
        line.split_ascii_whitespace().next().unwrap_or_default().to_owned()
    }

    fn announce<'a>(&mut self, keyword: &str, mut words: impl Iterator<Item = &'a str>) {
        match keyword {
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "CHUNKING" => self.chunking = true,
            "SIZE" => {
                self.size = true;
                self.size_limit = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
            }
            "AUTH" => extend(&mut self.mechanisms, words),
            "XFORWARD" => extend(&mut self.xforward, words),
            _ => {}
        }
    }
}

fn extend<'a>(list: &mut Vec<String>, words: impl Iterator<Item = &'a str>) {
    for word in words.map(str::to_ascii_uppercase) {
        if !list.contains(&word) {
            list.push(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn parse(lines: &[&'static str], discard: &[&str]) -> Features {
        let lines = lines.iter().map(|line| Bytes::from_static(line.as_bytes())).collect();
        Features::parse(&Reply::with_lines(250, lines), &Discard::new(discard.iter().copied()))
    }

    #[test]
    fn keywords_are_read_in_any_case_and_with_old_separators() {
        let features = parse(
            &[
                "mx PIPELINING",
                "size 100",
                "AUTH=LOGIN",
                "auth\tPLAIN login",
                "xforward name addr",
                "dsn",
                "X",
            ],
            &[],
        );
        assert_eq!(features.mechanisms, ["LOGIN", "PLAIN"]);
        assert_eq!(features.xforward, ["NAME", "ADDR"]);
        assert_eq!((features.size, features.size_limit), (true, 100));
        assert!(features.dsn);
        assert!(!features.pipelining, "the first line is a name");
    }

    #[test]
    fn a_size_that_is_no_number_is_no_limit() {
        assert_eq!(parse(&["mx", "SIZE lots"], &[]).size_limit, 0);
        assert_eq!(parse(&["mx", "SIZE"], &[]).size_limit, 0);
        assert_eq!(parse(&["mx", "SIZE 99999999999999999999"], &[]).size_limit, 0);
    }

    #[test]
    fn discarded_keywords_are_not_announced() {
        let features = parse(&["mx", "PIPELINING", "DSN", "SMTPUTF8"], &["pipelining", "Silent-Discard"]);
        assert!(!features.pipelining && features.dsn);
        assert!(features.eight_bit_mime, "SMTPUTF8 implies 8BITMIME");
        assert_eq!(Discard::new(["dsn", "pipelining"]).note().as_deref(), Some("dsn pipelining"));
        assert_eq!(Discard::new(["dsn", "silent-discard"]).note(), None);
        assert_eq!(Discard::new([]).note(), None);
    }
}
