//! The part of the lane list that the kernel decides.
//!
//! Owns the translation of an ordered list, where the first matching rule counts, into two tries,
//! where the longest matching prefix counts. Pure. Whatever cannot be translated is left to the
//! proxy, which evaluates the whole list: the kernel never decides what the list would not.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;

use super::maps::{PrefixLane, PrefixVerdict};
use crate::config::file::{EVERYTHING, Lane, LaneRule, Side};
use crate::config::first_match::FirstMatch;

/// What the kernel does by itself with a flow in `lane`.
const fn in_kernel(lane: Lane) -> PrefixLane {
    match lane {
        Lane::Bypass => PrefixLane::Bypass,
        Lane::Block => PrefixLane::Block,
        Lane::Reject | Lane::Inspect | Lane::Relay => PrefixLane::User,
    }
}

/// The two tries of the kernel. A flow in neither goes to the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// By the flow's client.
    pub client: Vec<(IpNet, PrefixVerdict)>,
    /// By the flow's server.
    pub server: Vec<(IpNet, PrefixVerdict)>,
}

/// Translates the list.
///
/// A rule with prefixes of one side only, or with no condition, goes into the trie of that side. A
/// prefix inside one of an earlier rule is left out, since that one decides; so among the prefixes
/// that hold an address, the longest is of the earliest rule.
///
/// Any other rule stays with the proxy. Where it stands before a rule of the trie and the two may
/// meet in a flow and disagree, the trie sends the flow to the proxy too.
#[must_use]
pub fn compile(rules: &[LaneRule]) -> Tries {
    let mut client = FirstMatch::default();
    let mut server = FirstMatch::default();
    let mut complex = Complex::default();
    for (place, rule) in rules.iter().enumerate() {
        // More rules than a u32 counts do not fit into a configuration file.
        let Ok(place) = u32::try_from(place) else { break };
        let Some((side, prefixes)) = rule.by_networks() else {
            complex.add(rule);
            continue;
        };
        let trie = match side {
            Side::Client => &mut client,
            Side::Server => &mut server,
        };
        for prefix in prefixes {
            let lane = if complex.disputes(side, prefix, rule.lane) {
                PrefixLane::User
            } else {
                in_kernel(rule.lane)
            };
            trie.insert(prefix, PrefixVerdict { rule: place, lane });
        }
    }
    Tries { client: client.into_entries(), server: server.into_entries() }
}

/// The rules so far that stay with the proxy: the networks in which a flow may match one of them, by the side of the
/// flow that is in them and by their lanes.
#[derive(Default)]
struct Complex {
    client: HashMap<Lane, BTreeSet<IpNet>>,
    server: HashMap<Lane, BTreeSet<IpNet>>,
}

impl Complex {
    fn add(&mut self, rule: &LaneRule) {
        for (sides, same, other) in
            [(&mut self.client, &rule.client, &rule.server), (&mut self.server, &rule.server, &rule.client)]
        {
            // Both ends of a flow are of one family.
            let met = |net: &IpNet| other.is_empty() || other.iter().any(|end| is_v4(end.0) == is_v4(*net));
            let networks = sides.entry(rule.lane).or_default();
            if same.is_empty() {
                networks.extend(EVERYTHING.into_iter().filter(met));
            } else {
                networks.extend(same.iter().map(|network| network.0.trunc()).filter(met));
            }
        }
    }

    /// Whether a flow with its end on `side` in `prefix` may match a rule with another lane than `lane`.
    fn disputes(&self, side: Side, prefix: IpNet, lane: Lane) -> bool {
        let networks = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        networks.iter().any(|(other, networks)| *other != lane && overlaps(networks, prefix))
    }
}

/// Whether one of `networks` has an address in common with `prefix`: of two networks that do, one lies in the other.
fn overlaps(networks: &BTreeSet<IpNet>, prefix: IpNet) -> bool {
    let mut around = std::iter::successors(Some(prefix.trunc()), IpNet::supernet);
    around.any(|network| networks.contains(&network)) || {
        // They are sorted by family, address and length.
        let first = IpNet::new(prefix.network(), 0).unwrap_or(prefix);
        let last = IpNet::from(prefix.broadcast());
        networks.range(first..=last).next().is_some()
    }
}

