//! Enhanced status codes (RFC 3463), read from replies or made up where a reply has none.

use std::fmt;

use crate::smtp::reply::Reply;

/// Class, subject and detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    class: u8,
    subject: u16,
    detail: u16,
}

impl Status {
    /// 2.0.0.
    pub const SENT: Self = Self { class: 2, subject: 0, detail: 0 };

    /// A transient failure, 4.`subject`.`detail`.
    #[must_use]
    pub const fn transient(subject: u16, detail: u16) -> Self {
        Self { class: 4, subject, detail }
    }

    /// A permanent failure, 5.`subject`.`detail`.
    #[must_use]
    pub const fn permanent(subject: u16, detail: u16) -> Self {
        Self { class: 5, subject, detail }
    }

    /// The code at the head of `text`; `None` where there is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.split_ascii_whitespace().next()?;
        let mut parts = word.split('.');
        let class = parts.next().and_then(number).filter(|class| matches!(class, 2 | 4 | 5))?;
        let subject = parts.next().and_then(number)?;
        let detail = parts.next().and_then(number)?;
        parts.next().is_none().then_some(Self { class: u8::try_from(class).ok()?, subject, detail })
    }

    /// What a final reply says: its own code where that agrees with the three digits, else X.0.0.
    /// `None` when the reply is neither 2xx, 4xx nor 5xx.
    #[must_use]
    pub fn of_reply(reply: &Reply) -> Option<Self> {
        let class = u8::try_from(reply.code() / 100).ok().filter(|class| matches!(class, 2 | 4 | 5))?;
        let text = String::from_utf8_lossy(reply.lines().last().map_or(b"", |line| line));
        let own =
            Self::parse(&text).filter(|status| status.class == class && text.starts_with(char::is_numeric));
        Some(own.unwrap_or(Self { class, subject: 0, detail: 0 }))
    }

    /// The same failure as a transient one.
    #[must_use]
    pub const fn softened(self) -> Self {
        Self { class: 4, ..self }
    }

    /// 5.X.Y.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        self.class == 5
    }

    /// Subject and detail.
    pub(super) const fn parts(self) -> (u16, u16) {
        (self.subject, self.detail)
    }

    /// 2.X.Y.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.class == 2
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// Up to three digits.
fn number(digits: &str) -> Option<u16> {
    let is_number = matches!(digits.len(), 1..=3) && digits.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16, text: &str) -> Option<String> {
        Status::of_reply(&Reply::new(code, text)).map(|status| status.to_string())
    }

    #[test]
    fn a_code_counts_when_its_class_is_that_of_the_reply() {
        assert_eq!(of(550, "5.7.1 no").as_deref(), Some("5.7.1"));
        assert_eq!(of(450, "4.200.30").as_deref(), Some("4.200.30"));
        for (code, text, status) in [
            (554, "go away", "5.0.0"),
            (554, "4.7.1 later", "5.0.0"),
            (550, "5.7 no", "5.0.0"),
            (550, "5.7.1.1 no", "5.0.0"),
            (550, "5.7.1234 no", "5.0.0"),
            (550, "5.7.x no", "5.0.0"),
            (550, " 5.7.1 no", "5.0.0"),
            (250, "", "2.0.0"),
        ] {
            assert_eq!(of(code, text).as_deref(), Some(status), "{code} {text}");
        }
        assert_eq!(of(354, "4.0.0"), None);
    }
}
