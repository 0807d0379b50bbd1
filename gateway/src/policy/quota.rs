//! What clients have used up of their quotas, and whether they may have more.
//!
//! Pure: times are seconds of the wall clock, passed in, so that periods outlive a restart and are
//! the same on all gateways. Amounts are counted in windows of one period each; what counts is the
//! present window and as much of the one before as still lies within a period from now. That is a
//! sliding window in two numbers, and numbers of several processes can be added up.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::config::file::{QuotaLimits, QuotaNetworks, Quotas};
use crate::intercept::identity::Identity;

mod counter;
mod record;
#[cfg(test)]
mod tests;

pub use counter::{Client, Counter, Entry, Quota, UnknownCounter};
use record::Record;

/// What a client wants to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Have a session with a server.
    Session {
        /// The server.
        server: IpAddr,
    },
    /// Try to authenticate.
    Auth,
    /// Send a message.
    Message {
        /// Its size as announced, or 0.
        size: u64,
    },
    /// Send it to one recipient more.
    Recipient,
}

impl Demand {
    /// The quotas of which nothing may be used up. Who could send nothing is told so when he connects.
    const fn needs(self) -> &'static [Quota] {
        match self {
            Self::Session { .. } => &Quota::ALL,
            Self::Auth => &Quota::REJECTS,
            Self::Message { .. } => &[
                Quota::Messages,
                Quota::Recipients,
                Quota::Bytes,
                Quota::MailRejects,
                Quota::RcptRejects,
                Quota::AuthRejects,
            ],
            Self::Recipient => {
                &[Quota::Recipients, Quota::MailRejects, Quota::RcptRejects, Quota::AuthRejects]
            }
        }
    }

    /// What it uses, one of each.
    const fn uses(self) -> (Option<Counter>, Option<Counter>) {
        match self {
            Self::Session { server } => {
                (Some(Counter::Quota(Quota::Connections)), Some(Counter::Destination(server)))
            }
            Self::Auth => (None, None),
            Self::Message { .. } => (Some(Counter::Quota(Quota::Messages)), None),
            Self::Recipient => (Some(Counter::Quota(Quota::Recipients)), None),
        }
    }
}

/// A quota is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// The client.
    pub client: Client,
    /// The quota.
    pub quota: Quota,
    /// What the client may have.
    pub limit: u64,
    /// It is the first time in this window.
    pub first: bool,
}

/// Limits of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// The limits.
    pub limits: QuotaLimits,
    /// The `generation` under which they were set.
    pub generation: u64,
    /// An operator has set them; else they were configured when the client was first seen.
    pub by_operator: bool,
}

/// What was used, for those who keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// One of each.
    pub entries: Vec<Entry>,
    /// The client's limits are these from now on.
    pub own: Option<Own>,
}

/// How one client stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The client.
    pub client: Client,
    /// What it has used of each quota, and what it may.
    pub used: Vec<(Quota, u64, u64)>,
    /// The servers it has been connected to.
    pub destinations: Vec<IpAddr>,
    /// Demands that were refused since it was first seen.
    pub refused: u64,
    /// It has limits that an operator has set.
    pub own: bool,
}

/// There is no room for limits of another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} clients have limits of their own already, which is `quotas.table-size`; reset some")]
pub struct Full(usize);

/// All clients.
#[derive(Debug)]
pub struct QuotaTable {
    rules: Quotas,
    records: LruCache<Client, Record>,
    own: HashMap<Client, Own>,
    /// Raised with each reset: amounts that were added before count no more.
    epoch: u64,
    /// Clients that were forgotten for want of room.
    evicted: u64,
}

impl QuotaTable {
    /// A table without clients.
    #[must_use]
    pub fn new(rules: Quotas) -> Self {
        Self { rules, records: LruCache::unbounded(), own: HashMap::new(), epoch: 0, evicted: 0 }
    }

    /// From now on these rules hold.
    pub fn set_rules(&mut self, rules: Quotas) {
        let counts_otherwise = rules.period != self.rules.period
            || rules.ipv4_prefix != self.rules.ipv4_prefix
            || rules.ipv6_prefix != self.rules.ipv6_prefix;
        if counts_otherwise {
            self.records.clear();
        }
        self.rules = rules;
        self.make_room(0);
    }

    /// The client that `address` belongs to.
    #[must_use]
    pub fn client(&self, address: IpAddr, identity: Option<Identity>) -> Client {
        let address = address.to_canonical();
        let prefix = if address.is_ipv4() { self.rules.ipv4_prefix } else { self.rules.ipv6_prefix };
        let net = IpNet::new(address, prefix).map_or_else(|_| IpNet::from(address), |net| net.trunc());
        Client { net, identity }
    }

    /// Uses what `demand` takes, if nothing that it needs is used up.
    ///
    /// # Errors
    ///
    /// [`Over`] says what is used up.
    pub fn take(&mut self, client: &Client, demand: Demand, now: u64) -> Result<Taken, Over> {
        let own = self.settle_limits(client);
        let limits = self.limits(client).clone();
        let (period, start) = self.window(now);
        let record = self.record(client, now);
        for quota in demand.needs().iter().copied() {
            let limit = quota.limit(&limits);
            if limit != 0 && record.exceeds(quota, limit, demand, period, now) {
                let first = record.refuse(start);
                return Err(Over { client: client.clone(), quota, limit, first });
            }
        }
        let (one, other) = demand.uses();
        let counted = one.into_iter().chain(other).filter(|counter| {
            // Who may have any number of servers is not followed from one to the next.
            !matches!(counter, Counter::Destination(_)) || limits.destinations != 0
        });
        let entries = counted.map(|counter| {
            record.add(counter, 1);
            Entry { client: client.clone(), counter, period, start }
        });
        Ok(Taken { entries: entries.collect(), own })
    }

