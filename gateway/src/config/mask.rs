//! Secrets in lines of a file that are shown to whoever reads a problem.
//!
//! Owns which keys hold secrets, and where in a line their values stand. Works on the text: a file that is
//! no YAML has secrets, too. In doubt more is hidden than there is.

use std::ops::Range;

use super::file::MASK;

/// Keys with a value of the type `Secret`.
const SECRETS: [&str; 4] = ["authorization", "hash-key", "password", "secret"];
/// From this likeness on another key is one of them with a slip in it.
const LIKE: f64 = 0.9;
/// How many characters it may have too many, or too few.
const SLIPS: usize = 2;
/// Lines that a secret may have.
const LONGEST_SECRET: usize = 100;

/// A piece of a line as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) line: String,
    /// Where the piece that is pointed at begins, in characters.
    pub(super) at: usize,
    /// How many characters it has.
    pub(super) width: usize,
}

/// Whether the value of this key is never shown.
pub(super) fn is_secret(key: &str) -> bool {
    let slip = |secret: &&&str| key.len().abs_diff(secret.len()) <= SLIPS;
    let like = |secret: &str| strsim::jaro_winkler(&key.to_ascii_lowercase().replace('_', "-"), secret);
    SECRETS.iter().filter(slip).any(|secret| like(secret) >= LIKE)
}

/// Line `number` of `text`, counted from 0, without the secrets in it; what is pointed at moves along.
pub(super) fn shown(text: &str, number: usize, mut at: usize, mut width: usize) -> Shown {
    let line: Vec<char> = text.lines().nth(number).unwrap_or_default().chars().collect();
    let mut hidden = secrets(&line);
    if hidden.is_empty() && continues_secret(text, number) {
        let start = line.iter().position(|c| !matches!(c, ' ' | '\t')).unwrap_or(line.len());
        hidden.push(start..line.len());
    }
    let mut shown = String::new();
    let mut rest = 0;
    for piece in &hidden {
        shown.extend(line.get(rest..piece.start).unwrap_or_default());
        shown.push_str(MASK);
        rest = piece.end;
    }
    shown.extend(line.get(rest..).unwrap_or_default());
    for Range { start, end } in hidden.into_iter().rev() {
        let mask = start.saturating_add(MASK.len());
        let moved = |place: usize| match place {
            before if before <= start => before,
            inside if inside < end => mask,
            behind => behind.saturating_sub(end).saturating_add(mask),
        };
        let (begin, stop) =
            (if at > start && at < end { start } else { moved(at) }, at.saturating_add(width));
        width = moved(stop).saturating_sub(begin).max(1);
        at = begin;
    }
    Shown { line: shown, at, width }
}

/// Where the values of secrets stand in a line.
fn secrets(line: &[char]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut at, mut depth) = (0, 0_i64);
    while let Some(key) = word(line, at) {
        depth += braces(line.get(at..key.start).unwrap_or_default());
        at = key.end;
        let name: String = line.get(key.clone()).unwrap_or_default().iter().collect();
        if may_be_key(line, key.start)
            && is_secret(&name)
            && let Some(value) = value(line, key.end, depth > 0)
        {
            at = value.end;
            found.push(value);
        }
    }
    if found.is_empty() {
        found.extend(account(line));
    }
    found
}

/// Where the account of a URL stands (RFC 3986 section 3.2.1), which no key takes.
fn account(line: &[char]) -> Option<Range<usize>> {
    let start = line.windows(3).position(|piece| piece == [':', '/', '/'])? + 3;
    let authority = line.get(start..)?.split(|c| matches!(c, '/' | '?' | '#' | ' ' | '\t')).next()?;
    let at = authority.iter().rposition(|c| *c == '@')?;
    (at > 0).then_some(start..start + at)
}

/// How many more sections in braces begin than end in a piece of a line.
fn braces(piece: &[char]) -> i64 {
    piece.iter().map(|c| i64::from(*c == '{') - i64::from(*c == '}')).sum()
}

/// The next word at or behind `from`.
fn word(line: &[char], from: usize) -> Option<Range<usize>> {
    let is_word = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let start = from + line.get(from..)?.iter().position(|c| c.is_alphanumeric())?;
    let length = line.get(start..)?.iter().position(|c| !is_word(c));
    Some(start..length.map_or(line.len(), |length| start + length))
}

