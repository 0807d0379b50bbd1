//! Mail addresses in records, as far as the operator wants to see them.
//!
//! Owns the masks. Never looks at message content, which records do not hold.

use std::borrow::Cow;

use crate::config::file::LogAddresses;

/// One address under the policy; none when addresses are off.
#[must_use]
pub fn address(policy: LogAddresses, address: &str) -> Option<String> {
    match policy {
        LogAddresses::Full => Some(address.to_owned()),
        LogAddresses::Masked => Some(mask(address)),
        LogAddresses::Off => None,
    }
}

/// The first `most` addresses with commas between, then how many more; none when addresses are off.
#[must_use]
pub fn list(policy: LogAddresses, addresses: &[String], most: usize) -> Option<String> {
    let shown: Option<Vec<_>> = addresses.iter().take(most).map(|one| address(policy, one)).collect();
    let shown = shown.filter(|_| policy != LogAddresses::Off)?.join(",");
    match addresses.len().saturating_sub(most) {
        0 => Some(shown),
        more => Some(format!("{shown},+{more}")),
    }
}

/// A text that may name addresses, such as a server's reply, with each of them under the policy.
#[must_use]
pub fn text(policy: LogAddresses, text: &str) -> Cow<'_, str> {
    if policy == LogAddresses::Full || !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let words = text.split_inclusive(|letter: char| !is_of_address(letter)).map(|piece| {
        let word = piece.trim_end_matches(|letter: char| !is_of_address(letter));
        let rest = piece.get(word.len()..).unwrap_or_default();
        match (word.contains('@'), policy) {
            (false, _) => piece.to_owned(),
            (true, LogAddresses::Off) => format!("***{rest}"),
            (true, LogAddresses::Masked | LogAddresses::Full) => format!("{}{rest}", mask(word)),
        }
    });
    Cow::Owned(words.collect())
}

/// A hardware address with colons.
#[must_use]
pub fn mac(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
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

/// Whether a letter can stand in an unquoted address (RFC 5321 section 4.1.2, RFC 6531 section 3.3).
fn is_of_address(letter: char) -> bool {
    letter.is_alphanumeric() || !letter.is_ascii() || "!#$%&'*+-/=?^_`{|}~.@[]:".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_keeps_the_domain_and_one_letter() {
        assert_eq!(address(LogAddresses::Masked, "alice@example.org").as_deref(), Some("a***@example.org"));
        assert_eq!(address(LogAddresses::Masked, "").as_deref(), Some(""));
        assert_eq!(address(LogAddresses::Masked, "postmaster").as_deref(), Some("***"));
        assert_eq!(address(LogAddresses::Masked, "\"a@b\"@c.test").as_deref(), Some("\"***@c.test"));
        assert_eq!(address(LogAddresses::Off, "alice@example.org"), None);
    }

    #[test]
    fn a_list_says_how_many_more() {
        let many: Vec<_> = (0..5).map(|number| format!("u{number}@b.test")).collect();
        assert_eq!(list(LogAddresses::Full, &many, 2).as_deref(), Some("u0@b.test,u1@b.test,+3"));
        assert_eq!(list(LogAddresses::Off, &[], 2), None);
    }

    #[test]
    fn addresses_in_a_reply_are_masked_too() {
        let reply = "550 5.1.1 <bob@b.test>: user unknown (see a@c)";
        assert_eq!(text(LogAddresses::Masked, reply), "550 5.1.1 <b***@b.test>: user unknown (see a***@c)");
        assert_eq!(text(LogAddresses::Off, reply), "550 5.1.1 <***>: user unknown (see ***)");
        assert_eq!(text(LogAddresses::Full, reply), reply);
    }
}
