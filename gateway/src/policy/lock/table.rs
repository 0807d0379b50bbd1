//! All locks, and the networks that none of them touches.

#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Bound;

use ipnet::IpNet;

use super::{Cause, DETAIL_LENGTH, Lock, Offence, Who};
use crate::config::file::{LockAction, Locks, Repeat};
use crate::intercept::flow::Flow;
use crate::intercept::identity::Identity;

/// Locks at most: what the kernel's table holds.
pub const MOST: usize = 1_000_000;
/// Networks that operators exempt at most, beside those of the configuration.
pub const MOST_EXEMPT: usize = 200;

/// Why a lock or an exemption is not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its network is exempt.
    #[error("{0} is exempt from locks")]
    Exempt(IpNet),
    /// The table is full.
    #[error("there are {MOST} locks already; remove some")]
    Full,
    /// It would be over before it began.
    #[error("the lock would be over at once")]
    Over,
    /// There are too many exemptions.
    #[error("{MOST_EXEMPT} networks are exempt already; write them into `locks.exempt` in the configuration")]
    TooManyExempt,
}

/// What comes of an offence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client is locked from here on.
    Created(Lock),
    /// It is locked for longer.
    Renewed(Lock),
    /// It was locked already.
    Held,
    /// Nobody is locked for this, or this client is exempt.
    Spared,
    /// It ought to be locked, but there is no room for one more.
    Full,
}

/// All locks.
#[derive(Clone, Debug, Default)]
pub struct LockTable {
    locks: BTreeMap<Who, Lock>,
    ends: BTreeSet<(u64, Who)>,
    tally: Tally,
    rules: Locks,
    exempt: BTreeSet<IpNet>,
}

/// What is told of all locks without a look at each.
#[derive(Clone, Debug, Default)]
struct Tally {
    by_action: HashMap<LockAction, usize>,
    /// Networks of each family and prefix length: lengths that no lock has are not looked up.
    lengths: BTreeMap<(bool, u8), usize>,
}

impl Tally {
    fn add(&mut self, lock: &Lock) {
        let of = self.by_action.entry(lock.action).or_default();
        *of = of.saturating_add(1);
        if let Who::Net(net) = lock.who {
            let of = self.lengths.entry(length(net)).or_default();
            *of = of.saturating_add(1);
        }
    }

    fn remove(&mut self, lock: &Lock) {
        if let Some(of) = self.by_action.get_mut(&lock.action) {
            *of = of.saturating_sub(1);
        }
        if let Who::Net(net) = lock.who
            && let Entry::Occupied(mut of) = self.lengths.entry(length(net))
        {
            match of.get().saturating_sub(1) {
                0 => drop(of.remove()),
                left => *of.get_mut() = left,
            }
        }
    }

    /// The networks around `client` of which one may be locked, the smallest first.
    fn around(&self, client: IpAddr) -> impl Iterator<Item = IpNet> {
        let family = client.is_ipv6();
        let lengths = self.lengths.range((family, 0)..=(family, u8::MAX)).rev();
        lengths.filter_map(move |((_, length), _)| Some(IpNet::new(client, *length).ok()?.trunc()))
    }
}

fn length(net: IpNet) -> (bool, u8) {
    (matches!(net, IpNet::V6(_)), net.prefix_len())
}

impl LockTable {
    /// From here on these rules hold.
    pub fn set_rules(&mut self, rules: Locks) {
        self.rules = rules;
    }

    /// Lets no lock touch `net`; false where that is so already.
    ///
    /// # Errors
    ///
    /// There are too many such networks.
    pub fn exempt(&mut self, net: IpNet) -> Result<bool, Refused> {
        if self.exempt.len() >= MOST_EXEMPT && !self.exempt.contains(&net.trunc()) {
            return Err(Refused::TooManyExempt);
        }
        Ok(self.exempt.insert(net.trunc()))
    }

    /// Takes back what [`Self::exempt`] did; false where it did not.
    pub fn unexempt(&mut self, net: IpNet) -> bool {
        self.exempt.remove(&net.trunc())
    }

    /// Networks that operators have exempted.
    #[must_use]
    pub const fn exempted(&self) -> &BTreeSet<IpNet> {
        &self.exempt
    }

    /// Networks that no lock touches: those of the configuration, then those of operators.
    pub fn all_exempt(&self) -> impl Iterator<Item = IpNet> {
        self.rules.exempt.iter().map(|network| network.0).chain(self.exempt.iter().copied())
    }

    /// Sets a lock, in place of one of the same client.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why not.
    pub fn add(&mut self, lock: Lock, now: u64) -> Result<(), Refused> {
        let net = lock.who.net().trunc();
        if let Some(exempt) = self.all_exempt().find(|exempt| exempt.contains(&net)) {
            return Err(Refused::Exempt(exempt));
        }
        self.adopt(lock, now)
    }

    /// As [`Self::add`], also where its network is exempt here: it touches nobody as long as it is.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why not.
    pub fn adopt(&mut self, lock: Lock, now: u64) -> Result<(), Refused> {
        let who = lock.who.clone().trunc();
        if !lock.holds(now) {
            return Err(Refused::Over);
        }
        if self.locks.len() >= MOST && !self.locks.contains_key(&who) {
            return Err(Refused::Full);
        }
        if let Some(until) = lock.until {
            self.ends.insert((until, who.clone()));
        }
        let (until, lock) = (lock.until, Lock { who: who.clone(), ..lock });
        self.tally.add(&lock);
        if let Some(old) = self.locks.insert(who, lock) {
            self.tally.remove(&old);
            if let Some(end) = old.until.filter(|_| old.until != until) {
                self.ends.remove(&(end, old.who));
            }
        }
        Ok(())
    }

