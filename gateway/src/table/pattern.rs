//! Tables of patterns: `regexp` and `pcre`.

use std::borrow::Cow;

use regex::bytes::{Captures, Regex, RegexBuilder};

use super::TableProblems;
use super::line::Line;

/// Most memory that one compiled expression may take.
const LARGEST: usize = 1024 * 1024;
/// Most of these a table may have: each is tried for each key.
const MOST_RULES: usize = 10_000;

/// Which notation a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// regexp_table(5).
    Regexp,
    /// pcre_table(5).
    Pcre,
}

/// Patterns, tried in their order.
#[derive(Clone, Debug)]
pub(super) struct Patterns(Vec<Rule>);

#[derive(Clone, Debug)]
enum Rule {
    /// A value for what matches.
    Value { pattern: Regex, value: Vec<Piece> },
    /// A value for what does not.
    Unless { pattern: Regex, value: String },
    /// Rules up to `end` hold only for what matches, or does not.
    If { pattern: Regex, negated: bool, end: usize },
}

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// What this group matched.
    Group(usize),
}

impl Patterns {
    /// Reads `[!]/pattern/flags value` and `if [!]/pattern/flags` … `endif`.
    pub(super) fn read(lines: Vec<Line>, dialect: Dialect, name: &str) -> Result<Self, TableProblems> {
        let mut problems = TableProblems::new(name);
        let mut rules = Vec::new();
        let mut open = Vec::new();
        for Line { number, text } in lines {
            if text.eq_ignore_ascii_case("endif") {
                let length = rules.len();
                match open.pop().map(|(at, _): (usize, usize)| rules.get_mut(at)) {
                    Some(Some(Rule::If { end, .. })) => *end = length,
                    _ => problems.add(number, "this `endif` has no `if`"),
                }
                continue;
            }
            match rule(&text, dialect) {
                Ok(rule) => {
                    if let Rule::If { .. } = rule {
                        open.push((rules.len(), number));
                    }
                    rules.push(rule);
                }
                Err(message) => problems.add(number, message),
            }
            if rules.len() > MOST_RULES {
                problems.add(number, format!("more than {MOST_RULES} patterns"));
                break;
            }
        }
        for (_, number) in open {
            problems.add(number, "this `if` has no `endif`");
        }
        problems.or(Self(rules))
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let mut at = 0usize;
        loop {
            match self.0.get(at)? {
                Rule::Value { pattern, value } => {
                    if let Some(captures) = pattern.captures(key) {
                        return Some(expand(value, &captures));
                    }
                }
                Rule::Unless { pattern, value } if !pattern.is_match(key) => {
                    return Some(Cow::Borrowed(value.as_bytes()));
                }
                Rule::If { pattern, negated, end } if pattern.is_match(key) == *negated => {
                    at = *end;
                    continue;
                }
                Rule::Unless { .. } | Rule::If { .. } => {}
            }
            at = at.saturating_add(1);
        }
    }
}

fn expand<'v>(value: &'v [Piece], captures: &Captures<'_>) -> Cow<'v, [u8]> {
    if let [Piece::Text(text)] = value {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::new();
    for piece in value {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Group(group) => {
                out.extend_from_slice(captures.get(*group).map_or(b"".as_slice(), |group| group.as_bytes()));
            }
        }
    }
    Cow::Owned(out)
}

fn rule(line: &str, dialect: Dialect) -> Result<Rule, String> {
    let conditional = line.get(..2).is_some_and(|word| word.eq_ignore_ascii_case("if"))
        && line.get(2..).is_some_and(|rest| rest.starts_with([' ', '\t', '!', '/']));
    let rest = if conditional { line.get(2..).unwrap_or_default().trim_start() } else { line };
    let (negated, rest) = rest.strip_prefix('!').map_or((false, rest), |rest| (true, rest.trim_start()));
    let (pattern, flags, value) = take_apart(rest)?;
    let pattern = compile(&pattern, flags, dialect)?;
    match (conditional, negated) {
        (true, _) if !value.is_empty() => Err(format!("`{value}` stands behind the condition")),
        (true, negated) => Ok(Rule::If { pattern, negated, end: 0 }),
        (false, _) if value.is_empty() => Err("the pattern has no value".to_owned()),
        (false, true) => match pieces(value, usize::MAX)?.as_slice() {
            [Piece::Text(text)] => Ok(Rule::Unless { pattern, value: text.clone() }),
            _ => Err("what does not match has no groups to put into a value".to_owned()),
        },
        (false, false) => {
            let value = pieces(value, pattern.captures_len().saturating_sub(1))?;
            Ok(Rule::Value { pattern, value })
        }
    }
}

