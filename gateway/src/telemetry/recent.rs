//! The last lines of the log, kept in memory for the console.
//!
//! Owns a bounded ring. Never holds more than a fixed number of lines of a fixed length.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Lines kept.
const LINES: usize = 1_000;

/// Octets kept of a line.
const LINE_LENGTH: usize = 1_024;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number since the start of the process, from 1.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub millis: u64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: Cow<'static, str>,
    /// What: printable ASCII only.
    pub text: String,
}

/// The last lines.
#[derive(Debug, Default)]
pub struct Recent {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    lines: VecDeque<Line>,
}

impl Recent {
    /// Keeps one line; `text` must be escaped. The memory of the line that leaves serves it.
    pub fn push(&self, millis: u64, level: &'static str, text: &str) {
        let kept = text.get(..text.floor_char_boundary(LINE_LENGTH)).unwrap_or_default();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let leaves = if inner.lines.len() == LINES { inner.lines.pop_front() } else { None };
        let mut text = leaves.map(|line| line.text).unwrap_or_default();
        kept.clone_into(&mut text);
        inner.next = inner.next.saturating_add(1);
        let number = inner.next;
        inner.lines.push_back(Line { number, millis, level: Cow::Borrowed(level), text });
    }

    /// The lines behind number `since`, oldest first, at most `most` of the newest.
    #[must_use]
    pub fn since(&self, since: u64, most: usize) -> Vec<Line> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let new = inner.lines.iter().filter(|line| line.number > since).count();
        inner.lines.iter().skip(inner.lines.len().saturating_sub(new.min(most))).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_leave_and_numbers_go_on() {
        let recent = Recent::default();
        for number in 0..LINES + 5 {
            recent.push(0, "info", &format!("line {number}"));
        }
        let all = recent.since(0, usize::MAX);
        assert_eq!(all.len(), LINES);
        assert_eq!(all.first().map(|line| line.number), Some(6));
        let new = recent.since(1_003, usize::MAX);
        assert_eq!(new.iter().map(|line| line.number).collect::<Vec<_>>(), vec![1_004, 1_005]);
        assert_eq!(recent.since(0, 1).iter().map(|line| line.number).collect::<Vec<_>>(), vec![1_005]);
    }

    #[test]
    fn a_long_line_is_cut() {
        let recent = Recent::default();
        recent.push(0, "info", &"x".repeat(10_000));
        assert_eq!(recent.since(0, 1).first().map(|line| line.text.len()), Some(LINE_LENGTH));
    }
}
