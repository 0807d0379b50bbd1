//! The configuration: what an operator may write, and what is wrong with what he wrote.
//!
//! Owns the shape of `gateway.yaml` and its defaults. Pure: it is given text and gives back
//! values or problems; only the callers open files. The only module that names `serde_yaml`.

mod check;
mod condition;
pub mod decimal;
mod explain;
pub mod file;
pub(crate) mod first_match;
pub(crate) mod lane_index;
mod mask;
pub(crate) mod pattern;
mod problem;
mod reference;
mod schema;
mod syntax;
mod tree;
mod typed;
pub mod units;

pub use file::Config;
pub use problem::{Problem, Problems, Severity};
pub use reference::reference;
pub use schema::schema;

use std::io::{self, Read};

pub(crate) use explain::nearest;
pub(crate) use problem::Place;

/// Longest file that is read. Thousands of lane rules are a few hundred kilobytes.
const LONGEST_FILE: usize = 1024 * 1024;

/// Longest line that is read, in bytes. The parser takes a line apart as a whole before it gives
/// away the first piece, at some hundred bytes of memory each.
const LONGEST_LINE: usize = 64 * 1024;

/// Reads the bytes of a configuration file, and no more of a longer one than [`examine`] needs to
/// refuse it.
///
/// # Errors
///
/// When `file` cannot be read.
pub fn bytes_of(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes `config` as YAML with every key, such that [`parse`] gives it back if it holds no secrets:
/// these are not shown.
#[must_use]
pub fn to_yaml(config: &Config) -> String {
    // The configuration has no value that YAML cannot express.
    serde_yaml::to_string(config).unwrap_or_default()
}

/// Reads a configuration; `name` is how messages call the file. Warnings are left out: see
/// [`examine`]. An empty text is the default configuration.
///
/// # Errors
///
/// All problems that were found, when at least one of them is more than a warning.
pub fn parse(text: &str, name: &str) -> Result<Config, Problems> {
    examine(text.as_bytes(), name).map(|(config, _)| config)
}

/// Reads a configuration from the bytes of a file, and gives its warnings along with it.
///
/// # Errors
///
/// All problems that were found, warnings among them, when at least one is more than a warning.
pub fn examine(bytes: &[u8], name: &str) -> Result<(Config, Problems), Problems> {
    let mut problems = Problems::new(name);
    let config = text_of(bytes, &mut problems).and_then(|text| {
        let mut root = tree::read(text, &mut problems)?;
        let config = typed::type_it(&mut root, text, &mut problems)?;
        check::check(&config, &root, text, &mut problems);
        Some(config)
    });
    problems.sort();
    match config {
        Some(config) if !problems.has_errors() => Ok((config, problems)),
        _ => Err(problems),
    }
}

/// What is wrong with files that a configuration names, told at the keys that name them: paths such as
/// `delivery.dkim.0.key`, each with its message.
#[must_use]
pub fn blame(text: &str, name: &str, faults: &[(String, String)]) -> Problems {
    let mut problems = Problems::new(name);
    if let Some(root) = tree::read(text, &mut problems) {
        check::blame(&root, text, faults, &mut problems);
    }
    problems.sort();
    problems
}

/// The text of a file, if it is text and not too long.
fn text_of<'b>(bytes: &'b [u8], problems: &mut Problems) -> Option<&'b str> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (text, valid) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, true),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            (std::str::from_utf8(valid).unwrap_or_default(), false)
        }
    };
    let too_long = bytes.len() > LONGEST_FILE;
    let bytes = text.as_bytes();
    let lone_cr = |at: usize| bytes.get(at + 1) != Some(&b'\n');
    let odd = text
        .char_indices()
        .find(|(at, c)| c.is_control() && !matches!(c, '\n' | '\t') && (*c != '\r' || lone_cr(*at)));
    let end = text.floor_char_boundary(LONGEST_FILE);
    if let Some((at, c)) = odd.filter(|(at, _)| *at < end) {
        let message = format!("the control character U+{:04X} stands here; remove it", u32::from(c));
        problems.error(text, place_of(text, at), &message);
    } else if too_long {
        let message =
            format!("longer than {LONGEST_FILE} bytes up to here; no configuration is as long as this");
        problems.error(text, place_of(text, end), &message);
    } else if let Some(line) = text.lines().find(|line| line.len() > LONGEST_LINE) {
        let start = line.as_ptr().addr() - text.as_ptr().addr();
        let message =
            format!("a line of more than {LONGEST_LINE} bytes; write lists with one `- item` a line");
        problems.error(text, place_of(text, start), &message);
    } else if !valid {
        problems.error(
            text,
            place_of(text, text.len()),
            "the file is not text in UTF-8 from here on; save it as UTF-8",
        );
    } else {
        return Some(text);
    }
    None
}

/// The place of the byte at `offset` of `text`.
fn place_of(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Place { line, column, width: 1 }
}
