//! Values with a unit, as an operator writes them: `50MiB`, `30s`.
//!
//! Owns the spelling of sizes and durations, in both directions. Never falls back to a bare
//! number: `50` says neither bytes nor seconds, so it is refused with the spelling to use.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of bytes, written `64KiB`, `50MiB`, `2GiB` or `512B`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("type" = ["string", "integer"], "maximum" = 0, "pattern" = "^[0-9]+ ?(B|KiB|MiB|GiB|kB|MB|GB)$|^0$"))]
pub struct ByteCount(u64);

impl ByteCount {
    /// A count of `bytes`.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A count of `kib` times 1,024 bytes.
    #[must_use]
    pub const fn kib(kib: u64) -> Self {
        Self(kib * 1024)
    }

    /// A count of `mib` times 1,048,576 bytes.
    #[must_use]
    pub const fn mib(mib: u64) -> Self {
        Self(mib * 1024 * 1024)
    }

    /// The count in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The count as a length in memory, saturating on small machines.
    #[must_use]
    pub fn as_len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Suffixes a size may carry, largest first, so that printing picks the largest that divides.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for ByteCount {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text == "0" {
            return Ok(Self(0));
        }
        let (number, unit) = split_number(text);
        SIZE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, factor)| number.parse::<u64>().ok()?.checked_mul(*factor))
            .map(Self)
            .ok_or_else(|| UnitError::NotASize(text.to_owned()))
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        for (name, factor) in SIZE_UNITS {
            if name.contains('i') && self.0.is_multiple_of(*factor) {
                return write!(f, "{}{name}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A length of time, written `500ms`, `30s`, `5m`, `2h` or `1d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("type" = ["string", "integer"], "maximum" = 0, "pattern" = "^[0-9]+ ?(ms|s|m|h|d)$|^0$"))]
pub struct Span(Duration);

impl Span {
    /// A span of `seconds`.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span of `minutes`.
    #[must_use]
    pub const fn minutes(minutes: u64) -> Self {
        Self(Duration::from_secs(minutes * 60))
    }

    /// The span as the standard library counts it.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// Suffixes a span may carry and their length in milliseconds, largest first.
const SPAN_UNITS: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let (number, unit) = split_number(text);
        SPAN_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, factor)| number.parse::<u64>().ok()?.checked_mul(*factor))
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| UnitError::NotASpan(text.to_owned()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0");
        }
        for (name, factor) in SPAN_UNITS {
            if millis.is_multiple_of(u128::from(*factor)) {
                return write!(f, "{}{name}", millis / u128::from(*factor));
            }
        }
        write!(f, "{millis}ms")
    }
}

/// A value whose unit or number cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a size.
    #[error("`{0}` is not a size; write for example `50MiB`")]
    NotASize(String),
    /// Not a length of time.
    #[error("`{0}` is not a length of time; write for example `30s` or `5m`")]
    NotASpan(String),
}

fn split_number(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.strip_prefix(' ').unwrap_or(unit))
}

macro_rules! as_string {
    ($unit:ty) => {
        impl TryFrom<String> for $unit {
            type Error = UnitError;

            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }

        impl From<$unit> for String {
            fn from(value: $unit) -> Self {
                value.to_string()
            }
        }
    };
}

as_string!(ByteCount);
as_string!(Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_print_as_they_are_written() {
        for text in ["0", "512B", "64KiB", "50MiB", "2GiB"] {
            assert_eq!(text.parse::<ByteCount>().unwrap().to_string(), text);
        }
        assert_eq!("1 MB".parse::<ByteCount>().unwrap().bytes(), 1_000_000);
    }

    #[test]
    fn spans_print_as_they_are_written() {
        for text in ["0", "500ms", "30s", "5m", "2h", "1d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_the_spelling_to_use() {
        assert_eq!(
            "50 megs".parse::<ByteCount>().unwrap_err().to_string(),
            "`50 megs` is not a size; write for example `50MiB`"
        );
        assert!("50".parse::<ByteCount>().is_err());
        assert!("99999999999GiB".parse::<ByteCount>().is_err());
        assert!("-1s".parse::<Span>().is_err());
    }
}
