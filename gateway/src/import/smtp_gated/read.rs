//! The file as smtp-gated reads it: one option a line, its name, blanks, its value.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::option::{Here, Kind, OPTIONS, Opt};
use crate::config::{Place, Problems, nearest};

/// An option of the file, or its default.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Fraction(f64),
    Flag(bool),
    Address(Ipv4Addr),
    Words(Vec<&'static str>),
}

/// What stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) value: Value,
    /// The name under which it stands there.
    pub(super) name: &'static str,
    pub(super) place: Place,
}

/// Reads all lines; what is wrong with them is told in `problems`.
pub(super) fn read(text: &str, problems: &mut Problems) -> BTreeMap<&'static str, Given> {
    let mut given = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let (name, value) = content.split_once(char::is_whitespace).unwrap_or((content, ""));
        let value = value.trim_start();
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        let place = |word: &str, behind: usize| Place {
            line: number + 1,
            column: indent + behind + 1,
            width: word.chars().count().max(1),
        };
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            let near = nearest(name, OPTIONS.iter().map(|option| option.name));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let message = format!("smtp-gated has no option `{name}`{hint}");
            problems.error(text, place(name, 0), &message);
            continue;
        };
        let behind = content.chars().count() - value.chars().count();
        match typed(option.kind, value) {
            Err(wanted) => {
                let message = format!("`{value}` is no value of `{name}`: it takes {wanted}");
                problems.error(text, place(value, behind), &message);
            }
            Ok(value) => {
                let meant = match option.here {
                    Here::Alias(newer) => newer,
                    Here::Keys(_) | Here::Nothing(_) => option.name,
                };
                let at = place(name, 0);
                let before = given.insert(meant, Given { value, name: option.name, place: at });
                if let Some(before) = before {
                    let line = before.place.line;
                    problems.warning(
                        text,
                        at,
                        &format!("`{name}` stands in line {line} too; this one counts"),
                    );
                }
            }
        }
    }
    given
}

/// The default of an option; `None`: it has none.
pub(super) fn default(option: &Opt) -> Option<Value> {
    if option.default.is_empty() { None } else { typed(option.kind, option.default).ok() }
}

/// The value that a text stands for, or what it should be.
fn typed(kind: Kind, text: &str) -> Result<Value, String> {
    let words = |words: &[&str]| words.join(", ");
    match kind {
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Pattern => Ok(Value::Text(text.to_owned())),
        Kind::Path if text.starts_with('/') => Ok(Value::Text(text.to_owned())),
        Kind::Path => Err("a path that begins with `/`".to_owned()),
        Kind::Socket if is_socket(text) => Ok(Value::Text(text.to_owned())),
        Kind::Socket => Err("a path that begins with `/`, or `ip:port`".to_owned()),
        Kind::Address => text.parse().map(Value::Address).map_err(|_| "an IPv4 address".to_owned()),
        Kind::Port => match integer(text) {
            Some(number @ 1..=65_535) => Ok(Value::Number(number)),
            _ => Err("a port from 1 to 65535".to_owned()),
        },
        Kind::Number(least) => match integer(text) {
            Some(number) if number >= least => Ok(Value::Number(number)),
            _ => Err(format!("an integer, {least} or more")),
        },
        Kind::Mode => match integer(text) {
            Some(mode @ 0..=0o777) if text.starts_with('0') => Ok(Value::Number(mode)),
            _ => Err("an octal number such as 0660".to_owned()),
        },
        Kind::Fraction => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Fraction(number)),
            _ => Err("a number such as 2.5".to_owned()),
        },
        Kind::Flag => match text.to_ascii_lowercase().as_str() {
            "0" | "no" | "false" | "off" => Ok(Value::Flag(false)),
            "1" | "yes" | "true" | "on" => Ok(Value::Flag(true)),
            _ => Err("0 or 1".to_owned()),
        },
        Kind::One(known) => {
            let found = known.iter().find(|word| **word == text);
            found.map(|word| Value::Words(vec![*word])).ok_or_else(|| format!("one of {}", words(known)))
        }
        Kind::Some(known) => text
            .split(',')
            .map(|part| known.iter().find(|word| **word == part.trim()).copied())
            .collect::<Option<Vec<_>>>()
            .map(Value::Words)
            .ok_or_else(|| format!("some of {}", words(known))),
    }
}

/// An integer, octal with a leading `0`, hexadecimal with `0x`.
fn integer(text: &str) -> Option<i64> {
    let (digits, negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let number = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => i64::from_str_radix(digits, 16),
        (None, Some(digits)) if !digits.is_empty() => i64::from_str_radix(digits, 8),
        _ => digits.parse(),
    };
    number.ok().filter(|number| *number >= 0).map(|number| if negative { -number } else { number })
}

fn is_socket(text: &str) -> bool {
    text.starts_with('/') || text.parse::<std::net::SocketAddrV4>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_the_three_notations() {
        for (text, number) in
            [("10", Some(10)), ("0", Some(0)), ("017", Some(15)), ("0x1F", Some(31)), ("-1", Some(-1))]
        {
            assert_eq!(integer(text), number, "{text}");
        }
        for text in ["", "-", "+1", "--1", "08", "0x", "0x-1", "1k", "99999999999999999999"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn every_default_is_a_value_of_its_option() {
        for option in OPTIONS.iter().filter(|option| !option.default.is_empty()) {
            assert!(default(option).is_some(), "{}", option.name);
        }
    }

    #[test]
    fn words_are_divided_by_commas() {
        const KNOWN: &[&str] = &["a", "b"];
        assert_eq!(typed(Kind::Some(KNOWN), "a, b"), Ok(Value::Words(vec!["a", "b"])));
        assert!(typed(Kind::Some(KNOWN), "a,,b").is_err());
        assert!(typed(Kind::One(KNOWN), "a,b").is_err());
    }
}