    /// Counts what was used up without a demand.
    pub fn spend(&mut self, client: Client, quota: Quota, amount: u64, now: u64) -> Entry {
        let (period, start) = self.window(now);
        let counter = Counter::Quota(quota);
        self.record(&client, now).add(counter, amount);
        Entry { client, counter, period, start }
    }

    /// What `entry` is in all, `added` of which was added here in `epoch`.
    pub fn learn(&mut self, entry: &Entry, added: u64, total: u64, epoch: u64) {
        if entry.period != self.period() {
            return;
        }
        if let Some(record) = self.records.peek_mut(&entry.client).filter(|record| record.epoch <= epoch) {
            record.learn(entry, added, total);
        }
    }

    /// Takes over what was kept. What was used before the last two windows counts no more.
    pub fn load(&mut self, mut usage: Vec<(Entry, u64)>, own: Vec<(Client, Own)>, now: u64) {
        let (period, start) = self.window(now);
        usage.retain(|(entry, _)| entry.period == period && entry.start.abs_diff(start) <= period);
        // Those seen last are to be forgotten last.
        usage.sort_by_key(|(entry, _)| entry.start);
        for (entry, amount) in usage {
            self.record(&entry.client, now).learn(&entry, 0, amount);
        }
        let room = self.rules.table_size.saturating_sub(self.own.len());
        self.own.extend(own.into_iter().take(room));
    }

    /// Gives a client limits of its own, or with `None` those of the configuration.
    ///
    /// # Errors
    ///
    /// When too many have some.
    pub fn set_limits(&mut self, client: Client, limits: Option<QuotaLimits>) -> Result<Option<Own>, Full> {
        let Some(limits) = limits else {
            self.own.remove(&client);
            return Ok(None);
        };
        if self.own.len() >= self.rules.table_size && !self.own.contains_key(&client) {
            return Err(Full(self.own.len()));
        }
        let own = Own { limits, generation: self.rules.generation, by_operator: true };
        self.own.insert(client, own.clone());
        Ok(Some(own))
    }

    /// The limits that hold for a client.
    #[must_use]
    pub fn limits(&self, client: &Client) -> &QuotaLimits {
        match self.own.get(client) {
            Some(own) if self.holds(own) => &own.limits,
            _ => self.configured(client),
        }
    }

    /// Forgets what a client has used, or all have; says of how many, and as of which epoch.
    pub fn reset(&mut self, client: Option<&Client>) -> (usize, u64) {
        self.epoch = self.epoch.saturating_add(1);
        let gone = match client {
            Some(client) => usize::from(self.records.pop(client).is_some()),
            None => {
                let gone = self.records.len();
                self.records.clear();
                gone
            }
        };
        (gone, self.epoch)
    }

    /// How a client stands.
    #[must_use]
    pub fn standing(&self, client: &Client, now: u64) -> Standing {
        let limits = self.limits(client);
        let record = self.records.peek(client);
        let own = self.own.get(client).is_some_and(|own| own.by_operator && self.holds(own));
        let used = |quota| record.map_or(0, |record| record.used(quota, self.period(), now));
        Standing {
            client: client.clone(),
            used: Quota::ALL.map(|quota| (quota, used(quota), quota.limit(limits))).to_vec(),
            destinations: record.map(|record| record.destinations(self.period(), now)).unwrap_or_default(),
            refused: record.map_or(0, |record| record.refused),
            own,
        }
    }

    /// How the clients stand that were seen last, at most so many of them.
    #[must_use]
    pub fn standings(&self, most: usize, now: u64) -> Vec<Standing> {
        self.records.iter().take(most).map(|(client, _)| self.standing(client, now)).collect()
    }

    /// How many clients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Clients that were forgotten for want of room.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Keeps the limits of a client that is new in this generation.
    fn settle_limits(&mut self, client: &Client) -> Option<Own> {
        if self.rules.generation == 0 || self.own.get(client).is_some_and(|own| self.holds(own)) {
            return None;
        }
        if self.own.len() >= self.rules.table_size && !self.own.contains_key(client) {
            return None;
        }
        let limits = self.configured(client).clone();
        let own = Own { limits, generation: self.rules.generation, by_operator: false };
        self.own.insert(client.clone(), own.clone());
        Some(own)
    }

    const fn holds(&self, own: &Own) -> bool {
        own.generation >= self.rules.generation && (own.by_operator || self.rules.generation != 0)
    }

    fn configured(&self, client: &Client) -> &QuotaLimits {
        let has = |networks: &&QuotaNetworks| networks.client.iter().any(|net| net.0.contains(&client.net));
        self.rules.networks.iter().find(has).map_or(&self.rules.limits, |some| &some.limits)
    }

    const fn period(&self) -> u64 {
        let seconds = self.rules.period.duration().as_secs();
        if seconds == 0 { 1 } else { seconds }
    }

    /// Length and beginning of the window at `now`.
    const fn window(&self, now: u64) -> (u64, u64) {
        let period = self.period();
        (period, now.saturating_sub(now % period))
    }

    /// The client's record as of `now`.
    fn record(&mut self, client: &Client, now: u64) -> &mut Record {
        if !self.records.contains(client) {
            self.make_room(1);
        }
        let ((period, start), epoch) = (self.window(now), self.epoch);
        let record = self.records.get_or_insert_mut(client.clone(), || Record::new(start, epoch));
        record.roll(start, period);
        record
    }

    fn make_room(&mut self, more: usize) {
        while self.records.len().saturating_add(more) > self.rules.table_size.max(1) {
            self.records.pop_lru();
            self.evicted = self.evicted.saturating_add(1);
        }
    }
}
