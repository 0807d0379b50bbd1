//! Numbers with a fraction: the points of spam scanners, load averages.
//!
//! Owns their spelling, in both directions. Counts in hundredths: two numbers that read the same
//! are the same, and none is infinite or no number at all.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number with at most two decimals, such as `7` or `0.25`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("type" = ["string", "number"], "pattern" = "^-?[0-9]+(\\.[0-9]{1,2})?$"))]
pub struct Decimal(i64);

/// Largest number of hundredths, on both sides of zero.
const MOST: i64 = 1_000_000_000_000;

impl Decimal {
    /// The whole number `whole`.
    #[must_use]
    pub const fn whole(whole: i32) -> Self {
        Self(whole as i64 * 100)
    }

    /// So many hundredths.
    #[must_use]
    pub fn hundredths(count: i64) -> Self {
        Self(count.clamp(-MOST, MOST))
    }

    /// The nearest one to `number`; none for infinities and what is no number.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "clamped to what is exact in both types")]
    pub fn nearest(number: f64) -> Option<Self> {
        let most = MOST as f64;
        number.is_finite().then(|| Self((number * 100.0).round().clamp(-most, most) as i64))
    }

    /// Whether it is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl FromStr for Decimal {
    type Err = NotANumber;

    fn from_str(text: &str) -> Result<Self, NotANumber> {
        let wrong = || NotANumber(text.to_owned());
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit())
        };
        if !is_number(whole, 10) || !is_number(fraction, 2) {
            return Err(wrong());
        }
        let hundredths = |text: &str| text.parse::<i64>().map_err(|_| wrong());
        let fraction = hundredths(&format!("{fraction:0<2}"))?;
        Ok(Self(sign * (hundredths(whole)? * 100 + fraction)))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, whole, part) = (if self.0 < 0 { "-" } else { "" }, self.0.abs() / 100, self.0.abs() % 100);
        match (part, part % 10) {
            (0, _) => write!(f, "{sign}{whole}"),
            (_, 0) => write!(f, "{sign}{whole}.{}", part / 10),
            _ => write!(f, "{sign}{whole}.{part:02}"),
        }
    }
}

/// A value that is no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number with at most two decimals; write for example `7` or `0.5`")]
pub struct NotANumber(String);

impl TryFrom<String> for Decimal {
    type Error = NotANumber;

    fn try_from(text: String) -> Result<Self, NotANumber> {
        text.parse()
    }
}

impl From<Decimal> for String {
    fn from(number: Decimal) -> Self {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_they_are_written() {
        for text in ["0", "7", "0.5", "0.25", "-3.1", "1000", "-0.05"] {
            assert_eq!(text.parse::<Decimal>().unwrap().to_string(), text);
        }
        assert_eq!("5.0".parse::<Decimal>().unwrap(), Decimal::whole(5));
        assert!("6.99".parse::<Decimal>().unwrap() < Decimal::whole(7));
    }

    #[test]
    fn what_is_no_number_is_refused_with_an_example() {
        for text in ["", "-", ".5", "5.", "1e3", "0.125", "nan", "inf", "99999999999", "+1", "1,5", "--1"] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
        assert_eq!(
            "five".parse::<Decimal>().unwrap_err().to_string(),
            "`five` is not a number with at most two decimals; write for example `7` or `0.5`"
        );
    }

    #[test]
    fn measured_numbers_are_rounded_and_never_strange() {
        assert_eq!(Decimal::nearest(5.699_999_9).unwrap().to_string(), "5.7");
        assert_eq!(Decimal::nearest(-0.004).unwrap(), Decimal::default());
        assert_eq!(Decimal::nearest(f64::MAX).unwrap().to_string(), "10000000000");
        assert_eq!(Decimal::nearest(f64::NAN), None);
        assert_eq!(Decimal::nearest(f64::NEG_INFINITY), None);
    }
}
