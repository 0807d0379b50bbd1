//! The way to the kernel's locks, which the datapath process has.
//!
//! Several tasks and a thread change the table. What the kernel is told is what the table says in the moment
//! of telling, and both happen under the table's guard: so the last word on the way is the table's, whoever
//! has changed it in between.

use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc::Permit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::recent::Subject;
use super::{Locks, seconds};
use crate::clock;
use crate::ipc::lock::{BATCH, Enforced, Hits, LockChange, LockOrder};
use crate::policy::lock::{Lock, LockTable, Who};

/// How long the datapath process may take to say what it has counted.
const COUNTED: Duration = Duration::from_secs(2);
/// How soon a thread that may wait looks again for room on the way.
const ROOM: Duration = Duration::from_millis(1);

/// What the kernel is told of some subjects, as far as it is of this kind.
type Word = fn(&LockTable, &[Subject], u64) -> Option<LockOrder>;

/// All kinds.
const WORDS: [Word; 3] = [exempt, set, removed];

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

    /// Has the kernel enforce what the table says of these.
    pub(super) async fn tell(&self, subjects: &[Subject]) {
        for some in subjects.chunks(BATCH) {
            for word in WORDS {
                let Ok(room) = self.requests.reserve().await else {
                    tracing::debug!("the gateway is stopping");
                    return;
                };
                self.say(room, |table, now| word(table, some, now));
            }
        }
    }

    /// As [`Self::tell`], on a thread that may wait.
    pub(super) fn tell_here(&self, subjects: &[Subject]) {
        for some in subjects.chunks(BATCH) {
            for word in WORDS {
                let room = loop {
                    match self.requests.try_reserve() {
                        Ok(room) => break room,
                        Err(TrySendError::Full(())) => thread::sleep(ROOM),
                        Err(TrySendError::Closed(())) => {
                            tracing::debug!("the gateway is stopping");
                            return;
                        }
                    }
                };
                self.say(room, |table, now| word(table, some, now));
            }
        }
    }

    /// As [`Self::tell`] without waiting: where there is no room, all is told again soon.
    pub(super) fn tell_now(&self, subject: &Subject) {
        let subject = std::slice::from_ref(subject);
        match self.requests.try_reserve() {
            // One subject is one word.
            Ok(room) => self.say(room, |table, now| WORDS.iter().find_map(|word| word(table, subject, now))),
            Err(TrySendError::Full(())) => self.untold.store(true, Ordering::Release),
            Err(TrySendError::Closed(())) => tracing::debug!("the gateway is stopping"),
        }
    }

    fn say(&self, room: Permit<'_, Request>, word: impl FnOnce(&LockTable, u64) -> Option<LockOrder>) {
        let now = seconds(clock::wall());
        let table = self.lock();
        if let Some(order) = word(&table, now) {
            room.send(Request::Order(order));
        }
        drop(table);
    }

    /// Has the kernel's locks made the same as these. What is changed meanwhile is told besides.
    pub(super) async fn tell_all(&self) {
        self.enforcing.store(true, Ordering::Release);
        let mut behind = Bound::Unbounded;
        let Ok(room) = self.requests.reserve().await else { return };
        self.say(room, |table, _| Some(all_exempt(table)));
        self.order(LockOrder::Begin).await;
        loop {
            let Ok(room) = self.requests.reserve().await else { return };
            self.say(room, |table, now| {
                let some: Vec<&Lock> = table.behind(behind.as_ref()).take(BATCH).collect();
                behind = some.last().map_or(Bound::Unbounded, |lock| Bound::Excluded(lock.who.clone()));
                let held = some.into_iter().filter(|lock| lock.holds(now));
                let locks: Vec<_> = held.filter_map(|lock| enforced(lock, now)).collect();
                Some(LockOrder::Set { locks })
            });
            if behind == Bound::Unbounded {
                break;
            }
        }
        self.order(LockOrder::Complete).await;
    }
}

fn all_exempt(table: &LockTable) -> LockOrder {
    LockOrder::Exempt { nets: table.exempted().iter().copied().collect() }
}

fn exempt(table: &LockTable, subjects: &[Subject], _: u64) -> Option<LockOrder> {
    let is_one = |subject: &Subject| matches!(subject, Subject::Exempt(_));
    subjects.iter().any(is_one).then(|| all_exempt(table))
}

fn locked(subjects: &[Subject]) -> impl Iterator<Item = &Who> {
    subjects.iter().filter_map(|subject| match subject {
        Subject::Lock(who) => Some(who),
        Subject::Exempt(_) => None,
    })
}

fn set(table: &LockTable, subjects: &[Subject], now: u64) -> Option<LockOrder> {
    let there = locked(subjects).filter_map(|who| table.get(who));
    let locks: Vec<_> = there.filter_map(|lock| enforced(lock, now)).collect();
    (!locks.is_empty()).then_some(LockOrder::Set { locks })
}

fn removed(table: &LockTable, subjects: &[Subject], _: u64) -> Option<LockOrder> {
    let gone = locked(subjects).filter(|who| table.get(who).is_none());
    let nets: Vec<_> = gone.filter_map(Who::in_kernel).collect();
    (!nets.is_empty()).then_some(LockOrder::Remove { nets })
}

/// What the kernel is to do; nothing where it cannot tell the client from others.
pub(super) fn enforced(lock: &Lock, now: u64) -> Option<Enforced> {
    let left = lock.until.map(|until| Duration::from_secs(until.saturating_sub(now)));
    Some(Enforced { net: lock.who.in_kernel()?, action: lock.action, left })
}
