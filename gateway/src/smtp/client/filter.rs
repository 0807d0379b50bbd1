//! Texts that are rewritten by the first pattern that matches (`reply-filter`, `delivery-status-filter`).

use std::borrow::Cow;

use regex::Regex;

/// Patterns and replacements, in order. `$1` and `${name}` stand for what a group matched.
#[derive(Clone, Debug, Default)]
pub struct Rewrites(Vec<(Regex, String)>);

impl Rewrites {
    /// The patterns in the order in which they are tried.
    #[must_use]
    pub const fn new(rules: Vec<(Regex, String)>) -> Self {
        Self(rules)
    }

    /// The replacement, or the text where nothing matches.
    #[must_use]
    pub fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        for (pattern, replacement) in &self.0 {
            if let Some(captures) = pattern.captures(text) {
                let mut out = String::new();
                captures.expand(replacement, &mut out);
                return Cow::Owned(out);
            }
        }
        Cow::Borrowed(text)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_replaces_the_whole_text() {
        let rewrites = Rewrites::new(vec![
            (Regex::new("^5(.*greylist.*)$").unwrap(), "4$1".to_owned()),
            (Regex::new("greylist").unwrap(), "never".to_owned()),
        ]);
        assert_eq!(rewrites.apply("550 greylisted"), "450 greylisted");
        assert_eq!(rewrites.apply("550 no"), "550 no");
    }
}