/// Whether a key may begin at `start`: first in its line, or in a section in braces.
fn may_be_key(line: &[char], start: usize) -> bool {
    let before = line.get(..start).unwrap_or_default();
    let last = before.iter().rev().find(|c| !matches!(c, ' ' | '\t' | '"' | '\'' | '-' | '?'));
    last.is_none_or(|c| matches!(c, '{' | ',' | '['))
}

/// Where the value behind a key that ends at `end` stands, if it is in this line; a forgotten colon changes
/// nothing.
fn value(line: &[char], end: usize, in_braces: bool) -> Option<Range<usize>> {
    let separates = |c: &char| matches!(c, ' ' | '\t' | ':' | '=');
    // The quote of a key in quotes.
    let end = if matches!(line.get(end), Some('"' | '\'')) { end + 1 } else { end };
    let start = end + line.get(end..)?.iter().position(|c| !separates(c))?;
    let first = *line.get(start)?;
    let all = start..line.len();
    match first {
        '#' => None,
        // The text of a block stands on the lines that follow.
        '|' | '>' if line.len() <= start + 3 => None,
        '"' | '\'' => Some(quoted(line, start, first).unwrap_or(all)),
        _ if in_braces => {
            let ends = (start..line.len()).find(|at| ends_value(line, *at));
            Some(ends.map_or(all, |end| start..end))
        }
        _ => Some(all),
    }
}

/// A value in quotes, if it ends properly.
fn quoted(line: &[char], start: usize, quote: char) -> Option<Range<usize>> {
    let mut at = start + 1;
    loop {
        let c = *line.get(at)?;
        let doubled = quote == '\'' && c == quote && line.get(at + 1) == Some(&quote);
        if doubled || quote == '"' && c == '\\' {
            at += 2;
        } else if c == quote {
            break;
        } else {
            at += 1;
        }
    }
    let next = line.get(at + 1..)?.iter().find(|c| !matches!(c, ' ' | '\t'));
    next.is_none_or(|c| matches!(c, ',' | '}' | ']' | '#')).then_some(start..at + 1)
}

/// Whether a value without quotes in braces ends before `at`: behind it is another key or nothing.
fn ends_value(line: &[char], at: usize) -> bool {
    if !matches!(line.get(at), Some(',' | '}')) {
        return false;
    }
    let rest = line.get(at..).unwrap_or_default();
    let closes = |c: &&char| matches!(c, ',' | '}' | ']' | ' ' | '\t' | '"' | '\'');
    let skipped = rest.iter().take_while(closes).count();
    let Some(key) = word(rest, skipped).filter(|key| key.start == skipped) else {
        return skipped == rest.len() || rest.get(skipped) == Some(&'#');
    };
    let behind = rest.get(key.end..).unwrap_or_default();
    behind.iter().find(|c| !matches!(c, ' ' | '"' | '\'')) == Some(&':')
}

/// Whether the line belongs to a value that began in a line above: one of those that it stands below is the
/// key of a secret.
fn continues_secret(text: &str, number: usize) -> bool {
    let first = number.saturating_sub(LONGEST_SECRET);
    let lines: Vec<&str> = text.lines().skip(first).take(number - first + 1).collect();
    let Some((last, above)) = lines.split_last() else { return false };
    let mut least = depth(last);
    for line in above.iter().rev().filter(|line| !line.trim().is_empty()) {
        if depth(line) >= least {
            continue;
        }
        least = depth(line);
        let line: Vec<char> = line.chars().collect();
        let key = word(&line, 0).filter(|key| may_be_key(&line, key.start)).unwrap_or_default();
        if is_secret(&line.get(key).unwrap_or_default().iter().collect::<String>()) {
            return true;
        }
    }
    false
}

