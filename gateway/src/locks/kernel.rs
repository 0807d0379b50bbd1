//! The way to the kernel's locks, which the datapath process has.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Locks, seconds};
use crate::clock;
use crate::ipc::lock::{BATCH, Enforced, Hits, LockChange, LockOrder};
use crate::policy::lock::Lock;

/// How long the datapath process may take to say what it has counted.
const COUNTED: Duration = Duration::from_secs(2);

/// What the datapath process is to be told.
#[derive(Debug)]
pub enum Request {
    /// An order.
    Order(LockOrder),
    /// A question for what was counted of at most [`BATCH`] locks.
    Hits {
        /// Their networks.
        nets: Vec<IpNet>,
        /// Where the answer goes.
        answer: oneshot::Sender<Vec<Hits>>,
    },
    /// Changes for the process that has the table from here on.
    Bequeath {
        /// At most [`CHANGES`](crate::ipc::lock::CHANGES).
        changes: Vec<LockChange>,
        /// Whether these are the last of those that it may not have found in the file.
        whole: bool,
    },
}

impl Locks {
    /// Waits until the datapath process has done what it was told so far, and until the store has what was
    /// changed, but not for ever: an operator who reads that a lock is set or removed may rely on it.
    pub async fn settled(&self) {
        self.store.flush().await;
        self.told_others().await;
        // Orders and questions are one queue.
        self.hits(Vec::new()).await;
    }

    /// The orders that make the kernel's locks the same as these.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LockOrder> {
        let now = seconds(clock::wall());
        let table = self.lock();
        // With the guard: what is changed from here on is told one by one.
        self.enforcing.store(true, Ordering::Release);
        let held = table.all().filter(|lock| lock.holds(now));
        let locks: Vec<Enforced> = held.filter_map(|lock| enforced(lock, now)).collect();
        let exempt = LockOrder::Exempt { nets: table.exempted().iter().copied().collect() };
        drop(table);
        let set = locks.chunks(BATCH).map(|some| LockOrder::Set { locks: some.to_vec() });
        [exempt, LockOrder::Begin].into_iter().chain(set).chain([LockOrder::Complete]).collect()
    }

    pub(super) async fn hits(&self, nets: Vec<IpNet>) -> Vec<Hits> {
        let (answer, counted) = oneshot::channel();
        if self.requests.send(Request::Hits { nets, answer }).await.is_err() {
            return Vec::new();
        }
        timeout(COUNTED, counted).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    pub(super) async fn order(&self, order: LockOrder) {
        if self.requests.send(Request::Order(order)).await.is_err() {
            tracing::debug!("the gateway is stopping");
        }
    }

    /// As [`Self::order`] without waiting: where there is no room, all is told again soon.
    pub(super) fn tell(&self, order: LockOrder) {
        match self.requests.try_send(Request::Order(order)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.untold.store(true, Ordering::Release),
            Err(TrySendError::Closed(_)) => tracing::debug!("the gateway is stopping"),
        }
    }

    pub(super) async fn tell_all(&self) {
        for order in self.snapshot() {
            self.order(order).await;
        }
    }
}

/// What the kernel is to do; nothing where it cannot tell the client from others.
pub(super) fn enforced(lock: &Lock, now: u64) -> Option<Enforced> {
    let left = lock.until.map(|until| Duration::from_secs(until.saturating_sub(now)));
    Some(Enforced { net: lock.who.in_kernel()?, action: lock.action, left })
}
