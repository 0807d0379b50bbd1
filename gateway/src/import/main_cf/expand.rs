//! `$name` in values: what other parameters are set to (postconf(5)).

use super::read::is_name;

/// Values within values within values.
const DEEPEST: usize = 30;
/// Longest value.
const LONGEST: usize = 32 * 1024;

/// Why a value cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    /// The file does not set it, and its default is not known here.
    #[error("`${0}` is not set here, and what it is without is not known; write its value")]
    Unknown(String),
    /// It needs itself.
    #[error("`${0}` needs its own value")]
    Circular(String),
    /// It becomes too long.
    #[error("the value becomes longer than {LONGEST} octets")]
    TooLong,
    /// A brace without its pair, or something else than a name.
    #[error("`${0}` is not understood; write `$name`, `${{name}}`, `${{name?{{text}}:{{text}}}}`, or `$$`")]
    Syntax(String),
}

/// The values of parameters.
pub(super) trait Values {
    /// The value of a parameter as it is written; `None`: nobody knows.
    fn value(&self, name: &str) -> Option<String>;
}

/// `text` with all names replaced by their values.
///
/// # Errors
///
/// A name has no value, or too many.
pub(super) fn expand(text: &str, values: &impl Values) -> Result<String, ExpandError> {
    let mut out = String::new();
    Expansion { values, names: Vec::new() }.text(text, &mut out)?;
    Ok(out)
}

struct Expansion<'v, V> {
    values: &'v V,
    /// Those whose values are being expanded.
    names: Vec<String>,
}

impl<V: Values> Expansion<'_, V> {
    fn text(&mut self, text: &str, out: &mut String) -> Result<(), ExpandError> {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = match after.chars().next() {
                Some('$') => {
                    out.push('$');
                    after.get(1..).unwrap_or_default()
                }
                Some(open @ ('{' | '(')) => {
                    let (inside, after) = balanced(after, open).ok_or_else(|| syntax(after))?;
                    self.braced(inside, out)?;
                    after
                }
                _ => {
                    let end =
                        after.bytes().take_while(|octet| octet.is_ascii_alphanumeric() || *octet == b'_');
                    let (name, after) = after.split_at_checked(end.count()).unwrap_or((after, ""));
                    if name.is_empty() {
                        return Err(syntax(after));
                    }
                    let value = self.named(name)?.ok_or_else(|| ExpandError::Unknown(name.to_owned()))?;
                    out.push_str(&value);
                    after
                }
            };
            if out.len() > LONGEST {
                return Err(ExpandError::TooLong);
            }
        }
        out.push_str(rest);
        if out.len() > LONGEST { Err(ExpandError::TooLong) } else { Ok(()) }
    }

    /// The value of a name.
    fn named(&mut self, name: &str) -> Result<Option<String>, ExpandError> {
        if self.names.len() >= DEEPEST || self.names.iter().any(|other| other == name) {
            return Err(ExpandError::Circular(name.to_owned()));
        }
        let Some(value) = self.values.value(name) else { return Ok(None) };
        self.names.push(name.to_owned());
        let mut out = String::new();
        self.text(&value, &mut out)?;
        self.names.pop();
        Ok(Some(out))
    }

    /// What stands in braces: a name, or a question.
    fn braced(&mut self, inside: &str, out: &mut String) -> Result<(), ExpandError> {
        if inside.trim_start().starts_with('{') {
            return self.compared(inside.trim_start(), out);
        }
        let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
        let (name, rest) = inside.split_at_checked(end).unwrap_or((inside, ""));
        if !is_name(name) {
            return Err(syntax(inside));
        }
        let rest = rest.trim_start();
        if rest.is_empty() {
            let value = self.named(name)?.ok_or_else(|| ExpandError::Unknown(name.to_owned()))?;
            out.push_str(&value);
            return Ok(());
        }
        let is_set = self.named(name)?.is_some_and(|value| !value.is_empty());
        self.chosen(rest, is_set, out)
    }

    /// `{left} operator {right} ?…`.
    fn compared(&mut self, inside: &str, out: &mut String) -> Result<(), ExpandError> {
        let bad = || syntax(inside);
        let (left, rest) = balanced(inside, '{').ok_or_else(bad)?;
        let at = rest.find('{').ok_or_else(bad)?;
        let (operator, rest) = rest.split_at_checked(at).ok_or_else(bad)?;
        let (right, rest) = balanced(rest, '{').ok_or_else(bad)?;
        let (mut l, mut r) = (String::new(), String::new());
        self.text(left, &mut l)?;
        self.text(right, &mut r)?;
        let order = match (l.trim().parse::<i64>(), r.trim().parse::<i64>()) {
            (Ok(left), Ok(right)) => left.cmp(&right),
            _ => l.trim().cmp(r.trim()),
        };
        let holds = match operator.trim() {
            "==" => order.is_eq(),
            "!=" => order.is_ne(),
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            ">=" => order.is_ge(),
            _ => return Err(bad()),
        };
        self.chosen(rest.trim_start(), holds, out)
    }

    /// `?{then}:{else}`, `?then`, `:{else}` or `:else`.
    fn chosen(&mut self, rest: &str, holds: bool, out: &mut String) -> Result<(), ExpandError> {
        let bad = || syntax(rest);
        if let Some(text) = rest.strip_prefix(':') {
            return if holds { Ok(()) } else { self.text(unbraced(text), out) };
        }
        let text = rest.strip_prefix('?').ok_or_else(bad)?;
        let trimmed = text.trim_start();
        if !trimmed.starts_with('{') {
            return if holds { self.text(text, out) } else { Ok(()) };
        }
        let (then, rest) = balanced(trimmed, '{').ok_or_else(bad)?;
        let other = match rest.trim_start().strip_prefix(':') {
            Some(other) => unbraced(other),
            None if rest.trim().is_empty() => "",
            None => return Err(bad()),
        };
        self.text(if holds { then.trim() } else { other }, out)
    }
}