/// Pattern, flags and value of `/pattern/flags value`, with any delimiter.
fn take_apart(text: &str) -> Result<(String, &str, &str), String> {
    let delimiter = text.chars().next().filter(|first| first.is_ascii_punctuation());
    let delimiter = delimiter.ok_or_else(|| format!("`{text}` does not begin with `/pattern/`"))?;
    let inside = text.get(1..).unwrap_or_default();
    let mut escaped = false;
    let mut pattern = String::new();
    for (at, character) in inside.char_indices() {
        if character == delimiter && !escaped {
            let rest = inside.get(at.saturating_add(1)..).unwrap_or_default();
            let (flags, value) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
            return Ok((pattern, flags, value.trim_start()));
        }
        escaped = character == '\\' && !escaped;
        pattern.push(character);
    }
    Err(format!("`{text}` has no `{delimiter}` at the end of its pattern"))
}

fn compile(pattern: &str, flags: &str, dialect: Dialect) -> Result<Regex, String> {
    let mut builder = Flags { ignore_case: true, ..Flags::default() };
    for flag in flags.chars() {
        builder.toggle(flag, dialect)?;
    }
    let anchored =
        if builder.anchored { Cow::Owned(format!("\\A(?:{pattern})")) } else { Cow::Borrowed(pattern) };
    let built = RegexBuilder::new(&anchored)
        .size_limit(LARGEST)
        // Subjects are octets; a pattern in UTF-8 still matches itself.
        .unicode(!pattern.is_ascii())
        .case_insensitive(builder.ignore_case)
        .multi_line(builder.multi_line)
        .dot_matches_new_line(!builder.dot_stops)
        .ignore_whitespace(builder.extended)
        .swap_greed(builder.ungreedy)
        .build();
    built.map_err(|error| {
        format!("`{pattern}` is not a regular expression of this gateway: {}", reason(&error))
    })
}

/// What is wrong, in one line.
fn reason(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(_) = error {
        return format!("compiled it is larger than {} KiB; write a simpler one", LARGEST / 1024);
    }
    let report = error.to_string();
    let line = report.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    ignore_case: bool,
    multi_line: bool,
    dot_stops: bool,
    extended: bool,
    ungreedy: bool,
    anchored: bool,
}

impl Flags {
    fn toggle(&mut self, flag: char, dialect: Dialect) -> Result<(), String> {
        let switch = match (flag, dialect) {
            ('i', _) => &mut self.ignore_case,
            ('m', _) => &mut self.multi_line,
            ('s', Dialect::Pcre) => &mut self.dot_stops,
            ('x', Dialect::Pcre) => &mut self.extended,
            ('U', Dialect::Pcre) => &mut self.ungreedy,
            ('A', Dialect::Pcre) => &mut self.anchored,
            // `$` matches at the very end only, as with `E`; unknown escapes are errors, as with `X`.
            ('E' | 'X', Dialect::Pcre) => return Ok(()),
            ('x', Dialect::Regexp) => {
                return Err(
                    "basic expressions (flag `x`) are not supported; write an extended one".to_owned()
                );
            }
            _ => return Err(format!("`{flag}` is no flag of such a table")),
        };
        *switch = !*switch;
        Ok(())
    }
}

