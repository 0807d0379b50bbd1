//! What is wrong with a configuration, told so that the operator can put it right.
//!
//! Owns the wording's frame: file, line, column, what to write, and the line itself with a caret.
//! Never lets a control character of the file reach a terminal, nor shows a secret.

use std::fmt;

use serde::Serialize;

use super::mask::{self, Shown};

/// How many problems are told in one go; a file with more gets a last line that says so.
pub(super) const MOST_PROBLEMS: usize = 50;

/// Most characters of a value that a message repeats.
const LONGEST_QUOTE: usize = 60;

/// Longest message in characters, whatever a file has in it.
const LONGEST_MESSAGE: usize = 800;

/// Widest piece of a source line that is shown, in characters.
const EXCERPT_WIDTH: usize = 96;

/// Whether a problem keeps the gateway from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is taken, but an operator should look.
    Warning,
}

/// A stretch of one line of the file; line and column count from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) width: usize,
}

impl Place {
    /// Where a file begins.
    pub(super) const START: Self = Self { line: 1, column: 1, width: 1 };

    /// For what is not written anywhere: no line of the file is shown.
    pub(crate) const NOWHERE: Self = Self { line: 1, column: 1, width: 0 };
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether it keeps the gateway from starting.
    pub severity: Severity,
    /// Line in the file, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to write instead; one line.
    pub message: String,
    /// The source line, cut to what fits a terminal.
    excerpt: String,
    /// Characters of `excerpt` before the caret.
    indent: usize,
    /// Number of carets.
    width: usize,
}

/// All problems of one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The file's name, as the operator gave it.
    pub file: String,
    /// The problems; not more than 50.
    pub list: Vec<Problem>,
    /// Whether there are more than `list` holds.
    pub more: bool,
}

impl Problems {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: printable(file), list: Vec::new(), more: false }
    }

    /// Whether any problem keeps the gateway from starting.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        // The list has one of them if there is any: see `add`.
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a problem at `place` of `text`; a place behind the end becomes the end.
    pub(super) fn add(&mut self, severity: Severity, text: &str, mut place: Place, message: &str) {
        if self.list.len() >= MOST_PROBLEMS {
            self.more = true;
            // An error takes the place of a warning, of which a file with many lane rules may have thousands.
            let warning = self.list.iter().rposition(|problem| problem.severity == Severity::Warning);
            let (Severity::Error, Some(warning)) = (severity, warning) else { return };
            self.list.remove(warning);
        }
        if place.width != 0 && text.lines().nth(place.line.saturating_sub(1)).is_none() {
            let last = text.lines().last().unwrap_or_default();
            place = Place { line: text.lines().count().max(1), column: last.chars().count() + 1, width: 1 };
        }
        let number = place.line.saturating_sub(1);
        let source = if place.width == 0 { "" } else { text };
        let Shown { line, at, width } =
            mask::shown(source, number, place.column.saturating_sub(1), place.width);
        let (excerpt, indent) = cut(&line, at);
        let shown = excerpt.chars().count().saturating_sub(indent).max(1);
        self.list.push(Problem {
            severity,
            line: place.line,
            column: place.column,
            message: shortened(message),
            excerpt,
            indent,
            width: width.clamp(1, shown),
        });
    }

    pub(crate) fn error(&mut self, text: &str, place: Place, message: &str) {
        self.add(Severity::Error, text, place, message);
    }

    pub(crate) fn warning(&mut self, text: &str, place: Place, message: &str) {
        self.add(Severity::Warning, text, place, message);
    }

    pub(crate) fn sort(&mut self) {
        self.list.sort_by_key(|problem| (problem.line, problem.column));
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.list.iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            let kind = match problem.severity {
                Severity::Error => "",
                Severity::Warning => "warning: ",
            };
            let Problem { line, column, message, excerpt, indent, width, .. } = problem;
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            write!(f, "{}:{line}:{column}: {kind}{message}", self.file)?;
            if !excerpt.trim().is_empty() {
                write!(f, "\n  {number} | {excerpt}\n  {margin} | ")?;
                write!(f, "{}{}", " ".repeat(*indent), "^".repeat(*width))?;
            }
        }
        if self.more {
            write!(f, "\n{}: more than {MOST_PROBLEMS} problems; correct these first", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// `message` with the long values between backticks cut.
fn shortened(message: &str) -> String {
    let mut quoted = true;
    let parts = message.split('`').map(|part| {
        quoted = !quoted;
        if quoted { cut_after(part, LONGEST_QUOTE) } else { part.to_owned() }
    });
    cut_after(&printable(&parts.collect::<Vec<_>>().join("`")), LONGEST_MESSAGE)
}

fn cut_after(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The part of `line` around character `at` that is shown, and where `at` is in it.
fn cut(line: &str, at: usize) -> (String, usize) {
    let skipped = if at < EXCERPT_WIDTH * 3 / 4 { 0 } else { at - EXCERPT_WIDTH / 4 };
    let piece: String = line.chars().skip(skipped).take(EXCERPT_WIDTH).collect();
    (printable(piece.trim_end()), at - skipped)
}

/// `text` with every character that could steer a terminal replaced.
pub(super) fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if steers(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}
