//! How the table changes hands in an upgrade.
//!
//! Sessions that are still open in a process that retires go on to find offences, and what was changed
//! since its successor has read the store is not known there: it is passed on.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::timeout;

use super::kernel::{Request, enforced};
use super::recent::Subject;
use super::{Locks, seconds};
use crate::clock;
use crate::ipc::lock::{CHANGES, LockChange, LockOrder};

/// How long an older process may take to tell of its last changes.
const REST: Duration = Duration::from_secs(5);

impl Locks {
    /// Another process has changes that were not in the store yet, and tells of them soon.
    pub fn await_rest(&mut self) {
        self.whole.send_replace(false);
    }

    /// Waits until all is known that another process has changed. One that has died tells nothing.
    pub(super) async fn whole(&self) {
        let mut seen = self.whole.subscribe();
        if timeout(REST, seen.wait_for(|whole| *whole)).await.is_err() {
            tracing::warn!("locks that were changed in the last second before the upgrade may be lost");
            self.whole.send_replace(true);
        }
    }

    /// These have changed.
    pub(super) async fn note(&self, subjects: Vec<Subject>) {
        let changes = self.noted(subjects);
        self.tell_successor(&changes).await;
    }

    /// As [`Self::note`] without waiting.
    pub(super) fn note_now(&self, subject: Subject) {
        let changes = self.noted(vec![subject]);
        if !changes.is_empty() {
            self.pass_on_now(&changes);
        }
    }

    fn pass_on_now(&self, changes: &[LockChange]) {
        let request = Request::Bequeath { changes: changes.to_vec(), whole: false };
        if self.requests.try_send(request).is_err() {
            tracing::debug!("the process that took over does not hear of a lock");
        }
    }

    /// Keeps what has changed, in mind and in the store; or returns what another process is to be told,
    /// which has the table.
    fn noted(&self, subjects: Vec<Subject>) -> Vec<LockChange> {
        let at = seconds(clock::wall());
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.note(&subjects, at, clock::now()) {
            // With the guard: nothing is written once another process has the table.
            self.stamp(&mut self.lock(), &subjects);
            self.keep(&subjects);
            return Vec::new();
        }
        drop(recent);
        self.changes(subjects.into_iter().map(|subject| (subject, at)))
    }

    /// Another process has the table from here on: it is told what it may not have found in the store,
    /// and of each change that sessions which are still open here make.
    pub async fn bequeath(&self) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner).bequeath();
        // What is written later than this would be older than what the other one writes.
        self.store.flush().await;
        let changes = self.changes(recent.into_iter());
        self.tell_successor(&changes).await;
        self.pass_on(&[], true).await;
    }

    pub(super) async fn tell_successor(&self, changes: &[LockChange]) {
        for changes in changes.chunks(CHANGES) {
            self.pass_on(changes, false).await;
        }
    }

    pub(super) fn changes(&self, changed: impl Iterator<Item = (Subject, u64)>) -> Vec<LockChange> {
        let table = self.lock();
        let change = |(subject, at)| match subject {
            Subject::Lock(who) => {
                let lock = table.get(&who).cloned();
                LockChange::Lock { who, at, lock }
            }
            Subject::Exempt(net) => LockChange::Exempt { net, exempt: table.exempted().contains(&net) },
        };
        changed.map(change).collect()
    }

    async fn pass_on(&self, changes: &[LockChange], whole: bool) {
        let changes = changes.to_vec();
        if self.requests.send(Request::Bequeath { changes, whole }).await.is_err() {
            tracing::debug!("the gateway is stopping");
        }
    }

    /// Takes over what another process has changed; `whole`: there is no more of it. Returns the orders
    /// that make the kernel's locks the same.
    #[must_use]
    pub fn inherit(&self, changes: Vec<LockChange>, whole: bool) -> Vec<LockOrder> {
        let now = seconds(clock::wall());
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        let mut subjects = Vec::with_capacity(changes.len());
        let mut table = self.lock();
        for change in changes {
            match change {
                LockChange::Lock { who, at, lock } => {
                    subjects.push(Subject::Lock(who.clone()));
                    // What was changed here since then holds.
                    if table.get(&who).is_some_and(|own| own.since > at) {
                        continue;
                    }
                    match lock {
                        Some(lock) if table.add(lock.clone(), now).is_ok() => {
                            set.extend(enforced(&lock, now))
                        }
                        Some(_) => {}
                        None => removed.extend(table.remove(&who).and_then(|lock| lock.who.in_kernel())),
                    }
                }
                LockChange::Exempt { net, exempt } => {
                    subjects.push(Subject::Exempt(net));
                    // Where there is no room for it, the older process had none either.
                    let known = if exempt { table.exempt(net).is_ok() } else { table.unexempt(net) };
                    tracing::debug!(network = %net, exempt, known, "an exemption of an older process");
                }
            }
        }
        let exempt = LockOrder::Exempt { nets: table.exempted().iter().copied().collect() };
        drop(table);
        // This process may have a successor soon, or even now.
        for changes in self.noted(subjects).chunks(CHANGES) {
            self.pass_on_now(changes);
        }
        if whole {
            self.whole.send_replace(true);
        }
        vec![LockOrder::Set { locks: set }, LockOrder::Remove { nets: removed }, exempt]
    }
}
