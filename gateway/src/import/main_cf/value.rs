//! Values, checked as Postfix checks them and written as the gateway reads them.

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::parameter::{Kind, Unit};
use crate::config::file::delivery::{DebugPeer, Interface, Transport};
use crate::delivery::destination::Destination;
use crate::delivery::next_hop::NextHop;
use crate::import::yaml;
use crate::queue::schedule::Feedback;
use crate::smtp::client::Protocol;
use crate::table::{SpecError, TableSpec};

/// Where Postfix has its queue on most systems.
const QUEUE: &str = "/var/spool/postfix";

/// A value for `gateway.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// In YAML's notation; `None`: the default holds.
    pub(super) yaml: Option<String>,
    /// What an operator should know.
    pub(super) warning: Option<String>,
}

impl Value {
    fn of(yaml: impl Into<String>) -> Self {
        Self { yaml: Some(yaml.into()), warning: None }
    }

    const DEFAULT: Self = Self { yaml: None, warning: None };
}

/// The value that a text stands for, or what it should be.
pub(super) fn value(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Flag => match text.to_ascii_lowercase().as_str() {
            "yes" => Ok(Value::of("true")),
            "no" => Ok(Value::of("false")),
            _ => Err("`yes` or `no`".to_owned()),
        },
        Kind::Time(unit, least) => time(text, unit, least),
        Kind::Number(least, most) => text
            .parse::<u64>()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .map(|number| Value::of(number.to_string()))
            .ok_or_else(|| format!("an integer from {least} to {most}")),
        Kind::One(_)
        | Kind::Text
        | Kind::Path
        | Kind::Ipv4
        | Kind::Ipv6
        | Kind::Interfaces
        | Kind::Transport
        | Kind::AnyTransport
        | Kind::NextHop
        | Kind::Cache
            if text.is_empty() =>
        {
            Ok(Value::DEFAULT)
        }
        Kind::One(known) => one(text, known),
        Kind::Words(known) => words(text)
            .map(|word| known.iter().find(|known| known.eq_ignore_ascii_case(word)).copied())
            .collect::<Option<Vec<_>>>()
            .map(|found| Value::of(yaml::list(found)))
            .ok_or_else(|| format!("some of {}", known.join(", "))),
        Kind::List => Ok(Value::of(yaml::list(words(text)))),
        Kind::Names => match words(text).find(|word| word.starts_with('/') || word.contains(':')) {
            Some(table) => Err(format!("names; `{table}` is a table or a file: write what is in it")),
            None => Ok(Value::of(yaml::list(words(text)))),
        },
        Kind::Maps => maps(text),
        Kind::Destinations => match Destination::parse_list(text, Protocol::Smtp) {
            Ok(_) => Ok(Value::of(yaml::list(words(text)))),
            Err(error) => Err(format!("destinations: {error}")),
        },
        Kind::Ipv4 => address::<Ipv4Addr>(text, "an IPv4 address"),
        Kind::Ipv6 => address::<Ipv6Addr>(text, "an IPv6 address"),
        Kind::Interfaces => Ok(interfaces(text)),
        Kind::Peers => match words(text).find(|word| DebugPeer::try_from((*word).to_owned()).is_err()) {
            Some(wrong) => Err(format!("domains, addresses and networks; `{wrong}` is none")),
            None => Ok(Value::of(yaml::list(words(text)))),
        },
        Kind::Transport => Transport::try_from(text.to_owned())
            .map(|_| Value::of(yaml::string(text)))
            .map_err(|_| "`smtp:NEXTHOP` or `lmtp:NEXTHOP`; the gateway has no mailboxes".to_owned()),
        Kind::NextHop => relay_host(text),
        Kind::AnyTransport => match text.split_once(':') {
            Some(("lmtp", hop)) if !hop.is_empty() => {
                // Relative paths begin at Postfix's queue.
                let rest = hop.strip_prefix("unix:").filter(|path| !path.starts_with('/'));
                relay_host(&rest.map_or_else(|| text.to_owned(), |path| format!("lmtp:unix:{QUEUE}/{path}")))
            }
            Some(("smtp" | "relay", hop)) if !hop.is_empty() => relay_host(hop),
            _ => {
                let warning =
                    Some(format!("`{text}` is a transport that the gateway does not have; it is left out"));
                Ok(Value { yaml: None, warning })
            }
        },
        Kind::Cache => {
            let warning = format!("`{text}` is not used: the list is kept in memory");
            Ok(Value { yaml: Some("true".to_owned()), warning: Some(warning) })
        }
        Kind::Feedback => text
            .parse::<Feedback>()
            .map(|feedback| Value::of(yaml::string(&feedback.to_string())))
            .map_err(|error| format!("feedback: {error}")),
        Kind::Path if text.starts_with('/') => Ok(Value::of(yaml::string(text))),
        Kind::Path => Err("a path that begins with `/`".to_owned()),
        Kind::Text => Ok(Value::of(yaml::string(text))),
    }
}

