//! Which lane a flow takes: the first rule whose conditions all hold.
//!
//! The kernel decides the simple rules by itself (`datapath::lanes`); what reaches the proxy is
//! decided here by the whole list, of which only those rules are looked at that name a network of the
//! flow, or none: what a flow costs does not grow with the rules for others.

use jiff::civil::Time;

use crate::config::file::{ClientReached, Lane, LaneRule, RelayTarget, StartTls};
use crate::config::lane_index::{Index, Met};
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::flow::FlowFacts;
use crate::ipc::client::ClientFacts;

/// What the list says of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its lane.
    pub lane: Lane,
    /// What is done with STARTTLS, where the rule says.
    pub starttls: Option<StartTls>,
    /// Where mail of the relay lane goes.
    pub target: RelayTarget,
    /// Whether that mail is signed.
    pub sign: bool,
}

/// The operator's list of rules.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    rules: Vec<LaneRule>,
    index: Index,
    ask_for_facts: bool,
    ask_for_time: bool,
    /// The ports to intercept; `None`: whatever comes is meant.
    ports: Option<Vec<u16>>,
}

impl Lanes {
    /// The rules in their order.
    #[must_use]
    pub fn new(rules: Vec<LaneRule>) -> Self {
        let index = Index::of(&rules);
        let asks = |rule: &LaneRule| !rule.interface.is_empty() || rule.client_reached.is_some();
        let ask_for_facts = rules.iter().any(asks);
        let ask_for_time = rules.iter().any(|rule| !rule.time.is_empty());
        Self { rules, index, ask_for_facts, ask_for_time, ports: None }
    }

    /// The same, but flows to other ports than these pass: they come as long as the kernel carries
    /// sessions of a port that was intercepted before.
    #[must_use]
    pub fn for_ports(mut self, ports: Vec<u16>) -> Self {
        self.ports = Some(ports);
        self
    }

    /// Whether a rule asks for what the kernel knows of a flow.
    #[must_use]
    pub const fn ask_for_facts(&self) -> bool {
        self.ask_for_facts
    }

    /// Whether a rule asks what time it is.
    #[must_use]
    pub const fn ask_for_time(&self) -> bool {
        self.ask_for_time
    }

    /// The lane of a flow; `facts` are `None` where they are not known, and then no rule that
    /// asks for one of them matches. `time` is local, and any where no rule asks for it.
    #[must_use]
    pub fn choose(
        &self,
        client: ClientAddr,
        destination: OriginalDst,
        facts: Option<&FlowFacts>,
        time: Time,
    ) -> Choice {
        if self.ports.as_ref().is_some_and(|ports| !ports.contains(&destination.port())) {
            return Choice {
                lane: Lane::Bypass,
                starttls: None,
                target: RelayTarget::default(),
                sign: false,
            };
        }
        // What has found a rule is not asked again: it may name thousands of networks.
        let holds = |met: Met, rule: &LaneRule| {
            (met == Met::Client
                || rule.client.is_empty()
                || rule.client.iter().any(|net| net.0.contains(&client.ip())))
                && (met == Met::Server
                    || rule.server.is_empty()
                    || rule.server.iter().any(|net| net.0.contains(&destination.ip())))
                && (rule.port.is_empty() || rule.port.contains(&destination.port()))
                && (met == Met::Interface
                    || rule.interface.is_empty()
                    || facts.is_some_and(|facts| {
                        rule.interface.iter().any(|pattern| pattern.matches(&facts.interface))
                    }))
                && rule.client_reached.is_none_or(|numbers| {
                    facts.and_then(|facts| facts.client).is_some_and(|client| has_reached(&client, numbers))
                })
                && (rule.time.is_empty() || rule.time.iter().any(|times| times.contains(time)))
        };
        let interface = facts.map(|facts| facts.interface.as_str());
        let mut first: Option<usize> = None;
        for (met, places) in self.index.find(Some(client.ip()), Some(destination.ip()), interface) {
            let mut earlier = places.iter().take_while(|place| first.is_none_or(|first| **place < first));
            let found =
                earlier.find(|place| self.rules.get(**place).is_some_and(|rule| holds(met, rule))).copied();
            first = found.or(first);
        }
        let rule = first.and_then(|place| self.rules.get(place));
        Choice {
            lane: rule.map_or(Lane::Inspect, |rule| rule.lane),
            starttls: rule.and_then(|rule| rule.starttls),
            target: rule.and_then(|rule| rule.target).unwrap_or_default(),
            sign: rule.is_some_and(|rule| rule.sign),
        }
    }
}

