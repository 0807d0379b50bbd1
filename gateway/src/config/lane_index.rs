//! Which rules of a long list may hold for a flow, found without a look at the others.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::file::{LaneRule, Network};

/// Prefixes longer than half an address are worth more than the name of an interface, which tells apart what is behind
/// it and no more.
const INTERFACE: u16 = 64;

/// The condition under which rules were found, and which a flow meets that found them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Client,
    Server,
    Interface,
    Nothing,
}

/// Rules by the condition that the fewest flows meet; each rule is under one kind of condition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    client: Networks,
    server: Networks,
    interface: HashMap<String, Vec<usize>>,
    /// Those that ask for none of these, or for a pattern of interfaces.
    rest: Vec<usize>,
}

impl Index {
    pub(crate) fn of(rules: &[LaneRule]) -> Self {
        let mut index = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            let (client, server) = (worth(&rule.client), worth(&rule.server));
            let names = !rule.interface.is_empty() && rule.interface.iter().all(|pattern| pattern.is_name());
            if names && INTERFACE > client.max(server).unwrap_or(0) {
                for name in &rule.interface {
                    index.interface.entry(name.as_str().to_owned()).or_default().push(place);
                }
            } else if client.is_none() && server.is_none() {
                index.rest.push(place);
            } else {
                let (networks, of) = if client >= server {
                    (&rule.client, &mut index.client)
                } else {
                    (&rule.server, &mut index.server)
                };
                networks.iter().for_each(|network| of.insert(network.0, place));
            }
        }
        index
    }

    /// Lists of places of rules, each in the order of the rules. Every rule that holds for such a flow is in one of them,
    /// but for those that ask for an end that is not given.
    pub(crate) fn find<'a>(
        &'a self,
        client: Option<IpAddr>,
        server: Option<IpAddr>,
        interface: Option<&str>,
    ) -> impl Iterator<Item = (Met, &'a [usize])> {
        let interface = interface.and_then(|name| self.interface.get(name));
        let client = client.into_iter().flat_map(|address| self.client.find(address));
        let client = client.map(|places| (Met::Client, places));
        let server = server.into_iter().flat_map(|address| self.server.find(address));
        let server = server.map(|places| (Met::Server, places));
        let interface = interface.into_iter().map(|places| (Met::Interface, places.as_slice()));
        client.chain(server).chain(interface).chain([(Met::Nothing, self.rest.as_slice())])
    }
}

/// How much a condition narrows flows down: of the shortest of its prefixes, in 128ths of an address. `None` where
/// there is no condition.
fn worth(networks: &[Network]) -> Option<u16> {
    let worth = |net: IpNet| u16::from(net.prefix_len()) * 128 / u16::from(net.max_prefix_len());
    networks.iter().map(|network| worth(network.0)).min()
}

/// Rules by networks.
#[derive(Clone, Debug, Default)]
struct Networks {
    /// Lengths of prefixes that there are.
    v4: BTreeSet<u8>,
    v6: BTreeSet<u8>,
    places: HashMap<IpNet, Vec<usize>>,
}

impl Networks {
    fn insert(&mut self, network: IpNet, place: usize) {
        let network = network.trunc();
        let lengths = if network.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        lengths.insert(network.prefix_len());
        let places = self.places.entry(network).or_default();
        // A rule may name a network twice.
        if places.last() != Some(&place) {
            places.push(place);
        }
    }

    /// At most one list for each length of prefixes.
    fn find(&self, address: IpAddr) -> impl Iterator<Item = &[usize]> {
        let lengths = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let network = move |length: &u8| IpNet::new(address, *length).ok().map(|network| network.trunc());
        lengths.iter().filter_map(network).filter_map(|network| self.places.get(&network).map(Vec::as_slice))
    }
}
