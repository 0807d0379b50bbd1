//! How much the end of one delivery moves a destination's window.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of a delivery, from 0 to 1, as a number or in proportion to the window: `1`,
/// `0.5/concurrency`, `1/sqrt_concurrency`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Feedback {
    part: f64,
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Nothing,
    Concurrency,
    SquareRoot,
}

/// A text that is no feedback.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no feedback; write a number from 0 to 1, `NUMBER/concurrency` or `NUMBER/sqrt_concurrency`"
)]
pub struct BadFeedback(String);

impl Feedback {
    /// One delivery, one step.
    pub const ONE: Self = Self { part: 1.0, by: By::Nothing };

    /// What it is with a window of that size.
    #[must_use]
    pub(super) fn at(self, window: u32) -> f64 {
        let window = f64::from(window.max(1));
        match self.by {
            By::Nothing => self.part,
            By::Concurrency => self.part / window,
            By::SquareRoot => self.part / window.sqrt(),
        }
    }
}

impl FromStr for Feedback {
    type Err = BadFeedback;

    fn from_str(text: &str) -> Result<Self, BadFeedback> {
        let bad = || BadFeedback(text.to_owned());
        let (part, by) = match text.split_once('/') {
            None => (text, By::Nothing),
            Some((part, by)) => match by.trim() {
                "concurrency" => (part, By::Concurrency),
                "sqrt_concurrency" => (part, By::SquareRoot),
                _ => return Err(bad()),
            },
        };
        let part = part.trim().parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
        Ok(Self { part: part.ok_or_else(bad)?, by })
    }
}

impl fmt::Display for Feedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.part)?;
        f.write_str(match self.by {
            By::Nothing => "",
            By::Concurrency => "/concurrency",
            By::SquareRoot => "/sqrt_concurrency",
        })
    }
}

impl TryFrom<String> for Feedback {
    type Error = BadFeedback;

    fn try_from(text: String) -> Result<Self, BadFeedback> {
        text.parse()
    }
}

impl From<Feedback> for String {
    fn from(feedback: Feedback) -> Self {
        feedback.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_prints_as_it_is_written() {
        for text in ["0", "1", "0.5", "1/concurrency", "0.25/sqrt_concurrency"] {
            assert_eq!(text.parse::<Feedback>().unwrap().to_string(), text);
        }
        assert_eq!("1 / concurrency".parse::<Feedback>().unwrap().to_string(), "1/concurrency");
    }

    #[test]
    fn what_would_move_a_window_by_more_than_one_is_refused() {
        for text in ["", "2", "-1", "nan", "inf", "1/", "1/window", "/concurrency"] {
            assert_eq!(text.parse::<Feedback>(), Err(BadFeedback(text.to_owned())));
        }
    }
}
