//! Recipients, and what a sender wants to be told of them: RET, NOTIFY and ORCPT (RFC 3461).
//!
//! Owns what is kept of these parameters between the server that reads them and the client that writes them.

use serde::{Deserialize, Serialize};

/// How much of a message a failure report has of it (RFC 3461 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its headers.
    Hdrs,
}

/// When a recipient's sender wants a report (RFC 3461 section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// On delivery.
    pub success: bool,
    /// On failure.
    pub failure: bool,
    /// When delivery takes long.
    pub delay: bool,
}

impl Notify {
    /// No report at all.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };

    /// Whether it is `NOTIFY=NEVER`.
    #[must_use]
    pub fn is_never(self) -> bool {
        self == Self::NEVER
    }
}

/// One recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The forward-path without brackets, in its internal form: without quotes that only SMTP needs.
    pub address: String,
    /// `ORCPT`, decoded, with its type: `rfc822;joe@a.test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// `NOTIFY`; `None`: as if not said, which is failure and delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
}

impl Recipient {
    /// One for whom RCPT has no parameters.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), original: None, notify: None }
    }

    /// `ORCPT`, or what it would have been: the address with its type (RFC 3461 section 5.2.1, RFC 6533 section 3).
    #[must_use]
    pub fn original(&self) -> String {
        self.original.clone().unwrap_or_else(|| {
            let kind = if self.address.is_ascii() { "rfc822" } else { "utf-8" };
            format!("{kind};{}", self.address)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_own_original_where_none_was_given() {
        let recipient = |address: &str, original: Option<&str>| Recipient {
            address: address.to_owned(),
            original: original.map(ToOwned::to_owned),
            notify: None,
        };
        for (address, original, expected) in [
            ("a@b.test", None, "rfc822;a@b.test"),
            ("\u{f6}@b.test", None, "utf-8;\u{f6}@b.test"),
            ("a@b.test", Some("rfc822;list@b.test"), "rfc822;list@b.test"),
        ] {
            assert_eq!(recipient(address, original).original(), expected);
        }
    }
}
