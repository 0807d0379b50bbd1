//! Names and mail addresses in records, as far as the operator wants to see them.
//!
//! Owns masks and digests. Never looks at message content, which records do not hold.

use std::borrow::Cow;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::config::file::{Log, LogAddresses, Logged, Secret};

/// Octets of a digest that are written: enough that no two addresses share them by chance.
const DIGEST_LENGTH: usize = 16;

/// What a record shows of those who write to each other.
#[derive(Debug)]
pub struct Redaction {
    helo: bool,
    /// In texts such as a server's reply.
    text: LogAddresses,
    sender: Shown,
    recipient: Shown,
    longest: usize,
    key: Option<Secret>,
}

/// What of one side's addresses is shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    accepted: bool,
    rejected: bool,
    form: LogAddresses,
}

impl Shown {
    fn new(which: &[Logged], form: LogAddresses) -> Self {
        let hashed = which.contains(&Logged::Hashed) && form != LogAddresses::Off;
        Self {
            accepted: which.contains(&Logged::Accepted),
            rejected: which.contains(&Logged::Rejected),
            form: if hashed { LogAddresses::Hashed } else { form },
        }
    }

    const fn strictest(self) -> LogAddresses {
        if self.accepted && self.rejected { self.form } else { LogAddresses::Off }
    }

    const fn form(self, accepted: bool) -> LogAddresses {
        if (accepted && self.accepted) || (!accepted && self.rejected) {
            self.form
        } else {
            LogAddresses::Off
        }
    }
}

impl Redaction {
    /// As `config` wants it.
    #[must_use]
    pub fn new(config: &Log) -> Self {
        let (sender, recipient) =
            (Shown::new(&config.mail_from, config.addresses), Shown::new(&config.rcpt_to, config.addresses));
        // What is hidden in one place must not be told in the reply beside it.
        let text = sender.strictest().max(recipient.strictest());
        Self {
            helo: config.helo,
            text,
            sender,
            recipient,
            longest: config.address_length,
            key: config.hash_key.clone(),
        }
    }

    /// The name in HELO; none when names are not written.
    #[must_use]
    pub fn helo<'n>(&self, name: &'n str) -> Option<&'n str> {
        self.helo.then_some(name)
    }

    /// A sender that was accepted, or refused; none when such are not written.
    #[must_use]
    pub fn sender(&self, address: &str, accepted: bool) -> Option<String> {
        self.address(self.sender.form(accepted), address)
    }

    /// Recipients that were accepted, or refused, with commas between; `count` says how many there
    /// were in all. None when such are not written.
    #[must_use]
    pub fn recipients(&self, addresses: &[String], count: usize, accepted: bool) -> Option<String> {
        let form = self.recipient.form(accepted);
        if form == LogAddresses::Off || count == 0 {
            return None;
        }
        let mut shown: Vec<_> = addresses.iter().filter_map(|one| self.address(form, one)).collect();
        match count.saturating_sub(addresses.len()) {
            0 => {}
            more => shown.push(format!("+{more}")),
        }
        Some(shown.join(","))
    }

    /// A text that may name addresses, such as a server's reply, without what must not be seen.
    #[must_use]
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.text == LogAddresses::Full || !text.contains('@') {
            return Cow::Borrowed(text);
        }
        let words = text.split_inclusive(|letter: char| !is_of_address(letter)).map(|piece| {
            let word = piece.trim_end_matches(|letter: char| !is_of_address(letter));
            let rest = piece.get(word.len()..).unwrap_or_default();
            if word.contains('@') {
                let shown = self.address(self.text, word);
                format!("{}{rest}", shown.as_deref().unwrap_or("***"))
            } else {
                piece.to_owned()
            }
        });
        Cow::Owned(words.collect())
    }

    /// Whether the domain of a mail address may be seen.
    #[must_use]
    pub fn shows_domains(&self) -> bool {
        self.text <= LogAddresses::Masked
    }

    fn address(&self, form: LogAddresses, address: &str) -> Option<String> {
        match form {
            LogAddresses::Full => Some(self.cut(address.to_owned())),
            LogAddresses::Masked => Some(self.cut(mask(address))),
            // The empty sender of bounces is nobody's address.
            LogAddresses::Hashed if address.is_empty() => Some(String::new()),
            LogAddresses::Hashed => Some(digest(self.key.as_ref(), address)),
            LogAddresses::Off => None,
        }
    }

    fn cut(&self, mut address: String) -> String {
        if let (1.., Some((end, _))) = (self.longest, address.char_indices().nth(self.longest)) {
            address.truncate(end);
            address.push_str("...");
        }
        address
    }
}

/// A hardware address with colons.
#[must_use]
pub fn mac(mac: [u8; 6]) -> String {
    let mut text = String::with_capacity(17);
    for octet in mac {
        let colon = if text.is_empty() { "" } else { ":" };
        // Writing to a `String` cannot fail.
        write!(text, "{colon}{octet:02x}").unwrap_or_default();
    }
    text
}