    /// Notes when a lock was changed.
    pub fn stamp(&mut self, who: &Who, changed: u64) {
        if let Some(lock) = self.locks.get_mut(who) {
            lock.changed = changed;
        }
    }

    /// Locks the client of `flow` for `offence`, if the rules have it so.
    pub fn offend(&mut self, flow: &Flow, offence: &Offence, now: u64) -> Outcome {
        let cause = offence.cause();
        if !self.rules.lock_on.contains(&cause) {
            return Outcome::Spared;
        }
        let (action, span) = self.rules.on(cause);
        let until = span.map(|span| now.saturating_add(span.as_secs().max(1)));
        let who = Who::of(flow, &self.rules);
        let repeat = self.rules.repeat;
        if let Some(held) = self.held(flow.client.ip(), flow.identity.as_ref(), now) {
            let lock = self.locks.get_mut(&held);
            let Some(lock) = lock else { return Outcome::Held };
            lock.offences = lock.offences.saturating_add(1);
            if held != who || repeat == Repeat::Keep || lock.cause == Cause::Operator {
                return Outcome::Held;
            }
            return self.renew(&held, until).map_or(Outcome::Held, Outcome::Renewed);
        }
        let mut detail = offence.detail();
        detail.truncate(detail.floor_char_boundary(DETAIL_LENGTH));
        let session = Some(flow.id);
        let (since, offences) = (now, 1);
        let lock =
            Lock { who, action, cause, detail, session, since, until, offences, refused: 0, changed: 0 };
        match self.add(lock.clone(), now) {
            Ok(()) => Outcome::Created(lock),
            Err(Refused::Full) => Outcome::Full,
            Err(Refused::Exempt(_) | Refused::Over | Refused::TooManyExempt) => Outcome::Spared,
        }
    }

    /// Lets a lock end at `until`, unless it would end later.
    fn renew(&mut self, who: &Who, until: Option<u64>) -> Option<Lock> {
        let lock = self.locks.get_mut(who)?;
        let old = lock.until?;
        if until.is_some_and(|until| until <= old) {
            return None;
        }
        lock.until = until;
        let renewed = lock.clone();
        self.ends.remove(&(old, who.clone()));
        if let Some(until) = until {
            self.ends.insert((until, who.clone()));
        }
        Some(renewed)
    }

    /// Removes the lock of exactly this network or identity.
    pub fn remove(&mut self, who: &Who) -> Option<Lock> {
        let lock = self.locks.remove(&who.clone().trunc())?;
        if let Some(until) = lock.until {
            self.ends.remove(&(until, lock.who.clone()));
        }
        self.tally.remove(&lock);
        Some(lock)
    }

    /// Removes locks that are over, at most so many of them; those that ended first come first.
    pub fn expire(&mut self, now: u64, most: usize) -> Vec<Who> {
        let over = self.ends.iter().take_while(|(until, _)| *until <= now).take(most);
        let over: Vec<Who> = over.map(|(_, who)| who.clone()).collect();
        for who in &over {
            self.remove(who);
        }
        over
    }

    /// The lock that holds this client: that of its identity, else that of the smallest network.
    #[must_use]
    pub fn find(&self, client: IpAddr, identity: Option<&Identity>, now: u64) -> Option<&Lock> {
        self.locks.get(&self.held(client, identity, now)?)
    }

    /// As [`Self::find`], for a new flow of the client, which counts as refused.
    pub fn meet(&mut self, client: IpAddr, identity: Option<&Identity>, now: u64) -> Option<&Lock> {
        let who = self.held(client, identity, now)?;
        let lock = self.locks.get_mut(&who)?;
        lock.refused = lock.refused.saturating_add(1);
        Some(lock)
    }

    fn held(&self, client: IpAddr, identity: Option<&Identity>, now: u64) -> Option<Who> {
        if self.locks.is_empty() || self.all_exempt().any(|exempt| exempt.contains(&client)) {
            return None;
        }
        let known = identity.map(|identity| Who::Identity(client, identity.clone()));
        let nets = self.tally.around(client).map(Who::Net);
        known.into_iter().chain(nets).find(|who| self.locks.get(who).is_some_and(|lock| lock.holds(now)))
    }

    /// The lock of exactly this network or identity.
    #[must_use]
    pub fn get(&self, who: &Who) -> Option<&Lock> {
        self.locks.get(&who.clone().trunc())
    }

    /// All of them: networks in their order, then identities.
    pub fn all(&self) -> impl Iterator<Item = &Lock> {
        self.locks.values()
    }

    /// Those behind one of them, in the order of [`Self::all`].
    pub fn behind(&self, place: Bound<&Who>) -> impl Iterator<Item = &Lock> {
        self.locks.range::<Who, _>((place, Bound::Unbounded)).map(|(_, lock)| lock)
    }

    /// How many there are of an action.
    #[must_use]
    pub fn count(&self, action: LockAction) -> usize {
        self.tally.by_action.get(&action).copied().unwrap_or(0)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.locks.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }
}