fn is_v4(net: IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use gateway_common::lane::{Entry, choose};
    use jiff::civil::Time;

    use super::*;
    use crate::config::file::{DayTimes, InterfacePattern, Network};

    fn rule(client: &[&str], server: &[&str], lane: Lane) -> LaneRule {
        let nets = |texts: &[&str]| texts.iter().map(|text| Network(text.parse().unwrap())).collect();
        LaneRule { client: nets(client), server: nets(server), ..LaneRule::of(lane) }
    }

    /// What the kernel finds: the longest prefix on each side, then the earlier rule.
    fn kernel(tries: &Tries, client: IpAddr, server: IpAddr) -> PrefixLane {
        let longest = |trie: &[(IpNet, PrefixVerdict)], addr: IpAddr| {
            trie.iter()
                .filter(|(net, _)| net.contains(&addr))
                .max_by_key(|(net, _)| net.prefix_len())
                .map(|(_, verdict)| Entry::new(verdict.rule, verdict.lane))
        };
        choose(longest(&tries.client, client).as_ref(), longest(&tries.server, server).as_ref())
    }

    fn lane(rules: &[LaneRule], client: &str, server: &str) -> PrefixLane {
        kernel(&compile(rules), client.parse().unwrap(), server.parse().unwrap())
    }

    #[test]
    fn without_rules_every_flow_goes_to_the_proxy() {
        assert_eq!(compile(&[]), Tries::default());
        assert_eq!(lane(&[], "10.0.0.1", "192.0.2.1"), PrefixLane::User);
    }

    #[test]
    fn the_first_rule_counts_whichever_prefix_is_longer() {
        let narrow_first =
            [rule(&["10.1.0.0/16"], &[], Lane::Bypass), rule(&["10.0.0.0/8"], &[], Lane::Block)];
        assert_eq!(lane(&narrow_first, "10.1.0.1", "192.0.2.1"), PrefixLane::Bypass);
        assert_eq!(lane(&narrow_first, "10.2.0.1", "192.0.2.1"), PrefixLane::Block);
        let wide_first = [rule(&["10.0.0.0/8"], &[], Lane::Block), rule(&["10.1.0.0/16"], &[], Lane::Bypass)];
        assert_eq!(lane(&wide_first, "10.1.0.1", "192.0.2.1"), PrefixLane::Block);
    }

    #[test]
    fn a_rule_for_the_proxy_shadows_a_later_one_for_the_kernel() {
        let rules = [rule(&["10.1.0.0/16"], &[], Lane::Inspect), rule(&[], &["192.0.2.0/24"], Lane::Bypass)];
        assert_eq!(lane(&rules, "10.1.0.1", "192.0.2.1"), PrefixLane::User);
        assert_eq!(lane(&rules, "10.2.0.1", "192.0.2.1"), PrefixLane::Bypass);
    }

    #[test]
    fn a_rule_without_conditions_holds_for_both_families() {
        let rules = [rule(&[], &[], Lane::Bypass), rule(&["10.0.0.0/8"], &[], Lane::Block)];
        assert_eq!(lane(&rules, "10.0.0.1", "192.0.2.1"), PrefixLane::Bypass);
        assert_eq!(lane(&rules, "2001:db8::1", "2001:db8::2"), PrefixLane::Bypass);
    }

    #[test]
    fn a_disputed_prefix_is_left_to_the_proxy_and_an_undisputed_one_is_not() {
        let rules = [
            rule(&["10.1.0.0/16"], &["192.0.2.0/24"], Lane::Block),
            rule(&["10.0.0.0/8", "172.16.0.0/12", "2001:db8::/32"], &[], Lane::Bypass),
        ];
        assert_eq!(lane(&rules, "10.2.0.1", "198.51.100.1"), PrefixLane::User);
        assert_eq!(lane(&rules, "172.16.0.1", "192.0.2.1"), PrefixLane::Bypass);
        assert_eq!(lane(&rules, "2001:db8::1", "2001:db8::2"), PrefixLane::Bypass);
    }

    /// A packet, as the conditions of a rule see it.
    #[derive(Clone, Debug)]
    struct Packet {
        client: IpAddr,
        server: IpAddr,
        port: u16,
        interface: &'static str,
        time: Time,
    }

    fn matches(rule: &LaneRule, packet: &Packet) -> bool {
        let holds = |nets: &[Network], addr| nets.is_empty() || nets.iter().any(|net| net.0.contains(&addr));
        holds(&rule.client, packet.client)
            && holds(&rule.server, packet.server)
            && (rule.port.is_empty() || rule.port.contains(&packet.port))
            && (rule.interface.is_empty() || rule.interface.iter().any(|name| name.matches(packet.interface)))
            && (rule.time.is_empty() || rule.time.iter().any(|times| times.contains(packet.time)))
    }

    fn first_match(rules: &[LaneRule], packet: &Packet) -> PrefixLane {
        let first = rules.iter().find(|rule| matches(rule, packet));
        first.map_or(PrefixLane::User, |rule| in_kernel(rule.lane))
    }

    /// Few addresses and short prefixes, so that prefixes nest and packets hit them.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0u8..4, 0u8..4).prop_map(|(a, b)| IpAddr::from([10, a << 6, b << 6, 1])),
            (0u16..4, 0u16..4).prop_map(|(a, b)| IpAddr::from([0xfd00, a << 14, b << 14, 0, 0, 0, 0, 1])),
        ]
    }

    fn network() -> impl Strategy<Value = Network> {
        (address(), 0u8..=18).prop_map(|(addr, length)| {
            Network(IpNet::new(addr, length.saturating_add(6)).map_or(IpNet::from(addr), |net| net.trunc()))
        })
    }

    fn any_rule() -> impl Strategy<Value = LaneRule> {
        let networks = || prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(network(), 1..3)];
        let port = prop_oneof![5 => Just(vec![]), 1 => Just(vec![25]), 1 => Just(vec![587])];
        let interface = prop_oneof![6 => Just(vec![]), 1 => Just(vec![InterfacePattern::try_from("eth0".to_owned()).unwrap()])];
        let time = prop_oneof![6 => Just(vec![]), 1 => Just(vec![DayTimes::try_from("00:00-12:00".to_owned()).unwrap()])];
        let lane = prop::sample::select(vec![Lane::Bypass, Lane::Block, Lane::Reject, Lane::Inspect]);
        (networks(), networks(), port, interface, time, lane).prop_map(
            |(client, server, port, interface, time, lane)| LaneRule {
                client,
                server,
                port,
                interface,
                time,
                ..LaneRule::of(lane)
            },
        )
    }

    fn packet() -> impl Strategy<Value = Packet> {
        let ends = (address(), address()).prop_filter("one family", |(a, b)| a.is_ipv4() == b.is_ipv4());
        (ends, prop::sample::select(vec![25, 587]), prop::sample::select(vec!["eth0", "eth1"]), 0i8..24)
            .prop_map(|((client, server), port, interface, hour)| Packet {
                client,
                server,
                port,
                interface,
                time: jiff::civil::time(hour, 0, 0, 0),
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_kernel_decides_as_the_list_does_or_asks(
            rules in prop::collection::vec(any_rule(), 0..7),
            packets in prop::collection::vec(packet(), 1..20),
        ) {
            let tries = compile(&rules);
            for packet in packets {
                let decided = kernel(&tries, packet.client, packet.server);
                let simple = rules.iter().all(|rule| {
                    rule.port.is_empty() && rule.interface.is_empty() && rule.time.is_empty()
                        && (rule.client.is_empty() || rule.server.is_empty())
                });
                if decided != PrefixLane::User || simple {
                    prop_assert_eq!(decided, first_match(&rules, &packet), "{:?}", packet);
                }
            }
        }

        #[test]
        fn no_prefix_is_in_a_trie_twice(rules in prop::collection::vec(any_rule(), 0..7)) {
            let tries = compile(&rules);
            for trie in [&tries.client, &tries.server] {
                let mut prefixes: Vec<IpNet> = trie.iter().map(|(net, _)| *net).collect();
                prefixes.sort();
                prefixes.dedup();
                prop_assert_eq!(prefixes.len(), trie.len());
            }
        }
    }
}