/// Whether the client has reached every number that is given.
fn has_reached(client: &ClientFacts, numbers: ClientReached) -> bool {
    let has = [client.open, client.syns, client.sessions, client.fan_out, client.failed];
    has.into_iter().zip(numbers.numbers()).all(|(has, number)| has >= number)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::net::{IpAddr, SocketAddr};

    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;
    use crate::config;
    use crate::config::file::Network;

    fn lanes(rules: &str) -> Lanes {
        let text =
            format!("origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\nlanes:\n{rules}");
        Lanes::new(config::parse(&text, "test").unwrap().lanes)
    }

    fn choose(lanes: &Lanes, client: &str, server: &str, interface: Option<&str>, hour: i8) -> Lane {
        let facts = interface.map(|name| FlowFacts { interface: name.to_owned(), ..FlowFacts::default() });
        lanes
            .choose(
                ClientAddr::new(client.parse().unwrap()),
                OriginalDst::new(server.parse().unwrap()),
                facts.as_ref(),
                jiff::civil::time(hour, 0, 0, 0),
            )
            .lane
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let lanes = lanes(
            "  - {client: [10.1.0.0/16], lane: inspect}\n  - {client: [10.0.0.0/8], lane: bypass}\n\
             \x20 - {server: ['2001:db8::/32'], port: [587], lane: reject}\n",
        );
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:25", None, 0), Lane::Inspect);
        assert_eq!(choose(&lanes, "10.2.2.3:1", "192.0.2.1:25", None, 0), Lane::Bypass);
        assert_eq!(choose(&lanes, "[2001:db8::1]:1", "[2001:db8::2]:587", None, 0), Lane::Reject);
        assert_eq!(choose(&lanes, "[2001:db8::1]:1", "[2001:db8::2]:25", None, 0), Lane::Inspect);
    }

    #[test]
    fn a_port_that_is_not_to_be_intercepted_any_more_passes_whatever_the_list_says() {
        let lanes = lanes("  - {client: [10.0.0.0/8], lane: reject}\n").for_ports(vec![25, 465]);
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:465", None, 0), Lane::Reject);
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:587", None, 0), Lane::Bypass);
    }

    /// Few networks that lie in one another, so that rules overlap and flows hit them.
    fn some<T: TryFrom<String, Error = String> + std::fmt::Debug>(
        words: &'static [&'static str],
    ) -> impl Strategy<Value = Vec<T>> {
        subsequence(words, 0..=2)
            .prop_map(|words| words.into_iter().map(|word| T::try_from(word.to_owned()).unwrap()).collect())
    }

    fn any_rule() -> impl Strategy<Value = LaneRule> {
        const NETWORKS: &[&str] =
            &["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "::/0", "2001:db8::/32"];
        const INTERFACES: &[&str] = &["*", "vnet*", "vnet1", "eth0"];
        let ports = subsequence(&[25_u16, 587][..], 0..=1);
        let lane = prop::sample::select(vec![Lane::Bypass, Lane::Block, Lane::Reject, Lane::Relay]);
        (some(NETWORKS), some(NETWORKS), ports, some(INTERFACES), some(&["00:00-12:00", "11:00-24:00"]), lane)
            .prop_map(|(client, server, port, interface, time, lane)| LaneRule {
                client,
                server,
                port,
                interface,
                time,
                ..LaneRule::of(lane)
            })
    }

    /// The list read from the top, as an operator reads it.
    fn first_match(
        rules: &[LaneRule],
        client: &str,
        server: &str,
        interface: Option<&str>,
        hour: i8,
    ) -> Lane {
        let (client, server): (SocketAddr, SocketAddr) = (client.parse().unwrap(), server.parse().unwrap());
        let within =
            |nets: &[Network], ip: IpAddr| nets.is_empty() || nets.iter().any(|net| net.0.contains(&ip));
        let on =
            |rule: &LaneRule| interface.is_some_and(|name| rule.interface.iter().any(|p| p.matches(name)));
        let at =
            |rule: &LaneRule| rule.time.iter().any(|times| times.contains(jiff::civil::time(hour, 0, 0, 0)));
        let holds = |rule: &&LaneRule| {
            within(&rule.client, client.ip())
                && within(&rule.server, server.ip())
                && (rule.port.is_empty() || rule.port.contains(&server.port()))
                && (rule.interface.is_empty() || on(rule))
                && (rule.time.is_empty() || at(rule))
        };
        rules.iter().find(holds).map_or(Lane::Inspect, |rule| rule.lane)
    }

    proptest! {
        #[test]
        fn what_is_found_is_the_first_that_holds(rules in prop::collection::vec(any_rule(), 0..12)) {
            let lanes = Lanes::new(rules.clone());
            let ends = [
                ("10.1.2.3:1", "10.1.9.9:25"), ("10.9.9.9:1", "10.1.2.3:587"), ("192.0.2.1:1", "10.1.2.3:25"),
                ("[2001:db8::1]:1", "[2001:db8::2]:25"), ("[::1]:1", "[2001:db8::2]:587"),
            ];
            for (client, server) in ends {
                for interface in [None, Some("eth0"), Some("vnet1"), Some("vnet2")] {
                    for hour in [0, 13] {
                        let found = choose(&lanes, client, server, interface, hour);
                        prop_assert_eq!(found, first_match(&rules, client, server, interface, hour));
                    }
                }
            }
        }
    }

    #[test]
    fn of_many_rules_those_for_others_are_not_looked_at() {
        let mut rules = String::new();
        for number in 0..9_000 {
            let (high, low) = (number / 250, number % 250);
            let rule = match number % 3 {
                0 => format!("client: [10.{high}.{low}.0/24]"),
                1 => format!("client: [10.0.0.0/8], server: [172.16.{high}.{low}]"),
                _ => format!("interface: [vnet{number}]"),
            };
            writeln!(rules, "  - {{{rule}, lane: block}}").unwrap();
        }
        let lanes = lanes(&rules);
        let found = |client: &str, server: &str, interface| {
            let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
            lanes
                .index
                .find(Some(client), Some(server), interface)
                .map(|(_, places)| places.len())
                .sum::<usize>()
        };
        assert_eq!(found("192.0.2.1", "192.0.2.2", Some("eth0")), 0);
        assert_eq!(found("10.0.3.1", "172.16.0.4", Some("vnet5")), 3);
    }

    #[test]
    fn an_unknown_interface_matches_no_interface_rule() {
        let lanes = lanes("  - {interface: ['vnet*'], time: ['08:00-18:00'], lane: block}\n");
        assert!(lanes.ask_for_facts() && lanes.ask_for_time());
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:25", Some("vnet3"), 9), Lane::Block);
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:25", Some("vnet3"), 19), Lane::Inspect);
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:25", Some("eth0"), 9), Lane::Inspect);
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:25", None, 9), Lane::Inspect);
    }

    #[test]
    fn a_client_must_have_reached_every_number_that_is_given() {
        let lanes = lanes("  - {client-reached: {destinations: 20, failed-connects: 5}, lane: reject}\n");
        assert!(lanes.ask_for_facts() && !lanes.ask_for_time());
        let lane = |client: Option<ClientFacts>| {
            let facts = FlowFacts { client, ..FlowFacts::default() };
            let (from, to) = ("192.0.2.7:1".parse().unwrap(), "192.0.2.1:25".parse().unwrap());
            let time = jiff::civil::time(0, 0, 0, 0);
            lanes.choose(ClientAddr::new(from), OriginalDst::new(to), Some(&facts), time).lane
        };
        let client = |fan_out, failed| Some(ClientFacts { fan_out, failed, ..ClientFacts::default() });
        assert_eq!(lane(client(20, 5)), Lane::Reject);
        assert_eq!(lane(client(19, 5)), Lane::Inspect);
        assert_eq!(lane(client(2_000, 4)), Lane::Inspect);
        assert_eq!(lane(None), Lane::Inspect, "nothing is known of it");
    }
}
