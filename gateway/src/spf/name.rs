//! Domains in senders and in records.

/// Longest name (RFC 7208 section 7.3).
const LONGEST: usize = 253;

/// The domain of a sender, in ASCII; none where it cannot have a policy (RFC 7208 section 4.3).
pub(super) fn of_sender(domain: &str) -> Option<String> {
    let domain = idna::domain_to_ascii(domain).ok()?;
    let domain = plain(&domain);
    let is_plain =
        domain.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.'));
    (domain.len() <= LONGEST && domain.contains('.') && is_plain && has_good_labels(&domain))
        .then_some(domain)
}

/// The domain that a term means once its macros are expanded; labels too many are left out from the
/// left (RFC 7208 section 7.3). None where the text cannot be looked up (section 4.8).
pub(super) fn of_target(text: &str) -> Option<String> {
    let mut name = plain(text);
    while name.len() > LONGEST {
        let (_, rest) = name.split_once('.')?;
        name = rest.to_owned();
    }
    has_good_labels(&name).then_some(name)
}

/// Whether `name` is `domain` or below it.
pub(super) fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// In lower case, without the last dot.
pub(super) fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn has_good_labels(name: &str) -> bool {
    name.split('.').all(|label| (1..=63).contains(&label.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_single_labels_and_broken_names_have_no_policy() {
        for name in ["[192.0.2.1]", "localhost", "a..example", "", ".example", &"a".repeat(64)] {
            assert_eq!(of_sender(name), None, "{name}");
        }
        assert_eq!(of_sender("B\u{fc}cher.Example."), Some("xn--bcher-kva.example".to_owned()));
    }

    #[test]
    fn names_too_long_lose_labels_on_the_left() {
        let name = format!("{}example.org", "abcdefghi.".repeat(30));
        let short = of_target(&name).unwrap();
        assert!(short.len() <= LONGEST && short.ends_with(".example.org"));
        assert!(name.ends_with(&short));
        assert_eq!(of_target(""), None);
    }

    #[test]
    fn a_name_is_within_its_domain_and_not_within_a_longer_one() {
        assert!(is_within("example.org", "example.org") && is_within("a.example.org", "example.org"));
        assert!(!is_within("badexample.org", "example.org") && !is_within("org", "example.org"));
    }
}
