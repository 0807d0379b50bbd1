//! In which order servers are tried, and how many.

use std::net::IpAddr;

use super::{RoutePolicy, Server};

/// A number below its argument, which is above 0; any of them as likely as another.
pub type Random<'r> = dyn FnMut(usize) -> usize + Send + 'r;

/// The family of addresses that comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// Neither.
    #[default]
    Any,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Preference {
    const fn is_behind(self, address: IpAddr) -> bool {
        match self {
            Self::Any => false,
            Self::Ipv4 => address.is_ipv6(),
            Self::Ipv6 => address.is_ipv4(),
        }
    }
}

/// Sorts by preference, then family; what is equal then is in random order, or as it was.
pub(super) fn sort(servers: &mut [Server], policy: &RoutePolicy, random: &mut Random<'_>) {
    if policy.randomize {
        // Fisher and Yates.
        for last in (1..servers.len()).rev() {
            let other = random(last.saturating_add(1)).min(last);
            servers.swap(last, other);
        }
    }
    servers.sort_by_key(|server| (server.preference, policy.preference.is_behind(server.address)));
}

/// Leaves as many servers as may be tried. Neither family is shut out by the other: each keeps
/// half of the places if it has so many, and the odd one goes to the family of the first.
pub(super) fn limit(servers: &mut Vec<Server>, policy: &RoutePolicy) {
    let most = policy.address_limit;
    if most == 0 || servers.len() <= most {
        return;
    }
    if !policy.balance {
        servers.truncate(most);
        return;
    }
    let ipv6 = servers.iter().filter(|server| server.address.is_ipv6()).count();
    let ipv4 = servers.len().saturating_sub(ipv6);
    let half = most / 2;
    let first_is_ipv6 = servers.first().is_some_and(|server| server.address.is_ipv6());
    let mut left6 = if ipv6 <= half {
        ipv6
    } else if ipv4 <= half {
        most.saturating_sub(ipv4)
    } else if first_is_ipv6 {
        most.saturating_sub(half)
    } else {
        half
    };
    let mut left4 = most.saturating_sub(left6);
    servers.retain(|server| {
        let left = if server.address.is_ipv6() { &mut left6 } else { &mut left4 };
        let stays = *left > 0;
        *left = left.saturating_sub(1);
        stays
    });
}
