//! How the table changes hands in an upgrade.
//!
//! The file is behind by a second, and sessions that are still open in a process that retires go on
//! to find offences: what changes there is passed on.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
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
    /// Another process has changes that are not in the file yet, and tells of them soon.
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
        for changes in self.noted(subjects).chunks(CHANGES) {
            self.pass_on(changes, false).await;
        }
    }

    /// As [`Self::note`] without waiting.
    pub(super) fn note_now(&self, subject: Subject) {
        let changes = self.noted(vec![subject]);
        if !changes.is_empty() && self.requests.try_send(Request::Bequeath { changes, whole: false }).is_err()
        {
            tracing::debug!("the process that took over does not hear of a lock");
        }
    }

    /// Keeps in mind what has changed; returns what another process, which has the table, is to be told.
    fn noted(&self, subjects: Vec<Subject>) -> Vec<LockChange> {
        self.changed.store(true, Ordering::Release);
        let at = seconds(clock::wall());
        let kept =
            self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(&subjects, at, clock::now());
        if kept { Vec::new() } else { self.changes(subjects.into_iter().map(|subject| (subject, at))) }
    }

    /// Another process has the table from here on: it is told what it may not have found in the file,
    /// and of each change that sessions which are still open here make.
    pub async fn bequeath(&self) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner).bequeath();
        for changes in self.changes(recent.into_iter()).chunks(CHANGES) {
            self.pass_on(changes, false).await;
        }
        self.pass_on(&[], true).await;
    }

    fn changes(&self, changed: impl Iterator<Item = (Subject, u64)>) -> Vec<LockChange> {
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
        self.changed.store(true, Ordering::Release);
        // They are not in the file yet, and this process may have a successor soon.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(&subjects, now, clock::now());
        if whole {
            self.whole.send_replace(true);
        }
        vec![LockOrder::Set { locks: set }, LockOrder::Remove { nets: removed }, exempt]
    }
}
