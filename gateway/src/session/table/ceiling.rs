//! How many sessions may be open at once, and how many are, by client, network and identity.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::file::Limits;
use crate::intercept::flow::Flow;
use crate::intercept::identity::Identity;
use crate::policy::lock::Offence;

/// Why a session is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// `limits.sessions` is reached.
    #[error("too many open sessions")]
    Gateway,
    /// `limits.sessions-per-client` is reached.
    #[error("too many open sessions from this address")]
    Client,
    /// `limits.sessions-per-prefix` is reached.
    #[error("too many open sessions from this network")]
    Prefix,
    /// `limits.sessions-per-identity` is reached.
    #[error("too many open sessions of this identity")]
    Identity,
}

impl Full {
    /// What the client has done.
    #[must_use]
    pub const fn offence(self) -> Option<Offence> {
        match self {
            // Nobody answers for all the others.
            Self::Gateway | Self::Prefix => None,
            Self::Client => Some(Offence::MaxHost),
            Self::Identity => Some(Offence::MaxIdent),
        }
    }
}

/// How many sessions may be open at the same time; 0: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// In all.
    pub sessions: usize,
    /// Of one client address.
    pub per_client: usize,
    /// Of one identity behind one client address.
    pub per_identity: usize,
    /// Of one network of clients.
    pub per_prefix: usize,
    /// Leading bits of the networks of IPv4 and of IPv6 clients.
    pub prefixes: (u8, u8),
}

impl Ceilings {
    /// Those that `limits` sets.
    #[must_use]
    pub const fn of(limits: &Limits) -> Self {
        Self {
            sessions: limits.sessions,
            per_client: limits.sessions_per_client,
            per_identity: limits.sessions_per_identity,
            per_prefix: limits.sessions_per_prefix,
            prefixes: (limits.ipv4_prefix, limits.ipv6_prefix),
        }
    }
}

/// How many sessions are open by whom. Who has none takes no memory.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    per_client: HashMap<IpAddr, usize>,
    per_identity: HashMap<(IpAddr, Identity), usize>,
    per_prefix: HashMap<IpNet, usize>,
}

impl Occupancy {
    /// Counts a session of `flow` besides the `open` ones of all, unless that goes beyond a ceiling.
    /// Gives the network with which it is counted: a reload may change how long networks are.
    pub(super) fn enter(
        &mut self,
        flow: &Flow,
        open: usize,
        ceilings: Ceilings,
    ) -> Result<Option<IpNet>, Full> {
        let full = |ceiling: usize, count: usize| ceiling != 0 && count >= ceiling;
        let (client, identity) = (flow.client.ip(), identity(flow));
        if full(ceilings.sessions, open) {
            return Err(Full::Gateway);
        }
        if full(ceilings.per_client, self.per_client.get(&client).copied().unwrap_or(0)) {
            return Err(Full::Client);
        }
        let prefix = prefix(client, ceilings);
        let count = prefix.and_then(|net| self.per_prefix.get(&net).copied());
        if full(ceilings.per_prefix, count.unwrap_or(0)) {
            return Err(Full::Prefix);
        }
        let count = identity.as_ref().and_then(|who| self.per_identity.get(who).copied());
        if full(ceilings.per_identity, count.unwrap_or(0)) {
            return Err(Full::Identity);
        }
        enter(&mut self.per_client, client);
        if let Some(who) = identity {
            enter(&mut self.per_identity, who);
        }
        if let Some(net) = prefix {
            enter(&mut self.per_prefix, net);
        }
        Ok(prefix)
    }

    /// Takes a session of `flow` out again, which was counted with `prefix`.
    pub(super) fn leave(&mut self, flow: &Flow, prefix: Option<IpNet>) {
        leave(&mut self.per_client, &flow.client.ip());
        if let Some(who) = identity(flow) {
            leave(&mut self.per_identity, &who);
        }
        if let Some(net) = prefix {
            leave(&mut self.per_prefix, &net);
        }
    }

    /// How many sessions the client of `flow` has open, or its identity.
    pub(super) fn of(&self, flow: &Flow) -> usize {
        let count = match identity(flow) {
            Some(who) => self.per_identity.get(&who),
            None => self.per_client.get(&flow.client.ip()),
        };
        count.copied().unwrap_or(0)
    }

    /// The clients with open sessions, and how many each has.
    pub(super) fn clients(&self) -> impl Iterator<Item = (IpAddr, usize)> {
        self.per_client.iter().map(|(client, count)| (*client, *count))
    }
}

/// Whose sessions are counted together.
fn identity(flow: &Flow) -> Option<(IpAddr, Identity)> {
    flow.identity.clone().map(|identity| (flow.client.ip(), identity))
}

/// The network with which a session is counted; none where networks have no ceiling.
fn prefix(client: IpAddr, ceilings: Ceilings) -> Option<IpNet> {
    let bits = if client.is_ipv4() { ceilings.prefixes.0 } else { ceilings.prefixes.1 };
    IpNet::new(client, bits).ok().filter(|_| ceilings.per_prefix != 0).map(|net| net.trunc())
}

fn enter<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

fn leave<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
