//! Lane rules that can never decide anything.

use ipnet::IpNet;
use jiff::civil::Time;

use super::Findings;
use crate::config::file::{ClientReached, Config, DayTimes, InterfacePattern, LaneRule, Network, Origin};
use crate::config::lane_index::Index;

/// Comparisons after which rules are no longer compared, so that a file of a hundred thousand
/// networks is read at once, however they lie in one another.
const MOST_COMPARISONS: usize = 2_000_000;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    let errors = findings.errors();
    for (index, rule) in config.lanes.iter().enumerate() {
        conditions(config, index, rule, findings);
        reached(config, index, rule, findings);
    }
    // What a rule with an error will match is not known yet.
    if findings.errors() == errors {
        shadowed(&config.lanes, findings);
    }
}

fn conditions(config: &Config, index: usize, rule: &LaneRule, findings: &mut Findings<'_>) {
    let empty = [
        ("client", rule.client.is_empty()),
        ("server", rule.server.is_empty()),
        ("port", rule.port.is_empty()),
        ("interface", rule.interface.is_empty()),
        ("time", rule.time.is_empty()),
    ];
    for (name, is_empty) in empty {
        let key = format!("lanes.{index}.{name}");
        if is_empty && findings.is_written(&key) {
            findings.error(
                &[&key],
                format!(
                    "an empty `{name}` would hold for every flow; write what it is to match, or leave it out"
                ),
            );
        }
    }
    let assign = config.origin == Origin::Assign;
    for (position, port) in rule.port.iter().enumerate() {
        let key = format!("lanes.{index}.port.{position}");
        if *port == 0 {
            findings.error(&[&key], "port 0 does not exist; write for example `25`");
        } else if assign && !config.intercept.ports.contains(port) {
            findings.warn(
                &[&key, "intercept.ports"],
                format!("port {port} is not among the intercepted `ports`; the rule is never asked for it"),
            );
        }
    }
    for (position, interface) in rule.interface.iter().enumerate() {
        let key = format!("lanes.{index}.interface.{position}");
        if !assign {
            findings.warn(&[&key, "origin"], "the interface of a flow is known with `origin: assign` only");
        } else if interface.is_name()
            && !config.intercept.interfaces.is_empty()
            && !config.intercept.interfaces.iter().any(|pattern| pattern.matches(interface.as_str()))
        {
            findings.warn(
                &[&key, "intercept.interfaces"],
                format!("`{interface}` is not among the `interfaces` on which flows are intercepted"),
            );
        }
    }
}

fn reached(config: &Config, index: usize, rule: &LaneRule, findings: &mut Findings<'_>) {
    let Some(numbers) = rule.client_reached else { return };
    let key = format!("lanes.{index}.client-reached");
    if numbers == ClientReached::default() {
        findings.error(
            &[&key],
            "no number is given, so this would hold for every flow; write for example \
             `{destinations: 50}`, or leave it out",
        );
    } else if config.origin != Origin::Assign {
        findings.warn(
            &[&key, "origin"],
            "clients are counted with `origin: assign` only, so that this never holds",
        );
    }
}

fn shadowed(rules: &[LaneRule], findings: &mut Findings<'_>) {
    let index = Index::of(rules);
    let mut left = MOST_COMPARISONS;
    for (place, rule) in rules.iter().enumerate() {
        let Some(earlier) = first_to_cover(place, rule, rules, &index, &mut left) else { continue };
        let (key, earlier) = (format!("lanes.{place}"), format!("lanes.{earlier}"));
        let before = findings.line(&earlier).unwrap_or_default();
        findings.warn(
            &[&key, &earlier],
            format!("this rule never matches: the rule in line {before} takes all its flows before"),
        );
    }
}

/// The first of the rules before `place` that takes all flows of the `rule` there; none when no comparison is `left`.
fn first_to_cover(
    place: usize,
    rule: &LaneRule,
    rules: &[LaneRule],
    index: &Index,
    left: &mut usize,
) -> Option<usize> {
    // One that takes all flows of the rule takes those of its first networks and interface.
    let address = |networks: &[Network]| networks.first().map(|network| network.0.addr());
    let name = rule.interface.first().filter(|pattern| pattern.is_name()).map(InterfacePattern::as_str);
    let mut first = None;
    for (_, places) in index.find(address(&rule.client), address(&rule.server), name) {
        for before in places.iter().copied().take_while(|before| *before < first.unwrap_or(place)) {
            let Some(earlier) = rules.get(before) else { break };
            *left = left.saturating_sub(cost(earlier, rule));
            if *left == 0 {
                return None;
            }
            if covers(earlier, rule) {
                first = Some(before);
                break;
            }
        }
    }
    first
}