/// The domain, and the first letter of the local part.
fn mask(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => {
            let first = local.chars().next().map(String::from).unwrap_or_default();
            format!("{first}***@{domain}")
        }
        None if address.is_empty() => String::new(),
        None => "***".to_owned(),
    }
}

/// HMAC-SHA-256 (RFC 2104) under `key`, else SHA-256. In lower case, because a person who writes
/// an address in another way is still the same.
fn digest(key: Option<&Secret>, address: &str) -> String {
    let address = address.to_ascii_lowercase();
    let keyed = key.and_then(|key| Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes()).ok());
    let octets = match keyed {
        Some(keyed) => keyed.chain_update(address).finalize().into_bytes(),
        None => Sha256::digest(address),
    };
    octets.iter().take(DIGEST_LENGTH).fold(String::new(), |mut hex, octet| {
        // Writing to a `String` cannot fail.
        write!(hex, "{octet:02x}").unwrap_or_default();
        hex
    })
}

/// Whether a letter can stand in an unquoted address (RFC 5321 section 4.1.2, RFC 6531 section 3.3).
fn is_of_address(letter: char) -> bool {
    letter.is_alphanumeric() || !letter.is_ascii() || "!#$%&'*+-/=?^_`{|}~.@[]:".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf %s alice@example.org | sha256sum | cut -c1-32`
    const ALICE: &str = "7a64adf28737ea90719cbdf0b1a87a5e";

    fn redaction(change: impl FnOnce(&mut Log)) -> Redaction {
        let mut log = Log::default();
        change(&mut log);
        Redaction::new(&log)
    }

    fn form(form: LogAddresses) -> Redaction {
        redaction(|log| log.addresses = form)
    }

    #[test]
    fn masked_keeps_the_domain_and_one_letter() {
        let masked = form(LogAddresses::Masked);
        for (address, shown) in [
            ("alice@example.org", "a***@example.org"),
            ("", ""),
            ("postmaster", "***"),
            ("\"a@b\"@c.test", "\"***@c.test"),
        ] {
            assert_eq!(masked.sender(address, true).as_deref(), Some(shown));
        }
        assert_eq!(form(LogAddresses::Off).sender("alice@example.org", true), None);
    }

    #[test]
    fn a_digest_is_what_command_line_tools_make_of_the_address() {
        let plain = form(LogAddresses::Hashed);
        assert_eq!(plain.sender("Alice@Example.org", true).as_deref(), Some(ALICE));
        assert_eq!(plain.sender("", true).as_deref(), Some(""));
        let keyed = redaction(|log| {
            log.mail_from = vec![Logged::Accepted, Logged::Rejected, Logged::Hashed];
            log.hash_key = serde_json::from_str("\"s3cret\"").ok();
        });
        assert_eq!(keyed.sender("alice@example.org", true).as_deref(), Some(KEYED));
        assert_eq!(keyed.text("250 <alice@example.org> Ok"), format!("250 <{KEYED}> Ok"));
        assert_eq!(keyed.recipients(&["bob@b.test".to_owned()], 1, true).as_deref(), Some("b***@b.test"));
    }

    /// `printf %s alice@example.org | openssl dgst -sha256 -hmac s3cret | cut -d' ' -f2 | cut -c1-32`
    const KEYED: &str = "5885f723eeb6e07a2dde3fda670c853e";

    #[test]
    fn accepted_and_rejected_are_told_apart() {
        let redaction = redaction(|log| {
            log.addresses = LogAddresses::Full;
            log.mail_from = vec![Logged::Rejected];
            log.rcpt_to = vec![Logged::Accepted];
            log.helo = false;
        });
        assert_eq!(redaction.sender("a@b.test", true), None);
        assert_eq!(redaction.sender("a@b.test", false).as_deref(), Some("a@b.test"));
        let recipients = ["c@d.test".to_owned()];
        assert_eq!(redaction.recipients(&recipients, 1, true).as_deref(), Some("c@d.test"));
        assert_eq!(redaction.recipients(&recipients, 1, false), None);
        assert_eq!(redaction.text("550 5.1.1 <c@d.test>: unknown"), "550 5.1.1 <***>: unknown");
        assert_eq!(redaction.helo("client"), None);
    }

    #[test]
    fn a_list_says_how_many_more_and_a_long_address_is_cut() {
        let full = redaction(|log| {
            log.addresses = LogAddresses::Full;
            log.address_length = 6;
        });
        let two = ["u0@b.test".to_owned(), "\u{e9}1@b".to_owned()];
        assert_eq!(full.recipients(&two, 5, true).as_deref(), Some("u0@b.t...,\u{e9}1@b,+3"));
        assert_eq!(full.recipients(&[], 0, true), None);
    }

    #[test]
    fn addresses_in_a_reply_are_masked_too() {
        let reply = "550 5.1.1 <bob@b.test>: user unknown (see a@c)";
        assert_eq!(
            form(LogAddresses::Masked).text(reply),
            "550 5.1.1 <b***@b.test>: user unknown (see a***@c)"
        );
        assert_eq!(form(LogAddresses::Off).text(reply), "550 5.1.1 <***>: user unknown (see ***)");
        assert_eq!(form(LogAddresses::Full).text(reply), reply);
    }
}
