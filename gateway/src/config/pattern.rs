//! Regular expressions, as an operator writes them.
//!
//! They are those of the `regex` crate: matching takes time linear in the text, whatever the
//! expression and whoever chose the text.

use std::fmt;

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most memory that one compiled expression may take.
const LARGEST: usize = 1024 * 1024;

/// A regular expression such as `^[^@]+@example\.com$`. It matches anywhere in the text unless
/// anchored, and tells capitals from small letters unless it begins with `(?i)`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "regex"))]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it matches somewhere in `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        RegexBuilder::new(&text)
            .size_limit(LARGEST)
            .build()
            .map(Self)
            .map_err(|error| format!("`{text}` is not a regular expression: {}", reason(&error)))
    }
}

/// What is wrong, in one line: the engine's own report draws the place in lines of its own.
fn reason(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(_) = error {
        return format!("compiled it is larger than {} KiB; write a simpler one", LARGEST / 1024);
    }
    let report = error.to_string();
    let line = report.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_expression_and_no_text_make_matching_take_exponential_time() {
        // An engine that goes back takes twice as long for each letter.
        for expression in ["^(a+)+$", "^(a|aa)+$", "^(a|a?)+$", "(.*a){20}b"] {
            let pattern = Pattern::try_from(expression.to_owned()).unwrap();
            assert!(!pattern.matches(&format!("{}!", "a".repeat(1_000))), "{expression}");
        }
    }

    #[test]
    fn an_error_is_one_line() {
        let error = |text: &str| Pattern::try_from(text.to_owned()).unwrap_err();
        assert_eq!(error("(a"), "`(a` is not a regular expression: unclosed group");
        assert!(error("(?:a{1000}){1000}").ends_with("larger than 1024 KiB; write a simpler one"));
        assert!(error("(a)\\1").contains("backreferences are not supported"));
    }

    #[test]
    fn time_is_linear_in_the_text() {
        // Exponential with an engine that backtracks.
        let pattern = Pattern::try_from("^(a+)+$".to_owned()).unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(100_000))));
    }
}