/// Comparisons that [`covers`] may need.
fn cost(earlier: &LaneRule, rule: &LaneRule) -> usize {
    let pairs = |a: usize, b: usize| a.saturating_mul(b);
    1 + pairs(earlier.client.len(), rule.client.len())
        + pairs(earlier.server.len(), rule.server.len())
        + pairs(earlier.port.len(), rule.port.len())
        + pairs(earlier.interface.len(), rule.interface.len())
        + if earlier.time.is_empty() { 0 } else { pairs(1_440, earlier.time.len() + rule.time.len()) }
}

/// Whether `earlier` matches every flow that `rule` matches.
fn covers(earlier: &LaneRule, rule: &LaneRule) -> bool {
    each_within(&earlier.client, &rule.client, contains)
        && each_within(&earlier.server, &rule.server, contains)
        && each_within(&earlier.port, &rule.port, |a, b| a == b)
        && each_within(&earlier.interface, &rule.interface, includes)
        && always_within(&earlier.time, &rule.time)
        && earlier.client_reached.is_none_or(|outer| {
            rule.client_reached
                .is_some_and(|inner| inner.numbers().into_iter().zip(outer.numbers()).all(|(i, o)| i >= o))
        })
}

/// Whether each of `inner` is within one of `outer`; an empty condition holds for everything.
fn each_within<T>(outer: &[T], inner: &[T], within: impl Fn(&T, &T) -> bool) -> bool {
    outer.is_empty() || (!inner.is_empty() && inner.iter().all(|i| outer.iter().any(|o| within(o, i))))
}

fn contains(outer: &Network, inner: &Network) -> bool {
    match (outer.0, inner.0) {
        (IpNet::V4(outer), IpNet::V4(inner)) => outer.contains(&inner),
        (IpNet::V6(outer), IpNet::V6(inner)) => outer.contains(&inner),
        (IpNet::V4(_), IpNet::V6(_)) | (IpNet::V6(_), IpNet::V4(_)) => false,
    }
}

fn includes(outer: &InterfacePattern, inner: &InterfacePattern) -> bool {
    outer == inner || outer.as_str() == "*" || (inner.is_name() && outer.matches(inner.as_str()))
}

fn always_within(outer: &[DayTimes], inner: &[DayTimes]) -> bool {
    let any = |times: &[DayTimes], time| times.is_empty() || times.iter().any(|part| part.contains(time));
    outer.is_empty() || minutes().all(|time| any(outer, time) || !any(inner, time))
}