fn syntax(text: &str) -> ExpandError {
    ExpandError::Syntax(text.chars().take(20).collect())
}

/// What stands between the bracket at the beginning of `text` and its pair, and what follows that.
fn balanced(text: &str, open: char) -> Option<(&str, &str)> {
    let close = if open == '{' { '}' } else { ')' };
    let mut depth = 0usize;
    for (at, character) in text.char_indices() {
        if character == open {
            depth = depth.saturating_add(1);
        } else if character == close {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some((text.get(1..at)?, text.get(at.saturating_add(1)..)?));
            }
        }
    }
    None
}

fn unbraced(text: &str) -> &str {
    let trimmed = text.trim();
    balanced(trimmed, '{')
        .filter(|(_, rest)| trimmed.starts_with('{') && rest.is_empty())
        .map_or(text, |(inside, _)| inside.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pairs(&'static [(&'static str, &'static str)]);

    impl Values for Pairs {
        fn value(&self, name: &str) -> Option<String> {
            self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        }
    }

    const PAIRS: Pairs = Pairs(&[
        ("a", "1"),
        ("b", "$a,$a"),
        ("empty", ""),
        ("self", "x$self"),
        ("ping", "$pong"),
        ("pong", "$ping"),
        ("d0", "aaaaaaaaaaaaaaaa"),
        ("d1", "$d0$d0$d0$d0$d0$d0$d0$d0$d0$d0$d0$d0$d0$d0$d0$d0"),
        ("d2", "$d1$d1$d1$d1$d1$d1$d1$d1$d1$d1$d1$d1$d1$d1$d1$d1"),
        ("d3", "$d2$d2$d2$d2$d2$d2$d2$d2$d2$d2$d2$d2$d2$d2$d2$d2"),
        ("d4", "$d3$d3$d3$d3$d3$d3$d3$d3$d3$d3$d3$d3$d3$d3$d3$d3"),
    ]);

    // Specification section 19.
    #[test]
    fn names_become_values() {
        for (text, expected) in [
            ("x", "x"),
            ("$a $b", "1 1,1"),
            ("${a}2 $(a)3", "12 13"),
            ("$$a", "$a"),
            ("${a?yes}${empty?no}", "yes"),
            ("${a:no}${empty:yes}${unset:$a}", "yes1"),
            ("${a?{$b}:{no}} ${empty?{no}:{<$a>}} ${unset ? {no} : {yes}}", "1,1 <1> yes"),
            ("${{$a} == {1}?{yes}:{no}} ${{10} > {9}?{yes}:{no}} ${{b} < {a}?{no}:{yes}}", "yes yes yes"),
        ] {
            assert_eq!(expand(text, &PAIRS).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_told() {
        for (text, expected) in [
            ("$unset", ExpandError::Unknown("unset".to_owned())),
            ("$self", ExpandError::Circular("self".to_owned())),
            ("$ping", ExpandError::Circular("ping".to_owned())),
            ("$d4", ExpandError::TooLong),
            ("${a", ExpandError::Syntax("{a".to_owned())),
            ("a $ b", ExpandError::Syntax(" b".to_owned())),
            ("${a!b}", ExpandError::Syntax("!b".to_owned())),
            ("${{1} ~ {2}?a}", ExpandError::Syntax("{1} ~ {2}?a".to_owned())),
        ] {
            assert_eq!(expand(text, &PAIRS), Err(expected), "{text}");
        }
    }
}
