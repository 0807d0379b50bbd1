//! Tables with a value for each key: `texthash` files and `inline` lists.

use std::collections::HashMap;

use super::TableProblems;
use super::line::{inline, logical};

/// Keys in lower case, and their values.
#[derive(Clone, Debug)]
pub(super) struct Exact(HashMap<String, String>);

impl Exact {
    /// Reads lines of a key, blanks, and a value. A key may be in double quotes.
    pub(super) fn texthash(text: &str, name: &str) -> Result<Self, TableProblems> {
        let mut problems = TableProblems::new(name);
        let mut entries = HashMap::new();
        for line in logical(text) {
            let (key, value) = split(&line.text);
            if value.is_empty() {
                problems.add(line.number, format!("`{key}` has no value; write a key, a blank and a value"));
            } else if entries.insert(key.to_lowercase(), value.to_owned()).is_some() {
                problems.add(line.number, format!("`{key}` stands here again; remove one of them"));
            }
        }
        problems.or(Self(entries))
    }

    /// Reads `{key=value, …}`.
    pub(super) fn inline(text: &str, name: &str) -> Result<Self, TableProblems> {
        let mut problems = TableProblems::new(name);
        let mut entries = HashMap::new();
        let members = inline(text).unwrap_or_else(|| {
            problems.add(1, "this is no list in braces; write `{key=value, …}`");
            Vec::new()
        });
        for member in members {
            match member.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() => {
                    let (key, value) = (key.trim(), value.trim());
                    if entries.insert(key.to_lowercase(), value.to_owned()).is_some() {
                        problems.add(1, format!("`{key}` stands here twice; remove one of them"));
                    }
                }
                _ => problems.add(1, format!("`{member}` is no `key=value`")),
            }
        }
        problems.or(Self(entries))
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<&str> {
        let key = std::str::from_utf8(key).ok()?.to_lowercase();
        self.0.get(&key).map(String::as_str)
    }
}

fn split(line: &str) -> (&str, &str) {
    if let Some((key, rest)) = line.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        return (key, rest.trim_start());
    }
    let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    (key, value.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_no_case() {
        let table = Exact::texthash("A.Test  one two\n\"b c\" three\n", "t").unwrap();
        assert_eq!(table.find(b"a.tEST"), Some("one two"));
        assert_eq!(table.find(b"B C"), Some("three"));
        assert_eq!((table.find(b"b"), table.find(b"\xff")), (None, None));
        let table = Exact::inline("{ A.Test = one two, {b = c, d} }", "t").unwrap();
        assert_eq!((table.find(b"a.test"), table.find(b"b")), (Some("one two"), Some("c, d")));
    }

    #[test]
    fn all_wrong_lines_are_told() {
        let problems = Exact::texthash("a\nb 1\nB 2\n", "t").unwrap_err();
        assert_eq!(
            problems.to_string(),
            "t:1: `a` has no value; write a key, a blank and a value\nt:3: `B` stands here again; remove one of them"
        );
        for text in ["{a", "{a}", "{=b}", "{a=1,A=2}"] {
            assert!(Exact::inline(text, "t").is_err(), "{text}");
        }
        let many = "a\n".repeat(100);
        let problems = Exact::texthash(&many, "t").unwrap_err();
        assert_eq!((problems.list.len(), problems.more), (20, true));
    }
}
