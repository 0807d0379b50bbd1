//! What a configuration gives up that flows in the kernel still need.
//!
//! A flow that the kernel carries needs its port in the program's set, and the program on the
//! interfaces of both sides. What a new configuration leaves out stays until no such flow is left.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::{Config, Steering};
use crate::datapath::chain;

/// Ports that flows in the kernel need.
#[derive(Debug)]
pub(super) struct Held {
    /// The number of the configuration.
    number: u64,
    /// The program's set of ports.
    in_force: BTreeSet<u16>,
    /// Whether there are such flows.
    carries: bool,
    /// Whether that was heard since the configuration changed: the last moments before are not known.
    heard: bool,
    /// The ports that flows need and the configuration has not.
    needed: BTreeSet<u16>,
}

impl Held {
    /// With flows of these ports.
    pub(super) fn new(carried: BTreeSet<u16>) -> Self {
        Self {
            number: 0,
            carries: !carried.is_empty(),
            heard: true,
            needed: BTreeSet::new(),
            in_force: carried,
        }
    }

    /// The number of the configuration.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether flows are carried.
    pub(super) const fn carries(&self) -> bool {
        self.carries
    }

    /// Whether flows are carried that came before the configuration, or may be.
    pub(super) const fn may_carry(&self) -> bool {
        self.carries || !self.heard
    }

    /// The set of ports under a configuration with these: which of the others are needed is to be heard.
    pub(super) fn configure(&mut self, ports: &[u16]) -> Vec<u16> {
        // The first one is that of the start.
        self.heard = self.number == 0;
        self.number = self.number.wrapping_add(1);
        self.in_force.extend(ports);
        self.in_force.iter().copied().collect()
    }

    /// Flows of these ports are `carried` under the configuration with this number, which has `ports`:
    /// the set from here on, if it is another one.
    fn hear(&mut self, number: u64, ports: &[u16], carried: BTreeSet<u16>) -> Option<Vec<u16>> {
        if number != self.number {
            return None;
        }
        (self.carries, self.heard) = (!carried.is_empty(), true);
        self.needed = carried.iter().copied().filter(|port| !ports.contains(port)).collect();
        let mut wanted = carried;
        wanted.extend(ports);
        if wanted == self.in_force {
            return None;
        }
        self.in_force = wanted;
        Some(self.in_force.iter().copied().collect())
    }
}

impl Steering {
    /// Takes in of which ports flows are carried. True: [`Self::follow`] is due.
    pub fn hold(&mut self, config: &Config, number: u64, carried: BTreeSet<u16>) -> bool {
        let before = (self.held.carries(), self.held.may_carry());
        let needed_before = self.held.needed.clone();
        if let Some(ports) = self.held.hear(number, &config.intercept.ports, carried)
            && let Err(error) = self.kernel.set_ports(&ports)
        {
            warn!(error = chain(&error), "cannot change which ports are intercepted");
        }
        let needed = &self.held.needed;
        if *needed != needed_before && !needed.is_empty() {
            info!(ports = ?needed, "the kernel carries sessions of ports that are not to be intercepted any more: new ones pass unread until they have ended");
        }
        (self.held.carries(), self.held.may_carry()) != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_up_with_its_last_flow_and_not_before_that_is_heard() {
        let mut held = Held::new(BTreeSet::from([465]));
        assert_eq!(held.configure(&[25, 587]), [25, 465, 587]);
        assert_eq!(held.hear(1, &[25, 587], BTreeSet::from([465, 25])), None);
        assert_eq!(held.hear(1, &[25, 587], BTreeSet::from([587])), Some(vec![25, 587]));
        // What was heard under another configuration says nothing.
        assert_eq!(held.configure(&[25]), [25, 587]);
        assert_eq!(held.hear(1, &[25], BTreeSet::new()), None);
        assert!(held.carries() && held.may_carry());
        assert_eq!(held.hear(2, &[25], BTreeSet::from([587])), None);
        assert_eq!(held.needed, BTreeSet::from([587]));
        assert_eq!(held.hear(2, &[25], BTreeSet::new()), Some(vec![25]));
        assert!(!held.carries() && !held.may_carry());
        // A flow may have been handed off since.
        held.configure(&[465]);
        assert!(!held.carries() && held.may_carry());
    }
}
