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
use crate::policy::lock::LockTable;

/// How long an older process may take to tell of its last changes.
const REST: Duration = Duration::from_secs(5);

/// What has changed in the table.
pub(super) struct Changed {
    /// Here.
    pub(super) changed: Vec<Subject>,
    /// Elsewhere, with the version that it has.
    pub(super) heard: Vec<Subject>,
    /// What becomes of their rows in the store.
    pub(super) rows: Rows,
}

/// When the store hears of changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rows {
    /// Of each at once.
    Each,
    /// Of all of them when they are over.
    Later,
}

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

    fn pass_on_now(&self, changes: &[LockChange]) {
        let request = Request::Bequeath { changes: changes.to_vec(), whole: false };
        if self.requests.try_send(request).is_err() {
            tracing::debug!("the process that took over does not hear of a lock");
        }
    }

    /// Tells another process that has the table what was changed here, without waiting.
    pub(super) fn tell_successor_now(&self, changes: &[LockChange]) {
        for changes in changes.chunks(CHANGES) {
            self.pass_on_now(changes);
        }
    }

    /// Changes the table, and keeps what `deed` says it has changed, in mind and in the store; or returns what another
    /// process is to be told, which has the table.
    ///
    /// All in one moment: what was changed and has no version yet would count for older than what is heard of
    /// other gateways.
    pub(super) fn change<T>(
        &self,
        deed: impl FnOnce(&mut LockTable) -> (T, Vec<Subject>),
    ) -> (T, Vec<LockChange>) {
        self.change_some(|table| {
            let (done, changed) = deed(table);
            (done, Changed { changed, heard: Vec::new(), rows: Rows::Each })
        })
    }

    pub(super) fn change_some<T>(
        &self,
        deed: impl FnOnce(&mut LockTable) -> (T, Changed),
    ) -> (T, Vec<LockChange>) {
        let at = seconds(clock::wall());
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.lock();
        let (done, Changed { changed, heard, rows }) = deed(&mut table);
        let subjects: Vec<Subject> = changed.iter().chain(&heard).cloned().collect();
        if recent.note(&subjects, at, clock::now()) {
            // With both guards: nothing is written once another process has the table.
            self.stamp(&mut table, &changed);
            self.retell(heard);
            match rows {
                Rows::Each => self.keep_as_in(&table, &subjects),
                Rows::Later => {}
            }
            return (done, Vec::new());
        }
        for subject in &subjects {
            if let Subject::Lock(who) = subject {
                // The other process says when that was.
                table.stamp(who, 0);
            }
        }
        drop((table, recent));
        (done, self.changes(subjects.into_iter().map(|subject| (subject, at))))
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
        let ((set, removed, exempt), changes) = self.change_some(|table| {
            let (mut set, mut removed) = (Vec::new(), Vec::new());
            let (mut changed, mut heard) = (Vec::new(), Vec::new());
            for change in changes {
                match change {
                    LockChange::Lock { who, at, lock } => {
                        // What was changed here since then holds.
                        if table.get(&who).is_some_and(|own| own.version() / 1000 > at) {
                            continue;
                        }
                        let subject = Subject::Lock(who.clone());
                        match lock {
                            Some(lock) => {
                                if table.add(lock.clone(), now).is_ok() {
                                    set.extend(enforced(&lock, now));
                                    // Its version is the older process's, if that has told others of it.
                                    if lock.changed == 0 { &mut changed } else { &mut heard }.push(subject);
                                }
                            }
                            None => {
                                removed.extend(table.remove(&who).and_then(|lock| lock.who.in_kernel()));
                                changed.push(subject);
                            }
                        }
                    }
                    LockChange::Exempt { net, exempt } => {
                        // Where there is no room for it, the older process had none either.
                        let known = if exempt { table.exempt(net) == Ok(true) } else { table.unexempt(net) };
                        if known {
                            changed.push(Subject::Exempt(net.trunc()));
                        }
                        tracing::debug!(network = %net, exempt, known, "an exemption of an older process");
                    }
                }
            }
            let exempt = table.exempted().iter().copied().collect();
            ((set, removed, exempt), Changed { changed, heard, rows: Rows::Each })
        });
        // This process may have a successor soon, or even now.
        self.tell_successor_now(&changes);
        if whole {
            self.whole.send_replace(true);
        }
        vec![
            LockOrder::Set { locks: set },
            LockOrder::Remove { nets: removed },
            LockOrder::Exempt { nets: exempt },
        ]
    }
}