/// How deep a line is; a dash stands below the key that it is as far in as.
fn depth(line: &str) -> usize {
    let text = line.trim_start_matches([' ', '\t']);
    2 * (line.len() - text.len()) + usize::from(text.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    fn line(text: &str) -> String {
        shown(text, 0, 0, 1).line
    }

    #[test]
    fn values_of_secrets_are_hidden_however_they_are_written() {
        for (written, told) in [
            ("secret: hunter2", "secret: ********"),
            ("  password: 'it''s #1, really'  # why", "  password: ********  # why"),
            ("password: \"a\\\"b\"", "password: ********"),
            ("\"password\": hunter2", "\"password\": ********"),
            ("- secret: hunter2", "- secret: ********"),
            ("secret:hunter2", "secret:********"),
            ("secret hunter2", "secret ********"),
            ("secret: 'hunter2", "secret: ********"),
            ("secret: 'hun'ter2'", "secret: ********"),
            ("pasword: hunter2", "pasword: ********"),
            ("hash_key: hunter2", "hash_key: ********"),
            ("secret: [hunter2]", "secret: ********"),
            ("lookup: { secret: hunter2, tries: 1 }", "lookup: { secret: ********, tries: 1 }"),
            ("lookup: {tries: 1, secret: 'x'}", "lookup: {tries: 1, secret: ********}"),
            ("a: {secret: a,b}c, tries: 1}", "a: {secret: ********, tries: 1}"),
            ("a: {secret: a,b c", "a: {secret: ********"),
            ("a: {secret: x, password: y}", "a: {secret: ********, password: ********}"),
            (
                "webhook: {url: 'https://x/', authorization: Bearer t}",
                "webhook: {url: 'https://x/', authorization: ********}",
            ),
            ("url: https://me:hunter2@x.example/@", "url: https://********@x.example/@"),
        ] {
            assert_eq!(line(written), told, "{written}");
        }
        for open in [
            "name: secret",
            "# secret: x",
            "sasl-password-maps: [x]",
            "secret:",
            "secret: |",
            "a: [\"hash:/b\"]",
            "server: x",
        ] {
            assert_eq!(line(open), open);
        }
    }

    #[test]
    fn lines_below_the_key_of_a_secret_are_hidden() {
        for text in [
            "a:\n  secret: |\n    hunter2",
            "secret:\n- hunter2",
            "secret: 'x\n\n  hunter2'",
            "secret: |\n  first\n    hunter2",
        ] {
            let last = text.lines().count() - 1;
            let told = shown(text, last, 0, 1).line;
            assert!(!told.contains("hunter2") && told.trim() == MASK, "{text}: {told}");
        }
        let text = "lookup:\n  secret: x\n  tries: many";
        assert_eq!(shown(text, 2, 9, 4), Shown { line: "  tries: many".to_owned(), at: 9, width: 4 });
    }

    #[test]
    fn what_is_pointed_at_moves_with_the_text() {
        let text = "a: {secret: a-long-secret, tries: many}";
        let tries = shown(text, 0, 34, 4);
        assert_eq!(tries.line.get(tries.at..tries.at + tries.width), Some("many"));
        for (at, width) in [(12, 13), (15, 3)] {
            let secret = shown(text, 0, at, width);
            assert_eq!(secret.line.get(secret.at..secret.at + secret.width), Some(MASK));
        }
        let section = shown(text, 0, 3, 36);
        assert_eq!(section.line.get(section.at..section.at + section.width), section.line.get(3..));
        assert_eq!(shown("secret: x", 0, 0, 6).width, 6);
    }

    /// The names of all keys below `schema`, and whether their values are secrets.
    fn keys(schema: &Value, found: &mut BTreeMap<String, bool>) {
        for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let secret = value.to_string().contains("\"#/$defs/Secret\"");
            *found.entry(key.clone()).or_default() |= secret;
        }
        let below = schema.as_object().into_iter().flat_map(|object| object.values());
        below.chain(schema.as_array().into_iter().flatten()).for_each(|below| keys(below, found));
    }

    #[test]
    fn exactly_the_keys_with_secrets_are_taken_for_them() {
        let mut all = BTreeMap::new();
        keys(&serde_json::from_str(&super::super::schema()).unwrap(), &mut all);
        assert!(all.len() > 100, "{}", all.len());
        let secrets = all.iter().filter_map(|(key, secret)| secret.then_some(key));
        assert_eq!(secrets.collect::<Vec<_>>(), SECRETS);
        let hidden = all.keys().filter(|key| is_secret(key));
        assert_eq!(hidden.collect::<Vec<_>>(), SECRETS);
    }
}
