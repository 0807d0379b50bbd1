//! The locks of this gateway: the table, and the ways to the store and to the kernel.
//!
//! Owns when the table changes hands: what is set is enforced by the datapath process at once and
//! kept in the store soon, so that it outlives both processes. Decides nothing: that is
//! [`crate::policy::lock`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock;
use crate::config::file::{self as config, LockAction};
use crate::intercept::flow::Flow;
use crate::ipc::lock::{BATCH, Hits, LockOrder};
use crate::policy::lock::{Cause, Lock, LockTable, Offence, Outcome, Refused, Who};
use crate::store::{Contents, Store};

mod import;
mod inheritance;
mod kept;
mod kernel;
mod recent;
mod shared;
#[cfg(test)]
mod tests;

pub use import::FILE;
pub use kernel::Request;
pub use shared::SharingView;

use import::Import;
use recent::{Recent, Subject};
use shared::Sharing;

/// How often what is over is removed.
const TICK: Duration = Duration::from_secs(1);
/// Locks that are removed in one tick, or in one go.
const EXPIRED: usize = 2_000;

/// The locks of this gateway.
#[derive(Debug)]
pub struct Locks {
    table: Mutex<LockTable>,
    requests: mpsc::Sender<Request>,
    store: Store,
    /// The file of an earlier release, until all of it is in the store.
    import: Mutex<Option<Import>>,
    /// An order found no room: the datapath process is to be told of all.
    untold: AtomicBool,
    recent: Mutex<Recent>,
    /// Whether all is known that another process has changed.
    whole: watch::Sender<bool>,
    /// Whether the datapath process was told of all, and is to be told of each change.
    enforcing: AtomicBool,
    sharing: Mutex<Sharing>,
    /// The way to other gateways, where there are any.
    shared: OnceLock<Store>,
}

impl Locks {
    /// The locks that were kept in `store`; `requests` lead to the datapath process.
    #[must_use]
    pub fn new(
        rules: config::Locks,
        store: Store,
        contents: &mut Contents,
        requests: mpsc::Sender<Request>,
    ) -> Self {
        let mut table = LockTable::default();
        table.set_rules(rules);
        let locks = Self {
            table: Mutex::new(table),
            requests,
            store,
            import: Mutex::default(),
            untold: AtomicBool::new(false),
            recent: Mutex::default(),
            whole: watch::Sender::new(true),
            enforcing: AtomicBool::new(false),
            sharing: Mutex::default(),
            shared: OnceLock::new(),
        };
        locks.load(contents);
        locks
    }

    fn lock(&self) -> MutexGuard<'_, LockTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on these rules hold.
    pub fn set_rules(&self, rules: config::Locks) {
        self.lock().set_rules(rules);
    }

    /// Networks that no lock touches.
    #[must_use]
    pub fn exempt(&self) -> Vec<IpNet> {
        self.lock().all_exempt().collect()
    }

    /// The lock that holds off `flow`, which is new and counts as refused.
    #[must_use]
    pub fn meet(&self, flow: &Flow) -> Option<Lock> {
        let now = seconds(clock::wall());
        self.lock().meet(flow.client.ip(), flow.identity.as_ref(), now).cloned()
    }

    /// The lock that holds the client of `flow`.
    #[must_use]
    pub fn find(&self, flow: &Flow) -> Option<Lock> {
        let now = seconds(clock::wall());
        self.lock().find(flow.client.ip(), flow.identity.as_ref(), now).cloned()
    }