fn minutes() -> impl Iterator<Item = Time> {
    (0..24).flat_map(|hour| (0..60).map(move |minute| jiff::civil::time(hour, minute, 0, 0)))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::net::IpAddr;

    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;
    use crate::config::file::Lane;

    const NETWORKS: &[&str] =
        &["0.0.0.0/0", "192.0.2.0/24", "192.0.2.7", "::/0", "2001:db8::/32", "2001:db8::7"];
    const ADDRESSES: &[&str] =
        &["192.0.2.7", "192.0.2.8", "198.51.100.1", "2001:db8::7", "2001:db8::8", "::1"];
    const INTERFACES: &[&str] = &["*", "vnet*", "vnet1", "vnet?", "eth0"];
    const NAMES: &[&str] = &["vnet1", "vnet12", "eth0", "lo"];
    const TIMES: &[&str] = &["22:00-06:00", "00:00-06:00", "22:00-24:00", "06:00-22:00", "08:00-09:00"];
    const HOURS: &[i8] = &[0, 5, 6, 8, 12, 22, 23];

    fn some<T>(words: &'static [&'static str]) -> impl Strategy<Value = Vec<T>>
    where
        T: TryFrom<String, Error = String> + std::fmt::Debug,
    {
        subsequence(words, 0..3)
            .prop_map(|words| words.into_iter().map(|word| T::try_from(word.to_owned()).unwrap()).collect())
    }

    fn rule() -> impl Strategy<Value = LaneRule> {
        let ports = subsequence(&[25_u16, 587][..], 0..3);
        let number = || prop::sample::select(vec![0_u32, 5, 20]);
        let reached = prop::option::of((number(), number()).prop_map(|(syns, destinations)| ClientReached {
            syns,
            destinations,
            ..ClientReached::default()
        }));
        (some(NETWORKS), some(NETWORKS), ports, some(INTERFACES), some(TIMES), reached).prop_map(
            |(client, server, port, interface, time, client_reached)| LaneRule {
                client,
                server,
                port,
                interface,
                time,
                client_reached,
                ..LaneRule::of(Lane::Block)
            },
        )
    }

    fn within(networks: &[Network], address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap();
        networks.is_empty() || networks.iter().any(|network| network.0.contains(&address))
    }

    proptest! {
        // Few pairs of rules cover one another.
        #![proptest_config(ProptestConfig { cases: 300, max_global_rejects: 300_000, ..ProptestConfig::default() })]

        #[test]
        fn a_rule_that_is_said_never_to_match_never_does(earlier in rule(), rule in rule()) {
            prop_assume!(covers(&earlier, &rule));
            for address in ADDRESSES {
                prop_assert!(!within(&rule.client, address) || within(&earlier.client, address));
                prop_assert!(!within(&rule.server, address) || within(&earlier.server, address));
            }
            for name in NAMES {
                let on = |patterns: &[InterfacePattern]| patterns.is_empty() || patterns.iter().any(|p| p.matches(name));
                prop_assert!(!on(&rule.interface) || on(&earlier.interface));
            }
            for hour in HOURS {
                let time = jiff::civil::time(*hour, 30, 0, 0);
                let at = |times: &[DayTimes]| times.is_empty() || times.iter().any(|part| part.contains(time));
                prop_assert!(!at(&rule.time) || at(&earlier.time));
            }
            for (syns, destinations) in [(0, 0), (5, 4), (5, 5), (19, 20), (20, 20), (4, 30)] {
                let at = |reached: Option<ClientReached>| {
                    reached.is_none_or(|least| syns >= least.syns && destinations >= least.destinations)
                };
                prop_assert!(!at(rule.client_reached) || at(earlier.client_reached));
            }
            prop_assert!(earlier.port.is_empty() || (!rule.port.is_empty() && rule.port.iter().all(|p| earlier.port.contains(p))));
        }
    }

    proptest! {
        #[test]
        fn the_first_rule_that_takes_all_flows_of_another_is_found(rules in prop::collection::vec(rule(), 0..12)) {
            let index = Index::of(&rules);
            for (place, rule) in rules.iter().enumerate() {
                let found = first_to_cover(place, rule, &rules, &index, &mut 1_000_000);
                let first = rules.iter().take(place).position(|earlier| covers(earlier, rule));
                prop_assert_eq!(found, first, "for rule {}", place);
            }
        }
    }

    #[test]
    fn among_many_rules_the_last_is_told_of_if_one_before_takes_its_flows() {
        let mut rules = String::new();
        for number in 0..9_000 {
            let (high, low) = (number / 250, number % 250);
            let condition = match number % 3 {
                0 => format!("client: [10.{high}.{low}.0/24]"),
                1 => format!("client: [10.0.0.0/8], server: [172.16.{high}.{low}], port: [25]"),
                _ => format!("interface: [vnet{number}]"),
            };
            writeln!(rules, "  - {{{condition}, lane: block}}").unwrap();
        }
        let last = "  - {client: [10.11.247.7], lane: inspect}\n";
        let text = format!("intercept: {{interfaces: ['vnet*']}}\nlanes:\n{rules}{last}");
        let (_, warnings) = crate::config::examine(text.as_bytes(), "test").unwrap();
        let told: Vec<_> =
            warnings.list.iter().map(|warning| (warning.line, warning.message.as_str())).collect();
        // Lines are counted from 1, and two stand before the rules.
        let expected = "this rule never matches: the rule in line 3000 takes all its flows before";
        assert_eq!(told, [(9_003, expected)]);
    }

    #[test]
    fn any_number_of_warnings_is_no_error_and_hides_none() {
        let rules = |last: &str| {
            let often = "  - {client: [192.0.2.7], lane: block}\n".repeat(100);
            format!(
                "origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\nlanes:\n{often}  - {last}\n"
            )
        };
        let (config, warnings) =
            crate::config::examine(rules("{server: [192.0.2.7], lane: block}").as_bytes(), "test").unwrap();
        assert_eq!((config.lanes.len(), warnings.list.len(), warnings.more), (101, 50, true));
        let problems =
            crate::config::examine(rules("{lane: inspect, target: mx}").as_bytes(), "test").unwrap_err();
        assert!(problems.list.last().unwrap().message.contains("leave `target` out"), "{problems}");
    }

    #[test]
    fn a_rule_covers_itself_and_one_without_conditions_covers_all() {
        let rule = |client: &str| LaneRule {
            client: vec![Network::try_from(client.to_owned()).unwrap()],
            ..LaneRule::of(Lane::Bypass)
        };
        let everything = LaneRule { client: Vec::new(), ..rule("::/0") };
        assert!(covers(&rule("192.0.2.0/24"), &rule("192.0.2.0/24")));
        assert!(covers(&everything, &rule("192.0.2.0/24")));
        assert!(!covers(&rule("192.0.2.0/24"), &everything));
        assert!(!covers(&rule("::/0"), &rule("192.0.2.0/24")));
    }
}
