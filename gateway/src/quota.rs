//! The quotas of this gateway: the table, and the way to the store in which it outlives the process.
//!
//! Owns that both are told the same, in the same order. Decides nothing: that is [`crate::policy::quota`].

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::clock;
use crate::config::file::{self, QuotaLimits};
use crate::intercept::flow::Flow;
use crate::intercept::identity::Identity;
use crate::policy::quota::{Client, Demand, Full, Over, Quota, QuotaTable, Standing};
use crate::store::{Contents, News, Store, Table};

/// What clients may use and have used.
#[derive(Debug)]
pub struct Quotas {
    table: Mutex<QuotaTable>,
    /// Where limits are kept.
    store: Store,
    /// Where amounts are kept: the same, or a server that other gateways add to.
    amounts: Store,
    /// Other gateways add to them.
    is_shared: bool,
    /// Anything is limited.
    on: AtomicBool,
}

impl Quotas {
    /// The quotas that `rules` set, with what was kept in `store`; amounts are added to `shared` where
    /// there is such a store.
    #[must_use]
    pub fn new(rules: file::Quotas, store: Store, shared: Option<Store>, contents: &mut Contents) -> Self {
        let on = AtomicBool::new(rules.is_on());
        let is_shared = shared.is_some();
        if is_shared {
            // What was counted before, and for this gateway alone.
            contents.usage.clear();
        }
        let amounts = shared.unwrap_or_else(|| store.clone());
        let quotas = Self { table: Mutex::new(QuotaTable::new(rules)), store, amounts, is_shared, on };
        quotas.load(contents);
        quotas
    }

    fn lock(&self) -> MutexGuard<'_, QuotaTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is limited.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// From now on these rules hold.
    pub fn set_rules(&self, rules: file::Quotas) {
        self.on.store(rules.is_on(), Ordering::Relaxed);
        self.lock().set_rules(rules);
    }

    fn load(&self, contents: &mut Contents) {
        let own = contents.take(Table::QuotaLimits);
        self.lock().load(std::mem::take(&mut contents.usage), own, now());
    }

    /// Takes what the store has told of.
    pub fn learn(&self, news: &mut News) {
        match news {
            News::Contents(contents) => self.load(contents),
            News::Usage { totals, epoch } => {
                let mut table = self.lock();
                for total in totals {
                    table.learn(&total.entry, total.added, total.total, *epoch);
                }
            }
        }
    }

    /// Uses what `demand` of a flow's client takes.
    ///
    /// # Errors
    ///
    /// [`Over`] says what is used up.
    pub fn take(&self, flow: &Flow, demand: Demand) -> Result<(), Over> {
        // The store is told before anybody else can reset the table.
        let mut table = self.lock();
        let client = table.client(flow.client.ip(), flow.identity.clone());
        let taken = match table.take(&client, demand, now()) {
            Ok(taken) => taken,
            Err(over) => {
                if self.is_shared {
                    // Nothing is added, but it comes back what another gateway has forgotten since.
                    self.amounts.add(table.spend(client, Quota::Connections, 0, now()), 0);
                }
                return Err(over);
            }
        };
        for entry in taken.entries {
            self.amounts.add(entry, 1);
        }
        if let Some(own) = taken.own {
            self.store.put(Table::QuotaLimits, client.to_string(), &own);
        }
        Ok(())
    }

    /// Counts what a flow's client has used up without a demand.
    pub fn spend(&self, flow: &Flow, quota: Quota, amount: u64) {
        if self.is_on() && amount != 0 {
            let mut table = self.lock();
            let client = table.client(flow.client.ip(), flow.identity.clone());
            let entry = table.spend(client, quota, amount, now());
            self.amounts.add(entry, amount);
        }
    }

    /// The client that `address` belongs to.
    #[must_use]
    pub fn client(&self, address: IpAddr, identity: Option<Identity>) -> Client {
        self.lock().client(address, identity)
    }

    /// The limits that hold for a client.
    #[must_use]
    pub fn limits(&self, client: &Client) -> QuotaLimits {
        self.lock().limits(client).clone()
    }

    /// Gives a client limits of its own, or with `None` those of the configuration.
    ///
    /// # Errors
    ///
    /// When too many have some.
    pub fn set_limits(&self, client: Client, limits: Option<QuotaLimits>) -> Result<(), Full> {
        let mut table = self.lock();
        let key = client.to_string();
        match table.set_limits(client, limits)? {
            Some(own) => self.store.put(Table::QuotaLimits, key, &own),
            None => self.store.remove(Table::QuotaLimits, key),
        }
        Ok(())
    }

    /// Forgets what a client has used, or all have; says of how many.
    pub fn reset(&self, client: Option<&Client>) -> usize {
        let mut table = self.lock();
        let (gone, epoch) = table.reset(client);
        self.amounts.forget_usage(client.cloned(), epoch);
        gone
    }

    /// Waits until what was said so far is kept, or was tried in vain.
    pub async fn flush(&self) {
        self.amounts.flush().await;
        self.store.flush().await;
    }

    /// How a client stands.
    #[must_use]
    pub fn standing(&self, client: &Client) -> Standing {
        self.lock().standing(client, now())
    }

    /// How the clients stand that were seen last, at most so many of them.
    #[must_use]
    pub fn standings(&self, most: usize) -> Vec<Standing> {
        self.lock().standings(most, now())
    }

    /// How many clients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Clients that were forgotten for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.lock().evicted()
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    clock::wall().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
