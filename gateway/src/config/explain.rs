//! What serde's complaint means to an operator.
//!
//! Owns the reading of serde's own messages (`serde::de::Error` has their wording) and the
//! sentences made of them. The values' own types bring their sentences along.

use std::fmt::Write as _;

use super::mask;
use super::tree::{Kind, Node, Step};

/// What serde complained about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// A key that is not one of `allowed`, which may have been listed before.
    UnknownKey { key: String, allowed: Vec<String>, told_before: bool },
    /// A key without a default is not there.
    MissingKey { key: String },
    /// Text was wanted, and the value looks like a number or the like.
    NotText,
    /// One of several words was wanted, and the value is no word at all.
    NotWord,
    /// Something about the value; serde's or the type's own words.
    Other(String),
}

impl Complaint {
    /// Reads serde's `message`.
    pub(super) fn of(message: &str) -> Self {
        let mut quoted = quoted(message);
        if message.starts_with("unknown field `") && !quoted.is_empty() {
            let key = quoted.remove(0);
            Self::UnknownKey { key, allowed: quoted, told_before: false }
        } else if message.starts_with("missing field `") && !quoted.is_empty() {
            Self::MissingKey { key: quoted.remove(0) }
        } else if message.starts_with("invalid type: ")
            && (message.ends_with("expected a string") || message.ends_with("expected path string"))
        {
            Self::NotText
        } else if message.starts_with("invalid type: ") && message.ends_with("enum") {
            Self::NotWord
        } else {
            Self::Other(message.to_owned())
        }
    }
}

/// The words between backticks in `message`.
fn quoted(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What to tell of `key`, which stands at `at` where only `allowed` may stand.
pub(super) fn unknown_key(key: &str, allowed: &[String], told_before: bool, at: &[Step]) -> String {
    let mut message = format!("unknown key `{key}`");
    if let Some(near) = nearest(key, allowed.iter().map(String::as_str)) {
        write_to(&mut message, format_args!("; did you mean `{near}`?"));
    }
    if told_before {
        return message;
    }
    let section = at.iter().rev().skip(1).find_map(|step| match step {
        Step::Key(key) => Some(key),
        Step::Index(_) => None,
    });
    match section {
        Some(section) => write_to(&mut message, format_args!(" (keys of `{section}`: {})", listed(allowed))),
        None => write_to(&mut message, format_args!(" (keys: {})", listed(allowed))),
    }
    message
}

/// What to tell of the value `node` at `at`.
pub(super) fn wrong_value(complaint: &Complaint, node: &Node, at: &[Step]) -> String {
    let key = at.iter().rev().find_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) => None,
    });
    let key = key.unwrap_or_default();
    let written = match &node.kind {
        Kind::Value { .. } if mask::is_secret(key) => "this value".to_owned(),
        Kind::Value { text, .. } if text.is_empty() => "an empty value".to_owned(),
        Kind::Value { text, .. } => format!("`{}`", text),
        Kind::List(_) => "a list".to_owned(),
        Kind::Section(_) => "a section".to_owned(),
    };
    let message = match complaint {
        Complaint::Other(message) => message.as_str(),
        Complaint::NotText => {
            return format!("{written} is not what `{key}` takes; write one value, as text");
        }
        Complaint::UnknownKey { .. } | Complaint::MissingKey { .. } | Complaint::NotWord => "",
    };
    if message.starts_with("unknown variant `") {
        let mut words = quoted(message);
        let given = if words.is_empty() { String::new() } else { words.remove(0) };
        let near = nearest(&given, words.iter().map(String::as_str))
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return format!("{written} is not a value of `{key}`{near} (values: {})", listed(&words));
    }
    match message.rsplit_once("expected ") {
        Some((_, "a sequence")) if matches!(&node.kind, Kind::Value { text, .. } if !text.is_empty()) => {
            let list = written.replacen('`', "`[", 1);
            let list = list.strip_suffix('`').unwrap_or(&list);
            format!("`{key}` takes a list, even of one; write {list}]`")
        }
        Some((_, wanted)) if message.starts_with("invalid ") => {
            format!("{written} is not what `{key}` takes; write {}", plainly(wanted))
        }
        _ if message == "invalid socket address syntax" => {
            format!(
                "{written} is not an address with a port; write for example `127.0.0.1:10025` or `\"[::1]:10025\"`"
            )
        }
        _ if message == "invalid IPv4 address syntax" => {
            format!("{written} is not an IPv4 address; write for example `192.0.2.1`")
        }
        _ if message == "invalid IPv6 address syntax" => {
            format!("{written} is not an IPv6 address; write for example `2001:db8::1`")
        }
        _ => message
            .strip_prefix("``")
            .map_or_else(|| message.to_owned(), |rest| format!("an empty value{rest}")),
    }
}

/// What serde calls `wanted`, in an operator's words.
fn plainly(wanted: &str) -> String {
    let whole = |most: u64| format!("a whole number from 0 to {most}");
    match wanted {
        "u16" => whole(u64::from(u16::MAX)),
        "u32" => whole(u64::from(u32::MAX)),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "a sequence" => "a list, for example `[one, two]` or one `- item` a line".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        other if other.starts_with("struct ") => {
            "its keys below it, each as `key: value` and indented".to_owned()
        }
        other => other.to_owned(),
    }
}

/// The word of `words` that `given` was most likely meant to be.
pub(crate) fn nearest<'w>(given: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let plain = |word: &str| word.to_ascii_lowercase().replace('_', "-");
    let given = plain(given);
    words
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&given, &plain(word)), word))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

fn listed(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn write_to(message: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    message.write_fmt(words).unwrap_or_default();
}
