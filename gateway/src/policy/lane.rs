//! Which lane a flow takes: the first rule whose conditions all hold.
//!
//! The kernel decides the simple rules by itself (`datapath::lanes`); what reaches the proxy is
//! decided here by the whole list.

use jiff::civil::Time;

use crate::config::file::{ClientReached, Lane, LaneRule, RelayTarget, StartTls};
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
}

impl Lanes {
    /// The rules in their order.
    #[must_use]
    pub const fn new(rules: Vec<LaneRule>) -> Self {
        Self { rules }
    }

    /// Whether a rule asks for what the kernel knows of a flow.
    #[must_use]
    pub fn ask_for_facts(&self) -> bool {
        self.rules.iter().any(|rule| !rule.interface.is_empty() || rule.client_reached.is_some())
    }

    /// The lane of a flow; `facts` are `None` where they are not known, and then no rule that
    /// asks for one of them matches. `time` is local.
    #[must_use]
    pub fn choose(
        &self,
        client: ClientAddr,
        destination: OriginalDst,
        facts: Option<&FlowFacts>,
        time: Time,
    ) -> Choice {
        let holds = |rule: &&LaneRule| {
            (rule.client.is_empty() || rule.client.iter().any(|net| net.0.contains(&client.ip())))
                && (rule.server.is_empty() || rule.server.iter().any(|net| net.0.contains(&destination.ip())))
                && (rule.port.is_empty() || rule.port.contains(&destination.port()))
                && (rule.interface.is_empty()
                    || facts.is_some_and(|facts| {
                        rule.interface.iter().any(|pattern| pattern.matches(&facts.interface))
                    }))
                && rule.client_reached.is_none_or(|numbers| {
                    facts.and_then(|facts| facts.client).is_some_and(|client| has_reached(&client, numbers))
                })
                && (rule.time.is_empty() || rule.time.iter().any(|times| times.contains(time)))
        };
        let rule = self.rules.iter().find(holds);
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
    use super::*;
    use crate::config;

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
    fn an_unknown_interface_matches_no_interface_rule() {
        let lanes = lanes("  - {interface: ['vnet*'], time: ['08:00-18:00'], lane: block}\n");
        assert!(lanes.ask_for_facts());
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:25", Some("vnet3"), 9), Lane::Block);
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:25", Some("vnet3"), 19), Lane::Inspect);
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:25", Some("eth0"), 9), Lane::Inspect);
        assert_eq!(choose(&lanes, "10.1.2.3:1", "192.0.2.1:25", None, 9), Lane::Inspect);
    }

    #[test]
    fn a_client_must_have_reached_every_number_that_is_given() {
        let lanes = lanes("  - {client-reached: {destinations: 20, failed-connects: 5}, lane: reject}\n");
        assert!(lanes.ask_for_facts());
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
