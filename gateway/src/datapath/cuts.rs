//! Networks whose flows are to be ended, many at once.
//!
//! To find the flows of a network takes a walk through the whole table, which may be long. When many
//! clients are locked in a moment, one walk is for all of them.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::reset::Cut;
use crate::ipc::flow::FlowEnd;

/// Networks, and how their flows end.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    nets: HashMap<IpNet, (Cut, FlowEnd)>,
    /// The lengths of their prefixes, for either version of the protocol.
    lengths: [BTreeSet<u8>; 2],
}

impl Cuts {
    /// Adds a network, or changes how its flows end.
    pub(super) fn add(&mut self, net: IpNet, cut: Cut, end: FlowEnd) {
        self.nets.insert(net.trunc(), (cut, end));
        let [four, six] = &mut self.lengths;
        let lengths = if net.addr().is_ipv4() { four } else { six };
        lengths.insert(net.prefix_len());
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// How flows of a client end, by its longest network; `None`: they go on.
    pub(super) fn of(&self, client: IpAddr) -> Option<(Cut, FlowEnd)> {
        let [four, six] = &self.lengths;
        let lengths = if client.is_ipv4() { four } else { six };
        lengths.iter().rev().find_map(|length| {
            let net = IpNet::new(client, *length).ok()?.trunc();
            self.nets.get(&net).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_found_in_the_longest_of_its_networks_whatever_the_version() {
        let mut cuts = Cuts::default();
        assert!(cuts.is_empty());
        for (net, end) in [
            ("192.0.2.7/24", FlowEnd::Limit),
            ("192.0.2.9/32", FlowEnd::Locked),
            ("2001:db8::/32", FlowEnd::Ended),
            ("192.0.2.9/32", FlowEnd::Idle),
        ] {
            cuts.add(net.parse().unwrap(), Cut::Reset, end);
        }
        let of = |client: &str| cuts.of(client.parse().unwrap()).map(|(_, end)| end);
        assert_eq!(of("192.0.2.200"), Some(FlowEnd::Limit));
        assert_eq!(of("192.0.2.9"), Some(FlowEnd::Idle));
        assert_eq!(of("2001:db8:1::1"), Some(FlowEnd::Ended));
        assert_eq!((of("192.0.3.1"), of("2001:db9::1")), (None, None));
        assert!(!cuts.is_empty());
    }
}
