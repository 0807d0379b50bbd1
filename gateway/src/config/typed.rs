//! From the tree of a file to a [`Config`], with every problem on the way.
//!
//! Owns the rounds: serde stops at its first error, so the error is noted, the value it is about
//! is dropped from the tree, and the rest is tried again. The number of rounds is bounded.

use std::collections::HashSet;

use serde_path_to_error::Segment;
use serde_yaml::{Mapping, Value};

use super::explain::{self, Complaint};
use super::file::Config;
use super::problem::{MOST_PROBLEMS, Problems};
use super::tree::{Kind, Node, State, Step};

/// Rounds after which the rest of a file is left unread. Every round tells a problem or settles
/// that a value which looks like a number is text.
const MOST_ROUNDS: usize = 4 * MOST_PROBLEMS;

/// Types `root`. What could not be typed is told in `problems` and left at its default.
pub(super) fn type_it(root: &mut Node, text: &str, problems: &mut Problems) -> Option<Config> {
    let mut told = HashSet::new();
    for _ in 0..MOST_ROUNDS {
        let error = match serde_path_to_error::deserialize::<_, Config>(to_value(root)) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let steps = steps(error.path());
        let mut complaint = Complaint::of(&error.inner().to_string());
        if let Complaint::UnknownKey { allowed, told_before, .. } = &mut complaint {
            *told_before = !told.insert(allowed.clone());
        }
        settle(root, &steps, &complaint, text, problems);
        if problems.more {
            return None;
        }
    }
    problems.more = true;
    None
}

/// Tells the problem and takes its cause out of the tree, or has the value read as text.
fn settle(root: &mut Node, steps: &[Step], complaint: &Complaint, text: &str, problems: &mut Problems) {
    let (node, under, gone) = root.follow(steps);
    let place = node.shown_at(under.map(|entry| entry.place));
    let at = steps.get(..gone).unwrap_or_default();
    match complaint {
        Complaint::UnknownKey { key, allowed, told_before } => {
            let message = explain::unknown_key(key, allowed, *told_before, at);
            problems.error(text, under.map_or(place, |entry| entry.place), &message);
        }
        Complaint::MissingKey { key } => {
            // A key that is there and wrong was told of already.
            if node.entry(key).is_none() {
                problems.error(text, place, &format!("`{key}` is missing; it has no default"));
            }
        }
        Complaint::NotText if may_be_text(node) => {
            if let Some(node) = root.follow_mut(at) {
                node.state = State::AsText;
            }
            return;
        }
        Complaint::NotWord => {
            // As text it is no right word either, and then serde says which words are.
            if let Some(node) = root.follow_mut(at) {
                node.state = State::AsText;
                match node.kind {
                    Kind::Value { .. } => {}
                    Kind::List(_) => node.kind = Kind::Value { text: "a list".to_owned(), plain: false },
                    Kind::Section(_) => {
                        node.kind = Kind::Value { text: "a section".to_owned(), plain: false }
                    }
                }
            }
            return;
        }
        Complaint::NotText | Complaint::Other(_) => {
            problems.error(text, place, &explain::wrong_value(complaint, node, at));
        }
    }
    if !root.drop_at(at) {
        problems.more = true;
    }
}

/// Whether `node` was typed as a number or the like and may be tried as text.
fn may_be_text(node: &Node) -> bool {
    matches!(node.kind, Kind::Value { plain: true, .. }) && node.state == State::Kept && !node.is_blank()
}

fn steps(path: &serde_path_to_error::Path) -> Vec<Step> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// What serde sees of `node`: without the values dropped and the keys left blank.
fn to_value(node: &Node) -> Value {
    match &node.kind {
        Kind::Value { text, plain: true } if node.state != State::AsText => scalar(text),
        Kind::Value { text, .. } => Value::String(text.clone()),
        Kind::List(items) => {
            items.iter().filter(|item| item.state != State::Dropped).map(to_value).collect::<Vec<_>>().into()
        }
        Kind::Section(entries) => entries
            .iter()
            .filter(|entry| entry.value.state != State::Dropped && !entry.value.is_blank())
            .map(|entry| (Value::String(entry.key.clone()), to_value(&entry.value)))
            .collect::<Mapping>()
            .into(),
    }
}

/// A value without quotes, by the core schema of YAML 1.2 section 10.3.2; a number with a leading
/// zero is text, so that nobody's `010` is taken for eight or ten.
fn scalar(text: &str) -> Value {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.contains('.');
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        hex if hex.starts_with("0x") => hex
            .get(2..)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map_or_else(|| Value::String(hex.to_owned()), Value::from),
        _ if leading_zero || !digits.starts_with(|c: char| c.is_ascii_digit()) => {
            Value::String(text.to_owned())
        }
        _ => text
            .parse::<u64>()
            .map(Value::from)
            .or_else(|_| text.parse::<i64>().map(Value::from))
            .or_else(|_| text.parse::<f64>().map(Value::from))
            .unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}
