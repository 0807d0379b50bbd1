//! Lists, as commands print them.

use std::fmt::Write as _;
use std::ops::Range;

use crate::console::text::plural;

/// Rows below their heads, in columns as wide as their widest cell; those in `numbers` end at one line.
pub(super) fn aligned<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    numbers: &Range<usize>,
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> String {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Writing to a `String` cannot fail.
            if numbers.contains(&column) {
                write!(line, "{cell:>width$}  ").unwrap_or_default();
            } else {
                write!(line, "{cell:<width$}  ").unwrap_or_default();
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Says how many of `all` are not among those `listed`, if any.
pub(super) fn rest(listed: usize, all: usize, what: &str) -> String {
    let left = u64::try_from(all.saturating_sub(listed)).unwrap_or(u64::MAX);
    if left == 0 { String::new() } else { format!("and {} more\n", plural(left, what)) }
}
