//! More than the kernel's maps have room for: they are of one size, whatever the configuration says.

use std::collections::HashSet;

use gateway_common::client::{MAX_CLASSES, MAX_NETWORKS};
use gateway_common::lane::MAX_PREFIXES;
use gateway_common::quarantine::MOST_EXEMPT;
use ipnet::IpNet;

use super::Findings;
use crate::config::file::{Config, Network, Origin, Side};
use crate::config::first_match::FirstMatch;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    if config.origin != Origin::Assign {
        return;
    }
    for (side, name) in [(Side::Client, "client"), (Side::Server, "server")] {
        let networks = config.lanes.iter().enumerate().filter_map(|(index, rule)| {
            rule.by_networks().filter(|(of, _)| *of == side).map(|(_, networks)| (index, networks))
        });
        if let Some(over) = over(networks, MAX_PREFIXES) {
            let (list, rule) = (format!("lanes.{}.{name}", over.first), format!("lanes.{}", over.first));
            let whose = format!("{name} networks of rules without further conditions");
            findings.error(&[&list, &rule], over.told(&whose, MAX_PREFIXES));
        }
    }
    clients(config, findings);
    let exempt: HashSet<IpNet> = of(&config.locks.exempt).into_iter().collect();
    let over = Over { first: 0, number: exempt.len() };
    if over.number > room(MOST_EXEMPT) {
        findings.error(&["locks.exempt"], over.told("exempt networks", MOST_EXEMPT));
    }
}

fn clients(config: &Config, findings: &mut Findings<'_>) {
    let entries = &config.clients.networks;
    // The limits of those in no entry are one more.
    let most = room(MAX_CLASSES).saturating_sub(1);
    if entries.len() > most {
        findings.error(
            &["clients.networks"],
            format!(
                "{} entries are more than the {most} there is room for; write networks with the same limits into one",
                entries.len()
            ),
        );
    }
    let networks = entries.iter().enumerate().map(|(index, entry)| (index, of(&entry.client)));
    if let Some(over) = over(networks, MAX_NETWORKS) {
        let key = format!("clients.networks.{}.client", over.first);
        findings.error(&[&key], over.told("networks of clients", MAX_NETWORKS));
    }
}

fn room(entries: u32) -> usize {
    usize::try_from(entries).unwrap_or(usize::MAX)
}

fn of(networks: &[Network]) -> Vec<IpNet> {
    networks.iter().map(|network| network.0).collect()
}

/// More networks than room.
struct Over {
    /// The place of the list of networks with which they are too many.
    first: usize,
    /// How many there are in all.
    number: usize,
}

impl Over {
    fn told(&self, what: &str, room: u32) -> String {
        format!(
            "{} {what} are more than the {room} that the kernel has room for; write neighbouring networks as one larger \
             one, and leave out what lies in another",
            self.number
        )
    }
}

/// Whether the networks of the lists, without those within earlier ones, are more than `room`.
fn over(lists: impl IntoIterator<Item = (usize, Vec<IpNet>)>, room: u32) -> Option<Over> {
    let room = self::room(room);
    let mut all = FirstMatch::default();
    let mut first = None;
    for (place, networks) in lists {
        networks.into_iter().for_each(|network| all.insert(network, ()));
        first = first.or_else(|| (all.len() > room).then_some(place));
    }
    first.map(|first| Over { first, number: all.len() })
}
