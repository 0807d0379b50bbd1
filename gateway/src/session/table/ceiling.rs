//! How many sessions may be open at once, and how many are, by client and by identity.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

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
    /// `limits.sessions-per-identity` is reached.
    #[error("too many open sessions of this identity")]
    Identity,
}

impl Full {
    /// What the client has done.
    #[must_use]
    pub const fn offence(self) -> Option<Offence> {
        match self {
            Self::Gateway => None,
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
}

impl Ceilings {
    /// Those that `limits` sets.
    #[must_use]
    pub const fn of(limits: &Limits) -> Self {
        Self {
            sessions: limits.sessions,
            per_client: limits.sessions_per_client,
            per_identity: limits.sessions_per_identity,
        }
    }
}

/// How many sessions are open by whom. Who has none takes no memory.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    per_client: HashMap<IpAddr, usize>,
    per_identity: HashMap<(IpAddr, Identity), usize>,
}

impl Occupancy {
    /// Counts a session of `flow` besides the `open` ones of all, unless that goes beyond a ceiling.
    pub(super) fn enter(&mut self, flow: &Flow, open: usize, ceilings: Ceilings) -> Result<(), Full> {
        let full = |ceiling: usize, count: usize| ceiling != 0 && count >= ceiling;
        let (client, identity) = (flow.client.ip(), identity(flow));
        if full(ceilings.sessions, open) {
            return Err(Full::Gateway);
        }
        if full(ceilings.per_client, self.per_client.get(&client).copied().unwrap_or(0)) {
            return Err(Full::Client);
        }
        let count = identity.as_ref().and_then(|who| self.per_identity.get(who).copied());
        if full(ceilings.per_identity, count.unwrap_or(0)) {
            return Err(Full::Identity);
        }
        enter(&mut self.per_client, client);
        if let Some(who) = identity {
            enter(&mut self.per_identity, who);
        }
        Ok(())
    }

    /// Takes a session of `flow` out again.
    pub(super) fn leave(&mut self, flow: &Flow) {
        leave(&mut self.per_client, &flow.client.ip());
        if let Some(who) = identity(flow) {
            leave(&mut self.per_identity, &who);
        }
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