    /// The client of `flow` has offended: it is locked, if the configuration has it so. Never waits.
    pub fn offend(&self, flow: &Flow, offence: &Offence) -> Outcome {
        let now = seconds(clock::wall());
        let (outcome, changes) = self.change(|table| {
            let outcome = table.offend(flow, offence, now);
            let changed = match &outcome {
                Outcome::Created(lock) | Outcome::Renewed(lock) => vec![Subject::Lock(lock.who.clone())],
                Outcome::Held | Outcome::Spared | Outcome::Full => Vec::new(),
            };
            (outcome, changed)
        });
        if let Outcome::Created(lock) | Outcome::Renewed(lock) = &outcome {
            self.tell_now(&Subject::Lock(lock.who.clone()));
            self.tell_successor_now(&changes);
            log(lock);
        }
        outcome
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are of each action.
    #[must_use]
    pub fn by_action(&self) -> [(LockAction, u64); 3] {
        let table = self.lock();
        [LockAction::Drop, LockAction::Reset, LockAction::Reject]
            .map(|action| (action, u64::try_from(table.count(action)).unwrap_or(u64::MAX)))
    }

    /// The first `most` locks, what the kernel has counted of each, and how many there are.
    pub async fn list(&self, most: usize) -> (Vec<(Lock, Hits)>, usize) {
        self.whole().await;
        let (locks, all) = {
            let table = self.lock();
            (table.all().take(most).cloned().collect::<Vec<_>>(), table.len())
        };
        let mut listed = Vec::with_capacity(locks.len());
        // Networks come before identities, of which the kernel counts nothing.
        for some in locks.chunks(BATCH) {
            let nets: Vec<_> = some.iter().filter_map(|lock| lock.who.in_kernel()).collect();
            let mut counted = if nets.is_empty() { Vec::new() } else { self.hits(nets).await };
            counted.resize(some.len(), Hits::default());
            listed.extend(some.iter().cloned().zip(counted));
        }
        (listed, all)
    }

    /// Sets an operator's lock for `span` (`None`: for ever), in place of one of the same client;
    /// with `cut`, flows that the kernel carries end at once.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why not.
    pub async fn add(
        &self,
        who: Who,
        action: LockAction,
        span: Option<Duration>,
        detail: String,
        cut: bool,
    ) -> Result<Lock, Refused> {
        self.whole().await;
        let now = seconds(clock::wall());
        let who = who.trunc();
        let until = span.map(|span| now.saturating_add(span.as_secs().max(1)));
        let (cause, session) = (Cause::Operator, None);
        let (since, offences) = (now, 0);
        let lock =
            Lock { who, action, cause, detail, session, since, until, offences, refused: 0, changed: 0 };
        let subject = Subject::Lock(lock.who.clone());
        let (added, changes) = self.change(|table| {
            let added = table.add(lock.clone(), now);
            let changed = if added.is_ok() { vec![subject.clone()] } else { Vec::new() };
            (added, changed)
        });
        added?;
        self.tell(&[subject]).await;
        self.tell_successor(&changes).await;
        if let Some(net) = lock.who.in_kernel().filter(|_| cut) {
            self.order(LockOrder::Cut { net, action }).await;
        }
        log(&lock);
        Ok(lock)
    }

    /// Removes the lock of exactly this network or identity; says whether there was one.
    pub async fn remove(&self, who: &Who) -> bool {
        self.whole().await;
        let (removed, changes) = self.change(|table| {
            let removed = table.remove(who).map(|lock| lock.who);
            (removed.clone(), removed.map(Subject::Lock).into_iter().collect())
        });
        let Some(who) = removed else { return false };
        tracing::info!(%who, "unlocked");
        self.tell(&[Subject::Lock(who)]).await;
        self.tell_successor(&changes).await;
        true
    }

    /// Removes all locks; says how many there were.
    pub async fn clear(&self) -> usize {
        self.whole().await;
        let (count, changes) = self.remove_all().await;
        self.tell_all().await;
        self.tell_successor(&changes).await;
        tracing::info!(locks = count, "all locks removed");
        count
    }

    /// Lets no lock touch `net` any more, or (`false`) takes that back; says whether it changed.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why not.
    pub async fn set_exempt(&self, net: IpNet, exempt: bool) -> Result<bool, Refused> {
        self.whole().await;
        let subject = Subject::Exempt(net.trunc());
        let (done, changes) = self.change(|table| {
            let done = if exempt { table.exempt(net) } else { Ok(table.unexempt(net)) };
            let changed = if done == Ok(true) { vec![subject.clone()] } else { Vec::new() };
            (done, changed)
        });
        if done == Ok(true) {
            self.tell(&[subject]).await;
            self.tell_successor(&changes).await;
            tracing::info!(network = %net, exempt, "exemption from locks");
        }
        done
    }

    /// Removes what is over, and brings what an earlier release has kept into the store, until it is dropped.
    pub async fn run(&self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.untold.swap(false, Ordering::AcqRel) {
                self.tell_all().await;
            }
            let over = self.expire(seconds(clock::wall()));
            self.tell(&over).await;
            self.finish_import().await;
        }
    }
}

fn log(lock: &Lock) {
    tracing::info!(
        who = %lock.who,
        action = lock.action.name(),
        cause = lock.cause.name(),
        detail = lock.detail,
        session = lock.session.map(tracing::field::display),
        until = lock.until,
        offences = lock.offences,
        "locked"
    );
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
