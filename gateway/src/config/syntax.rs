//! What a YAML parser's complaint means to somebody who edits a configuration.
//!
//! Owns the hints for the mistakes that are made again and again: tabs, a forgotten colon, bracket or
//! space, an IPv6 address without quotes.

use super::problem::Place;

/// What is told of lists or sections far inside others.
pub(super) const NESTED_TOO_DEEPLY: &str =
    "nested too deeply; no key of the configuration is as deep as this";

/// The place an operator should look at and what to tell him, from the parser's `complaint`.
pub(super) fn explain(text: &str, place: Place, complaint: &str) -> (Place, String) {
    let first = place.line.saturating_sub(2);
    for (number, line) in
        text.lines().enumerate().skip(first).take(2).filter(|(number, _)| *number < place.line)
    {
        let here = |column, width| Place { line: number + 1, column: column + 1, width };
        if let Some(column) = tab_in_indentation(line) {
            return (here(column, 1), "a tab indents this line; YAML wants spaces".to_owned());
        }
        if let Some((column, width)) = bare_ipv6(line) {
            let message = "an IPv6 address with a port needs quotes; write for example `\"[::1]:10025\"`";
            return (here(column, width), message.to_owned());
        }
    }
    let is_clear = ["scalar", "recursion", "anchor"].iter().any(|word| complaint.contains(word));
    if let Some((at, bracket)) = open_bracket(text, place).filter(|_| !is_clear) {
        let end = if bracket == '[' { ']' } else { '}' };
        let message = format!("this `{bracket}` has no end: a `{end}` or a comma is missing ({complaint})");
        return (at, message);
    }
    const INDENTATION: &str =
        "a colon or the space after it is missing, or this line or the one before is indented wrongly";
    let message = match complaint {
        c if c.contains("unknown anchor") => {
            "`*` refers to another value; write the value itself, or put quotes around it".to_owned()
        }
        c if c.contains("recursion limit") => NESTED_TOO_DEEPLY.to_owned(),
        c if c.contains("quoted scalar") => format!("a quote has no end here ({c})"),
        c if c.contains("flow") || c.contains("':' indicator") || c.contains("bracket") => {
            format!("a `]`, `}}` or comma is missing here or before ({c})")
        }
        c if c.contains("cannot start any token") => {
            format!("put quotes around a value that begins so ({c})")
        }
        c => format!("{INDENTATION} ({c})"),
    };
    (place, message)
}

fn tab_in_indentation(line: &str) -> Option<usize> {
    let indentation = line.len() - line.trim_start_matches([' ', '\t', '-']).len();
    line.get(..indentation)?.find('\t')
}

/// The last bracket before `place` that opens a list or a section and is closed nowhere.
fn open_bracket(text: &str, place: Place) -> Option<(Place, char)> {
    let mut open = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // Whether a value may begin here, and in which quotes this is.
        let (mut begins, mut quote, mut escaped) = (true, None, false);
        for (column, letter) in line.chars().enumerate() {
            if let Some(end) = quote {
                if letter == end && !escaped {
                    // A single quote in single quotes is written twice.
                    (quote, begins) = (None, end == '\'');
                }
                escaped = letter == '\\' && !escaped && end == '"';
                continue;
            }
            match letter {
                '#' if begins => break,
                '"' | '\'' if begins => (quote, begins) = (Some(letter), false),
                '[' | '{' if begins || !open.is_empty() => {
                    open.push((Place { line: number + 1, column: column + 1, width: 1 }, letter));
                    begins = true;
                }
                ']' | '}' => begins = open.pop().is_none(),
                ':' | ',' => begins = true,
                '-' | ' ' | '\t' => {}
                _ => begins = false,
            }
        }
    }
    open.into_iter().rfind(|(at, _)| (at.line, at.column) < (place.line, place.column))
}

/// Where `[…::…]:port` stands in `line` without quotes, and how wide it is.
fn bare_ipv6(line: &str) -> Option<(usize, usize)> {
    let end = line.find("]:")?;
    let start = line.get(..end)?.rfind('[')?;
    let inside = line.get(start + 1..end)?;
    let quoted = line.get(..start)?.ends_with(['"', '\'']);
    let address =
        inside.contains(':') && inside.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
    let port = line.get(end + 2..)?.chars().take_while(char::is_ascii_digit).count();
    (address && port > 0 && !quoted)
        .then(|| (line.get(..start).map_or(0, |before| before.chars().count()), end + 2 + port - start))
}
