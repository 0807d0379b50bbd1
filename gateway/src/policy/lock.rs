//! Which clients are held off, until when, and why.
//!
//! Pure: times are seconds of the wall clock, passed in, so that a lock outlives the machine's
//! restart. The kernel program enforces what stands here; what reaches the proxy is asked here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::file::LockAction;

/// Locks at most: what the kernel's table holds.
pub const MOST: usize = 1_000_000;
/// Octets of a cause.
pub const CAUSE_LENGTH: usize = 200;

/// A network that is held off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The clients.
    pub net: IpNet,
    /// What becomes of their new flows.
    pub action: LockAction,
    /// Why, in the words of whoever set it.
    pub cause: String,
    /// When it was set: seconds since 1970.
    pub since: u64,
    /// When it ends: seconds since 1970; `None`: never by itself.
    pub until: Option<u64>,
}

impl Lock {
    /// Whether it counts at `now`.
    #[must_use]
    pub fn holds(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Why a lock is not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The configuration exempts its network.
    #[error("{0} is exempt from locks by `locks.exempt` in the configuration")]
    Exempt(IpNet),
    /// The table is full.
    #[error("there are {MOST} locks already; remove some")]
    Full,
    /// It would be over before it began.
    #[error("the lock would be over at once")]
    Over,
}

/// All locks.
#[derive(Clone, Debug, Default)]
pub struct LockTable {
    locks: BTreeMap<IpNet, Lock>,
    ends: BTreeSet<(u64, IpNet)>,
    exempt: Vec<IpNet>,
}

impl LockTable {
    /// From now on no lock touches these networks.
    pub fn set_exempt(&mut self, exempt: Vec<IpNet>) {
        self.exempt = exempt;
    }

    /// Networks that no lock touches.
    #[must_use]
    pub fn exempt(&self) -> &[IpNet] {
        &self.exempt
    }

    /// Sets a lock, in place of one of the same network.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why not.
    pub fn add(&mut self, lock: Lock, now: u64) -> Result<(), Refused> {
        let net = lock.net.trunc();
        if let Some(exempt) = self.exempt.iter().find(|exempt| exempt.contains(&net)) {
            return Err(Refused::Exempt(*exempt));
        }
        if !lock.holds(now) {
            return Err(Refused::Over);
        }
        if self.locks.len() >= MOST && !self.locks.contains_key(&net) {
            return Err(Refused::Full);
        }
        self.remove(net);
        if let Some(until) = lock.until {
            self.ends.insert((until, net));
        }
        self.locks.insert(net, Lock { net, ..lock });
        Ok(())
    }

    /// Removes a lock of exactly this network.
    pub fn remove(&mut self, net: IpNet) -> Option<Lock> {
        let lock = self.locks.remove(&net.trunc())?;
        if let Some(until) = lock.until {
            self.ends.remove(&(until, lock.net));
        }
        Some(lock)
    }

    /// Removes locks that are over, at most so many of them; those that ended first come first.
    pub fn expire(&mut self, now: u64, most: usize) -> Vec<IpNet> {
        let over: Vec<(u64, IpNet)> =
            self.ends.iter().take_while(|(until, _)| *until <= now).take(most).copied().collect();
        for (_, net) in &over {
            self.remove(*net);
        }
        over.into_iter().map(|(_, net)| net).collect()
    }

    /// The lock that holds `client`: that of the smallest network.
    #[must_use]
    pub fn find(&self, client: IpAddr, now: u64) -> Option<&Lock> {
        if self.locks.is_empty() || self.exempt.iter().any(|exempt| exempt.contains(&client)) {
            return None;
        }
        let around = std::iter::successors(Some(IpNet::from(client)), IpNet::supernet);
        around.filter_map(|net| self.locks.get(&net.trunc())).find(|lock| lock.holds(now))
    }

    /// The lock of exactly this network.
    #[must_use]
    pub fn get(&self, net: IpNet) -> Option<&Lock> {
        self.locks.get(&net.trunc())
    }

    /// All of them, by network.
    pub fn all(&self) -> impl Iterator<Item = &Lock> {
        self.locks.values()
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
    use super::*;

    fn lock(net: &str, until: Option<u64>) -> Lock {
        let net = net.parse().unwrap();
        Lock { net, action: LockAction::Drop, cause: "test".to_owned(), since: 0, until }
    }

    fn found(table: &LockTable, client: &str, now: u64) -> Option<String> {
        table.find(client.parse().unwrap(), now).map(|lock| lock.net.to_string())
    }

    #[test]
    fn the_smallest_network_whose_lock_still_holds_counts() {
        let mut table = LockTable::default();
        table.add(lock("10.0.0.0/8", None), 0).unwrap();
        table.add(lock("10.1.2.3/32", Some(100)), 0).unwrap();
        table.add(lock("2001:db8::/32", Some(50)), 0).unwrap();
        assert_eq!(found(&table, "10.1.2.3", 99).as_deref(), Some("10.1.2.3/32"));
        assert_eq!(found(&table, "10.1.2.3", 100).as_deref(), Some("10.0.0.0/8"));
        assert_eq!(found(&table, "2001:db8::7", 49).as_deref(), Some("2001:db8::/32"));
        assert_eq!(found(&table, "11.0.0.1", 0), None);
        assert_eq!(table.expire(200, 1).len(), 1);
        assert_eq!(table.expire(200, 9), ["10.1.2.3/32".parse::<IpNet>().unwrap()]);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn what_is_exempt_is_never_held_off() {
        let mut table = LockTable::default();
        table.set_exempt(vec!["10.1.0.0/16".parse().unwrap()]);
        assert!(matches!(table.add(lock("10.1.2.0/24", None), 0), Err(Refused::Exempt(_))));
        table.add(lock("10.0.0.0/8", None), 0).unwrap();
        assert_eq!(found(&table, "10.1.2.3", 0), None);
        assert!(found(&table, "10.2.2.3", 0).is_some());
    }

    #[test]
    fn a_new_lock_of_a_network_replaces_the_old_one_and_its_end() {
        let mut table = LockTable::default();
        table.add(lock("10.0.0.0/8", Some(5)), 0).unwrap();
        table.add(lock("10.0.0.0/8", Some(500)), 1).unwrap();
        assert_eq!(table.expire(6, 9), []);
        assert_eq!(table.add(lock("11.0.0.0/8", Some(5)), 5), Err(Refused::Over));
    }
}
