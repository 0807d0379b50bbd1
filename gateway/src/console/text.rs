//! How values are spelled for people, in the console and in the commands.
//!
//! Owns widths and units. Everything that came over the network goes through [`safe`] before it
//! may reach a terminal.

use std::time::Duration;

use crate::telemetry::logfmt;

/// A text from the network, with every octet outside printable ASCII as `\xNN`.
#[must_use]
pub fn safe(text: &str) -> String {
    logfmt::escape(text)
}

/// A number with a space between groups of three digits.
#[must_use]
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place != 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A size with three significant digits, such as `12.3M`, in powers of 1,024.
#[must_use]
pub fn size(octets: u64) -> String {
    let mut unit = 0;
    // Tenths, so that no floating point is needed.
    let mut tenths = u128::from(octets) * 10;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 || tenths >= 1_000 {
        format!("{}{name}", tenths / 10)
    } else {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    }
}

const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];

/// A span in its two largest units, such as `3m07s` or `2d 4h`.
#[must_use]
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if days != 0 {
        format!("{days}d {}h", hours % 24)
    } else if hours != 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else if minutes != 0 {
        format!("{minutes}m{:02}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// `1 session`, `2 sessions`.
#[must_use]
pub fn plural(count: u64, one: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{} {one}{end}", number(count))
}

/// Names and numbers in one line, such as `3 command, 9 splice`.
#[must_use]
pub fn counts(counts: &[(String, u64)]) -> String {
    counts
        .iter()
        .map(|(name, count)| format!("{} {}", number(*count), safe(name)))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (octets, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "0.9K"),
            (1_536, "1.5K"),
            (102_400, "100K"),
            (1_023_999, "999K"),
            (20 << 20, "20.0M"),
            (u64::MAX, "15.9E"),
        ] {
            assert_eq!(size(octets), text);
            assert!(size(octets).len() <= 5);
        }
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (187, "3m07s"), (7_260, "2h01m"), (190_000, "2d 4h")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_000), "1 000");
        assert_eq!(number(12_345_678), "12 345 678");
    }
}