/// Where mail of the relay lane goes.
fn relay_host(text: &str) -> Result<Value, String> {
    NextHop::parse(text).map_err(|error| format!("a next hop: {error}"))?;
    let warning = Some("mail of lanes with `target: relay-host` goes there".to_owned());
    Ok(Value { yaml: Some(yaml::string(text)), warning })
}

/// The members of a list: commas and blanks divide them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t']).filter(|word| !word.is_empty())
}

/// Names are not looked up at the start of the gateway: what they stand for may change.
fn interfaces(text: &str) -> Value {
    let (mut found, mut names) = (Vec::new(), Vec::new());
    for word in words(text) {
        let bare = word.trim_matches(['[', ']']);
        if bare == "localhost" {
            found.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        } else if Interface::try_from(bare.to_owned()).is_ok() {
            found.push(bare.to_owned());
        } else {
            names.push(word);
        }
    }
    let warning = (!names.is_empty()).then(|| {
        format!("`{}` is left out: write the addresses of this host instead of names", names.join("`, `"))
    });
    let yaml = (!found.is_empty()).then(|| yaml::list(found.iter().map(String::as_str)));
    Value { yaml, warning }
}

fn one(text: &str, known: &[&'static str]) -> Result<Value, String> {
    let found = known.iter().find(|known| known.eq_ignore_ascii_case(text));
    let word = found.copied().ok_or_else(|| format!("one of {}", known.join(", ")))?;
    if matches!(word, "low" | "export") {
        let warning = Some(format!("`{word}` means medium, as in Postfix 3.8 and later"));
        return Ok(Value { yaml: Some("medium".to_owned()), warning });
    }
    Ok(Value::of(word))
}

fn address<A: FromStr + Display>(text: &str, wanted: &str) -> Result<Value, String> {
    let address = text.trim_matches(['[', ']']).parse::<A>();
    address.map(|address| Value::of(yaml::string(&address.to_string()))).map_err(|_| wanted.to_owned())
}

fn time(text: &str, unit: Unit, least: u64) -> Result<Value, String> {
    let wanted = || format!("a time such as `30s` or `5m`, of at least {least}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at_checked(digits).ok_or_else(wanted)?;
    let number = number.parse::<u64>().ok().filter(|number| *number >= least).ok_or_else(wanted)?;
    let (factor, suffix) = match (suffix.to_ascii_lowercase().as_str(), unit) {
        ("s", _) | ("", Unit::Seconds) => (1, "s"),
        ("m", _) => (1, "m"),
        ("h", _) | ("", Unit::Hours) => (1, "h"),
        ("d", _) | ("", Unit::Days) => (1, "d"),
        ("w", _) => (7, "d"),
        _ => return Err(wanted()),
    };
    let number = number.checked_mul(factor).ok_or_else(wanted)?;
    Ok(Value::of(if number == 0 { "0".to_owned() } else { format!("{number}{suffix}") }))
}

fn maps(text: &str) -> Result<Value, String> {
    let mut tables = Vec::new();
    let mut indexed = Vec::new();
    for member in divided(text) {
        // Another process looked it up; here there is none.
        let member = member.strip_prefix("proxy:").unwrap_or(member);
        let spec = match member.parse::<TableSpec>() {
            Err(SpecError::Indexed(_, path)) => {
                indexed.push(member.to_owned());
                format!("texthash:{path}").parse()
            }
            parsed => parsed,
        };
        tables.push(spec.map_err(|error| format!("look-up tables: {error}"))?.to_string());
    }
    let warning = (!indexed.is_empty())
        .then(|| format!("`{}` is read as text (`texthash`), without its index", indexed.join("`, `")));
    let list = tables.iter().map(String::as_str);
    Ok(Value { yaml: Some(yaml::list(list)), warning })
}

/// The members of a list, some of which have braces with commas and blanks in them.
fn divided(text: &str) -> Vec<&str> {
    let mut members = Vec::new();
    let (mut depth, mut start) = (0usize, 0usize);
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth = depth.saturating_add(1),
            '}' => depth = depth.saturating_sub(1),
            ',' | ' ' | '\t' if depth == 0 => {
                members.push(text.get(start..at).unwrap_or_default());
                start = at.saturating_add(1);
            }
            _ => {}
        }
    }
    members.push(text.get(start..).unwrap_or_default());
    members.retain(|member| !member.is_empty());
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    // Specification section 19.
    #[test]
    fn values_are_checked_and_written() {
        let grades: Kind = Kind::One(&["high", "medium", "low"]);
        for (kind, text, expected) in [
            (Kind::Flag, "Yes", Some("true")),
            (Kind::Flag, "true", None),
            (Kind::Time(Unit::Seconds, 1), "30", Some("30s")),
            (Kind::Time(Unit::Days, 0), "90", Some("90d")),
            (Kind::Time(Unit::Seconds, 1), "2w", Some("14d")),
            (Kind::Time(Unit::Seconds, 1), "0", None),
            (Kind::Time(Unit::Seconds, 0), "0h", Some("0")),
            (Kind::Time(Unit::Seconds, 0), "1 s", None),
            (Kind::Time(Unit::Seconds, 0), "99999999999999999999", None),
            (Kind::Number(0, 6), "6", Some("6")),
            (Kind::Number(0, 6), "7", None),
            (grades, "Low", Some("medium")),
            (grades, "null", None),
            (Kind::Words(&["a", "b"]), "A, b", Some("[a, b]")),
            (Kind::Words(&["a", "b"]), "c", None),
            (Kind::Words(&["a", "b"]), "", Some("[]")),
            (Kind::List, "!SSLv2, x", Some("[\"!SSLv2\", x]")),
            (Kind::Names, "plain, !login", Some("[plain, \"!login\"]")),
            (Kind::Names, "plain, static:all", None),
            (Kind::NextHop, "[a.test]:587", Some("\"[a.test]:587\"")),
            (Kind::NextHop, "[a.test", None),
            (
                Kind::AnyTransport,
                "lmtp:unix:private/dovecot-lmtp",
                Some("\"lmtp:unix:/var/spool/postfix/private/dovecot-lmtp\""),
            ),
            (Kind::AnyTransport, "lmtp:inet:[192.0.2.1]:24", Some("\"lmtp:inet:[192.0.2.1]:24\"")),
            (Kind::AnyTransport, "smtp:[a.test]", Some("\"[a.test]\"")),
            (Kind::AnyTransport, "virtual", None),
            (Kind::Maps, "hash:/etc/t, proxy:pcre:/etc/p", Some("[\"texthash:/etc/t\", \"pcre:/etc/p\"]")),
            (Kind::Maps, "inline:{a=b, c = d}", Some("[\"inline:{a=b, c = d}\"]")),
            (Kind::Maps, "ldap:/etc/l", None),
            (Kind::Destinations, "[a.test]:26, b.test", Some("[\"[a.test]:26\", b.test]")),
            (Kind::Destinations, "[a.test", None),
            (Kind::Path, "/etc/x", Some("/etc/x")),
            (Kind::Path, "x", None),
            (Kind::Ipv4, "[192.0.2.1]", Some("\"192.0.2.1\"")),
            (Kind::Ipv4, "2001:db8::1", None),
            (Kind::Ipv6, "2001:db8::1", Some("\"2001:db8::1\"")),
            (Kind::Ipv4, "host", None),
            (Kind::Text, "a: b", Some("\"a: b\"")),
            (
                Kind::Interfaces,
                "mx.test, localhost [192.0.2.1]",
                Some("[\"127.0.0.1\", \"::1\", \"192.0.2.1\"]"),
            ),
            (Kind::Interfaces, "mx.test", None),
            (Kind::Interfaces, "loopback-only", Some("[loopback-only]")),
            (Kind::Peers, "a.test 192.0.2.0/24", Some("[a.test, \"192.0.2.0/24\"]")),
            (Kind::Peers, "hash:/etc/x", None),
            (Kind::Transport, "smtp:[a.test]:26", Some("\"smtp:[a.test]:26\"")),
            (Kind::Transport, "local", None),
            (Kind::Cache, "proxy:btree:/x", Some("true")),
        ] {
            let found = value(kind, text).ok().and_then(|value| value.yaml);
            assert_eq!(found.as_deref(), expected, "{kind:?} {text}");
        }
        assert_eq!(value(Kind::Path, ""), Ok(Value::DEFAULT));
        assert!(value(Kind::Maps, "btree:/etc/t").unwrap().warning.unwrap().contains("btree:/etc/t"));
    }
}