/// The pieces of a value with `$1`, `${1}` and `$(1)`; `$$` stands for `$`.
fn pieces(value: &str, groups: usize) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            text.push('$');
            rest = after;
            continue;
        }
        let (number, after) = group(after).ok_or_else(|| {
            format!("`${}` is no group; write `$1`, or `$$` for a dollar", after.get(..1).unwrap_or_default())
        })?;
        if number > groups {
            return Err(format!("`${number}`: the pattern has {groups} groups"));
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(Piece::Group(number));
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// A group's number, and what follows it.
fn group(text: &str) -> Option<(usize, &str)> {
    let (inside, rest) = if let Some(inside) = text.strip_prefix('{') {
        inside.split_once('}')?
    } else if let Some(inside) = text.strip_prefix('(') {
        inside.split_once(')')?
    } else {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        text.split_at_checked(digits)?
    };
    Some((inside.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::line::logical;

    fn read(text: &str, dialect: Dialect) -> Result<Patterns, TableProblems> {
        Patterns::read(logical(text), dialect, "t")
    }

    fn find(text: &str, key: &str) -> Option<String> {
        let table = read(text, Dialect::Pcre).unwrap();
        table.find(key.as_bytes()).map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    // Specification section 10, check tables.
    #[test]
    fn the_first_match_decides_and_fills_in_its_groups() {
        let table = "/^x-(a)(b)?: (.*)/ X-${1}$2$(3) $$\n/^x/ second\n!/./ empty\n";
        assert_eq!(find(table, "X-A: it").as_deref(), Some("X-Ait $"));
        assert_eq!(find(table, "x-ab: it").as_deref(), Some("X-abit $"));
        assert_eq!(find(table, "xyz").as_deref(), Some("second"));
        assert_eq!(find(table, "").as_deref(), Some("empty"));
        assert_eq!(find(table, "abc"), None);
    }

    // Specification section 10: `if/endif` (nestable, `if !`).
    #[test]
    fn rules_may_hold_for_some_only() {
        let table = "if /a/\nif !/b/\n/./ a without b\nendif\n/c/ abc\nendif\n/./ else\n";
        for (key, value) in [("a", "a without b"), ("abc", "abc"), ("ab", "else"), ("c", "else")] {
            assert_eq!(find(table, key).as_deref(), Some(value), "{key}");
        }
    }

    // Specification section 10: flags.
    #[test]
    fn flags_toggle() {
        for (table, key, matches) in [
            ("/A/ x", "a", true),
            ("/A/i x", "a", false),
            ("/^b/ x", "a\nb", false),
            ("/^b/m x", "a\nb", true),
            ("/a.b/ x", "a\nb", true),
            ("/a.b/s x", "a\nb", false),
            ("/a b # c/x x", "ab", true),
            ("/b/A x", "ab", false),
            ("%a/b% x", "a/b", true),
            ("/a\\/b/ x", "a/b", true),
            ("/\\<b\\>/ x", "a b c", true),
            ("/[[:digit:]]{2}/ x", "a12", true),
            ("/ü/ x", "Ü", true),
        ] {
            assert_eq!(find(table, key).is_some(), matches, "{table} {key}");
        }
        assert!(read("/A/ x", Dialect::Regexp).unwrap().find(b"\xff a \xfe").is_some(), "octets");
    }

    #[test]
    fn wrong_lines_are_told() {
        let table = "/(a/ x\n/a/q x\nabc x\n/a x\n/a/\n!/(a)/ $1\n/a/ $1\n/a/ $x\nendif\nif /a/\nif /a/ x\n";
        let problems = read(table, Dialect::Pcre).unwrap_err().to_string();
        let expected = [
            "t:1: `(a` is not a regular expression of this gateway: unclosed group",
            "t:2: `q` is no flag of such a table",
            "t:3: `abc x` does not begin with `/pattern/`",
            "t:4: `/a x` has no `/` at the end of its pattern",
            "t:5: the pattern has no value",
            "t:6: what does not match has no groups to put into a value",
            "t:7: `$1`: the pattern has 0 groups",
            "t:8: `$x` is no group; write `$1`, or `$$` for a dollar",
            "t:9: this `endif` has no `if`",
            "t:11: `x` stands behind the condition",
            "t:10: this `if` has no `endif`",
        ];
        assert_eq!(problems.lines().collect::<Vec<_>>(), expected);
        let error = read("/a/x y\n/(?=a)/ y\n", Dialect::Regexp).unwrap_err().to_string();
        assert!(error.contains("basic expressions") && error.contains("look-around"), "{error}");
    }
}
