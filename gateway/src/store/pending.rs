//! Changes on their way to the file.
//!
//! One for each row: a later change takes the place of an earlier one that was not written yet, and
//! amounts add up. So there are never more than there are rows, and there is a ceiling besides.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Table;
use crate::policy::quota::{Client, Entry};

/// Changes that wait at most.
pub(super) const MOST: usize = 200_000;

/// Changes that are written together. What is forgotten goes first.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) cleared: BTreeSet<Table>,
    /// Rows to be written; those without a value are removed.
    pub(super) rows: HashMap<(Table, String), Option<String>>,
    pub(super) forgotten: Forgotten,
    /// What is added.
    pub(super) usage: HashMap<Entry, u64>,
    /// See [`super::News::Usage`].
    pub(super) epoch: u64,
}

/// Whose usage is forgotten.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    pub(super) all: bool,
    pub(super) clients: BTreeSet<Client>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.cleared.is_empty() && !self.forgotten.all
    }

    fn len(&self) -> usize {
        self.rows.len().saturating_add(self.usage.len()).saturating_add(self.forgotten.clients.len())
    }

    fn clear(&mut self, table: Table) {
        self.rows.retain(|(of, _), _| *of != table);
        self.cleared.insert(table);
    }

    fn forget(&mut self, client: Option<Client>) {
        match client {
            Some(client) => {
                self.usage.retain(|entry, _| entry.client != client);
                self.forgotten.clients.insert(client);
            }
            None => {
                self.usage.clear();
                self.forgotten = Forgotten { all: true, clients: BTreeSet::new() };
            }
        }
    }

    fn add(&mut self, entry: Entry, amount: u64) {
        let waiting = self.usage.entry(entry).or_default();
        *waiting = waiting.saturating_add(amount);
    }

    /// The same with `later` on top.
    fn followed_by(mut self, later: Self) -> Self {
        for table in later.cleared {
            self.clear(table);
        }
        self.rows.extend(later.rows);
        self.epoch = later.epoch;
        if later.forgotten.all {
            self.forget(None);
        }
        for client in later.forgotten.clients {
            self.forget(Some(client));
        }
        for (entry, amount) in later.usage {
            self.add(entry, amount);
        }
        self
    }
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    flushes: Vec<oneshot::Sender<()>>,
    closed: bool,
    /// There is something to do that does not stand here.
    touched: bool,
}

impl State {
    fn is_urgent(&self) -> bool {
        self.closed || !self.flushes.is_empty()
    }
}

/// Where owners put changes and the writer takes them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    news: Condvar,
    dropped: AtomicU64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the batch; one more row is taken only while there is room.
    fn change(&self, is_known: impl FnOnce(&Batch) -> bool, change: impl FnOnce(&mut Batch)) {
        let mut state = self.lock();
        if state.closed || (state.batch.len() >= MOST && !is_known(&state.batch)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = state.batch.is_empty();
        change(&mut state.batch);
        drop(state);
        if first {
            self.news.notify_one();
        }
    }

    pub(super) fn put(&self, table: Table, key: String, value: Option<String>) {
        let key = (table, key);
        let known = key.clone();
        self.change(
            |batch| batch.rows.contains_key(&known),
            |batch| {
                batch.rows.insert(key, value);
            },
        );
    }

    pub(super) fn clear(&self, table: Table) {
        self.change(|_| true, |batch| batch.clear(table));
    }

    pub(super) fn add(&self, entry: Entry, amount: u64) {
        let known = entry.clone();
        self.change(|batch| batch.usage.contains_key(&known), |batch| batch.add(entry, amount));
    }

    pub(super) fn forget_usage(&self, client: Option<Client>, epoch: u64) {
        let known = client.clone();
        let known =
            |batch: &Batch| known.as_ref().is_none_or(|client| batch.forgotten.clients.contains(client));
        self.change(known, |batch| {
            batch.forget(client);
            batch.epoch = epoch;
        });
    }

    /// Ends when all that was said before was written or tried in vain.
    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        let mut state = self.lock();
        if !state.closed {
            state.flushes.push(done);
        }
        drop(state);
        self.news.notify_one();
        flushed
    }

    /// Lets go of whoever waits for a flush.
    pub(super) fn release(&self) {
        self.lock().flushes.clear();
    }

    /// Nothing is taken any more: what waits is written, and the writer ends.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// There is something to do that does not stand here.
    pub(super) fn touch(&self) {
        let first = !std::mem::replace(&mut self.lock().touched, true);
        if first {
            self.news.notify_one();
        }
    }

    /// Waits for something to do, or for as long as `most`; true when it is urgent.
    pub(super) fn wait(&self, most: Option<Duration>) -> bool {
        let idle = |state: &mut State| state.batch.is_empty() && !state.touched && !state.is_urgent();
        let state = match most {
            None => self.news.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner),
            Some(most) => {
                let waited = self.news.wait_timeout_while(self.lock(), most, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.is_urgent()
    }

    /// Waits for more to do for as long as `time`, unless it becomes urgent.
    pub(super) fn gather(&self, time: Duration) {
        let patient = |state: &mut State| !state.is_urgent();
        drop(self.news.wait_timeout_while(self.lock(), time, patient));
    }

    pub(super) fn take(&self) -> (Batch, Vec<oneshot::Sender<()>>) {
        let mut state = self.lock();
        state.touched = false;
        let next = Batch { epoch: state.batch.epoch, ..Batch::default() };
        (std::mem::replace(&mut state.batch, next), std::mem::take(&mut state.flushes))
    }

    /// What could not be written waits again, below what came since.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut state = self.lock();
        let later = std::mem::take(&mut state.batch);
        state.batch = batch.followed_by(later);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
