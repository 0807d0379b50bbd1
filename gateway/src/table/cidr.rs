//! Tables of networks: `cidr`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::TableProblems;
use super::line::Line;

/// Networks, tried in their order.
#[derive(Clone, Debug)]
pub(super) struct Networks(Vec<Rule>);

#[derive(Clone, Debug)]
enum Rule {
    /// A value for addresses in the network, or outside of it.
    Value { network: IpNet, negated: bool, value: String },
    /// Rules up to `end` hold only for those.
    If { network: IpNet, negated: bool, end: usize },
}

impl Networks {
    /// Reads `[!]network value` and `if [!]network` … `endif`.
    pub(super) fn read(lines: Vec<Line>, name: &str) -> Result<Self, TableProblems> {
        let mut problems = TableProblems::new(name);
        let mut rules = Vec::new();
        let mut open = Vec::new();
        for Line { number, text } in lines {
            let (word, rest) = text.split_once([' ', '\t']).unwrap_or((&text, ""));
            let rest = rest.trim();
            if word.eq_ignore_ascii_case("endif") {
                match open.pop() {
                    Some((at, _)) => close(&mut rules, at),
                    None => problems.add(number, "this `endif` has no `if`"),
                }
                continue;
            }
            let conditional = word.eq_ignore_ascii_case("if");
            let (negated, network) = match network(if conditional { rest } else { word }) {
                Ok(found) => found,
                Err(message) => {
                    problems.add(number, message);
                    continue;
                }
            };
            if conditional {
                open.push((rules.len(), number));
                rules.push(Rule::If { network, negated, end: 0 });
            } else if rest.is_empty() {
                problems.add(number, format!("`{word}` has no value"));
            } else {
                rules.push(Rule::Value { network, negated, value: rest.to_owned() });
            }
        }
        for (_, number) in open {
            problems.add(number, "this `if` has no `endif`");
        }
        problems.or(Self(rules))
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<&str> {
        let key: IpAddr = std::str::from_utf8(key).ok()?.parse().ok()?;
        let mut at = 0;
        loop {
            match self.0.get(at)? {
                Rule::Value { network, negated, value } if network.contains(&key) != *negated => {
                    return Some(value);
                }
                Rule::If { network, negated, end } if network.contains(&key) == *negated => at = *end,
                Rule::Value { .. } | Rule::If { .. } => at = at.saturating_add(1),
            }
        }
    }
}

fn close(rules: &mut [Rule], at: usize) {
    let length = rules.len();
    if let Some(Rule::If { end, .. }) = rules.get_mut(at) {
        *end = length;
    }
}

/// `!` or not, and the network; a bare address is a network of its own.
fn network(text: &str) -> Result<(bool, IpNet), String> {
    let (negated, written) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest.trim_start()));
    let bare = written.replace(['[', ']'], "");
    let network = bare.parse::<IpNet>().or_else(|_| bare.parse::<IpAddr>().map(IpNet::from));
    let network =
        network.map_err(|_| format!("`{written}` is no network; write for example `192.0.2.0/24`"))?;
    if network.trunc() != network {
        return Err(format!("`{written}` has bits behind its prefix; write `{}`", network.trunc()));
    }
    Ok((negated, network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::line::logical;

    fn read(text: &str) -> Result<Networks, TableProblems> {
        Networks::read(logical(text), "t")
    }

    #[test]
    fn the_first_network_that_has_the_address_decides() {
        let table = read(
            "192.0.2.1 host\n192.0.2.0/24 net\nif 2001:db8::/32\n2001:db8:1::/48 six one\nif !2001:db8:2::/48\n\
             ::/0 six\nendif\nendif\n!10.0.0.0/8 other\n10.0.0.0/8 ten\n",
        );
        let table = table.unwrap();
        for (key, value) in [
            ("192.0.2.1", Some("host")),
            ("192.0.2.2", Some("net")),
            ("2001:db8:1::1", Some("six one")),
            ("2001:db8:2::1", Some("other")),
            ("2001:db8:3::1", Some("six")),
            ("198.51.100.1", Some("other")),
            ("10.1.2.3", Some("ten")),
            ("name", None),
            ("", None),
        ] {
            assert_eq!(table.find(key.as_bytes()), value, "{key}");
        }
    }

    #[test]
    fn wrong_lines_are_told() {
        let problems =
            read("192.0.2.1/24 x\nname x\n10.0.0.0/8\nif ::/0\nendif\nendif\nif ::/0\n").unwrap_err();
        assert_eq!(
            problems.to_string(),
            "t:1: `192.0.2.1/24` has bits behind its prefix; write `192.0.2.0/24`\n\
             t:2: `name` is no network; write for example `192.0.2.0/24`\n\
             t:3: `10.0.0.0/8` has no value\n\
             t:6: this `endif` has no `if`\n\
             t:7: this `if` has no `endif`"
        );
    }
}
