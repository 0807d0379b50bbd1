//! All locks, and the networks that none of them touches.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

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
        let who = lock.who.clone().trunc();
        let net = who.net();
        if let Some(exempt) = self.all_exempt().find(|exempt| exempt.contains(&net)) {
            return Err(Refused::Exempt(exempt));
        }
        if !lock.holds(now) {
            return Err(Refused::Over);
        }
        if self.locks.len() >= MOST && !self.locks.contains_key(&who) {
            return Err(Refused::Full);
        }
        self.remove(&who);
        if let Some(until) = lock.until {
            self.ends.insert((until, who.clone()));
        }
        let lock = Lock { who: who.clone(), ..lock };
        self.tally.add(&lock);
        self.locks.insert(who, lock);
        Ok(())
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
        let lock = Lock { who, action, cause, detail, session, since: now, until, offences: 1, refused: 0 };
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

    /// Removes all locks; returns whose they were.
    pub fn clear(&mut self) -> Vec<Who> {
        self.ends.clear();
        self.tally = Tally::default();
        std::mem::take(&mut self.locks).into_keys().collect()
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

#[cfg(test)]
mod tests {
    use super::super::tests::flow;
    use super::*;
    use crate::config::file::{CauseRule, LockSpan, Network};
    use crate::config::units::Span;

    fn who(text: &str) -> Who {
        text.to_owned().try_into().unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn lock(text: &str, until: Option<u64>) -> Lock {
        Lock {
            who: who(text),
            action: LockAction::Drop,
            cause: Cause::Operator,
            detail: "test".to_owned(),
            session: None,
            since: 0,
            until,
            offences: 0,
            refused: 0,
        }
    }

    fn found(table: &LockTable, client: &str, now: u64) -> Option<String> {
        table.find(client.parse().unwrap(), None, now).map(|lock| lock.who.to_string())
    }

    fn virus() -> Offence {
        Offence::Virus { signature: "Eicar".to_owned() }
    }

    /// A table that locks for viruses, for a minute.
    fn table(repeat: Repeat) -> LockTable {
        let mut table = LockTable::default();
        let duration = LockSpan::For(Span::minutes(1));
        table.set_rules(Locks { lock_on: vec![Cause::Virus], duration, repeat, ..Locks::default() });
        table
    }

    #[test]
    fn the_smallest_network_whose_lock_still_holds_counts() {
        let mut table = LockTable::default();
        table.add(lock("10.0.0.0/8", None), 0).unwrap();
        table.add(lock("10.1.2.3/32", Some(100)), 0).unwrap();
        table.add(lock("2001:db8::/32", Some(50)), 0).unwrap();
        assert_eq!(found(&table, "10.1.2.3", 99).as_deref(), Some("10.1.2.3"));
        assert_eq!(found(&table, "10.1.2.3", 100).as_deref(), Some("10.0.0.0/8"));
        assert_eq!(found(&table, "2001:db8::7", 49).as_deref(), Some("2001:db8::/32"));
        assert_eq!(found(&table, "11.0.0.1", 0), None);
        assert_eq!(table.expire(200, 1).len(), 1);
        assert_eq!(table.expire(200, 9), [who("10.1.2.3")]);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_look_up_asks_for_lengths_that_locks_have_and_not_for_each_lock() {
        let mut table = LockTable::default();
        for number in 0..100_000_u32 {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            table.add(Lock { who: Who::Net(address.into()), ..lock("10.0.0.0", None) }, 0).unwrap();
        }
        table.add(lock("10.0.0.0/8", None), 0).unwrap();
        table.add(lock("2001:db8::/64", Some(5)), 0).unwrap();
        let asked = |table: &LockTable, client: &str| table.tally.around(client.parse().unwrap()).count();
        assert_eq!((asked(&table, "10.0.0.7"), asked(&table, "2001:db8::7")), (2, 1));
        assert_eq!(found(&table, "10.0.0.7", 0).as_deref(), Some("10.0.0.7"));
        assert_eq!(found(&table, "10.9.9.9", 0).as_deref(), Some("10.0.0.0/8"));
        assert_eq!((table.count(LockAction::Drop), table.count(LockAction::Reset)), (100_002, 0));

        // One that takes another's place counts once.
        let reset = Lock { action: LockAction::Reset, ..lock("10.0.0.0/8", None) };
        table.add(reset, 0).unwrap();
        assert_eq!((table.count(LockAction::Drop), table.count(LockAction::Reset)), (100_001, 1));
        table.remove(&who("10.0.0.0/8"));
        assert_eq!(table.expire(5, 9).len(), 1);
        assert_eq!((asked(&table, "10.0.0.7"), asked(&table, "2001:db8::7")), (1, 0));
        assert_eq!(table.clear().len(), 100_000);
        assert_eq!((asked(&table, "10.0.0.7"), table.count(LockAction::Drop)), (0, 0));
    }

    #[test]
    fn an_identity_is_locked_without_the_others_behind_its_address() {
        let mut table = table(Repeat::Keep);
        let bob = flow("192.0.2.7:1025", Some("bob"));
        assert!(matches!(table.offend(&bob, &virus(), 0), Outcome::Created(_)));
        let eve = flow("192.0.2.7:1026", Some("eve"));
        let of = |table: &mut LockTable, flow: &Flow| {
            table.meet(flow.client.ip(), flow.identity.as_ref(), 1).map(|lock| lock.refused)
        };
        assert_eq!(of(&mut table, &bob), Some(1));
        assert_eq!(of(&mut table, &bob), Some(2), "counted");
        assert_eq!(of(&mut table, &eve), None);
        assert_eq!(found(&table, "192.0.2.7", 1), None);
        table.add(lock("192.0.2.0/24", None), 0).unwrap();
        assert_eq!(of(&mut table, &eve), Some(1), "whoever it is");
    }

    #[test]
    fn what_is_exempt_is_never_held_off() {
        let mut table = table(Repeat::Keep);
        table.set_rules(Locks { exempt: vec![Network(net("10.1.0.0/16"))], ..table.rules.clone() });
        assert!(matches!(table.add(lock("10.1.2.0/24", None), 0), Err(Refused::Exempt(_))));
        assert_eq!(table.offend(&flow("10.1.2.3:1025", None), &virus(), 0), Outcome::Spared);
        assert_eq!(table.offend(&flow("10.1.2.3:1025", Some("bob")), &virus(), 0), Outcome::Spared);
        table.add(lock("10.0.0.0/8", None), 0).unwrap();
        assert_eq!(found(&table, "10.1.2.3", 0), None);
        assert!(found(&table, "10.2.2.3", 0).is_some());
        assert_eq!(table.exempt(net("10.2.2.3/32")), Ok(true));
        assert_eq!(found(&table, "10.2.2.3", 0), None, "it was locked before");
        assert!(table.unexempt(net("10.2.2.3/32")) && !table.unexempt(net("10.2.2.3/32")));
        assert!(found(&table, "10.2.2.3", 0).is_some());
    }

    #[test]
    fn operators_exempt_a_bounded_number_of_networks() {
        let mut table = LockTable::default();
        for number in 0..u8::try_from(MOST_EXEMPT).unwrap() {
            table.exempt(IpNet::from(IpAddr::from([192, 0, 2, number]))).unwrap();
        }
        assert_eq!(table.exempt(net("10.0.0.0/8")), Err(Refused::TooManyExempt));
        assert_eq!(table.exempt(net("192.0.2.1/32")), Ok(false), "it is exempt already");
    }

    #[test]
    fn a_new_lock_of_a_network_replaces_the_old_one_and_its_end() {
        let mut table = LockTable::default();
        table.add(lock("10.0.0.0/8", Some(5)), 0).unwrap();
        table.add(lock("10.0.0.0/8", Some(500)), 1).unwrap();
        assert_eq!(table.expire(6, 9), []);
        assert_eq!(table.add(lock("11.0.0.0/8", Some(5)), 5), Err(Refused::Over));
    }

    #[test]
    fn only_what_is_configured_locks_and_each_cause_as_configured() {
        let mut table = table(Repeat::Keep);
        let client = flow("192.0.2.7:1025", None);
        assert_eq!(table.offend(&client, &Offence::EarlyTalk, 0), Outcome::Spared);
        let Outcome::Created(lock) = table.offend(&client, &virus(), 10) else { unreachable!("a lock") };
        assert_eq!((lock.cause, lock.detail.as_str(), lock.until), (Cause::Virus, "Eicar", Some(70)));
        assert_eq!((lock.action, lock.session), (LockAction::Reset, Some(client.id)));

        let rule = CauseRule {
            cause: Cause::Virus,
            duration: Some(LockSpan::Forever),
            action: Some(LockAction::Reject),
        };
        table.set_rules(Locks { by_cause: vec![rule], ..table.rules.clone() });
        let other = flow("192.0.2.8:1025", None);
        let Outcome::Created(lock) = table.offend(&other, &virus(), 10) else { unreachable!("a lock") };
        assert_eq!((lock.action, lock.until), (LockAction::Reject, None));
    }

    #[test]
    fn a_further_offence_keeps_the_end_of_the_lock_or_renews_it() {
        let client = flow("192.0.2.7:1025", None);
        let mut keeping = table(Repeat::Keep);
        keeping.offend(&client, &virus(), 0);
        assert_eq!(keeping.offend(&client, &virus(), 30), Outcome::Held);
        assert_eq!(keeping.expire(60, 9).len(), 1);
        assert!(matches!(keeping.offend(&client, &virus(), 61), Outcome::Created(_)), "it is locked anew");

        let mut renewing = table(Repeat::Renew);
        renewing.offend(&client, &virus(), 0);
        let Outcome::Renewed(lock) = renewing.offend(&client, &virus(), 30) else { unreachable!("renewed") };
        assert_eq!((lock.until, lock.since, lock.offences), (Some(90), 0, 2));
        assert_eq!(renewing.expire(89, 9), []);
        assert_eq!(renewing.expire(90, 9).len(), 1);
    }

    #[test]
    fn no_offence_changes_an_operators_lock() {
        let mut table = table(Repeat::Renew);
        table.add(lock("192.0.2.7", Some(40)), 0).unwrap();
        assert_eq!(table.offend(&flow("192.0.2.7:1025", None), &virus(), 30), Outcome::Held);
        assert_eq!(table.expire(40, 9).len(), 1);
    }
}
