//! The way to the store, in which locks and exemptions outlive the gateway.
//!
//! What a row says is what the table says at that moment, and both are told in one go: so the last
//! word in the store is that of the table. What came of counting is there as of the last change.

use std::ops::Bound;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::inheritance::{Changed, Rows};
use super::recent::Subject;
use super::{EXPIRED, Locks, seconds};
use crate::clock;
use crate::config::file::Network;
use crate::ipc::lock::LockChange;
use crate::policy::lock::{Lock, LockTable, Refused, Who};
use crate::store::{Contents, News, Table};

/// How long others have the table while all locks are removed, some at a time.
const TURN: Duration = Duration::from_millis(1);

impl Locks {
    /// Takes in what was kept. What is known already stays as it is.
    pub(super) fn load(&self, contents: &mut Contents) {
        let now = seconds(clock::wall());
        let exempt: Vec<(Network, Option<u64>)> = contents.take(Table::LockExemptions);
        let removed = contents.take(Table::LockRemovals);
        let locks: Vec<(Who, Lock)> = contents.take(Table::Locks);
        let mut table = self.lock();
        for (net, _) in &exempt {
            if let Err(refused) = table.exempt(net.0) {
                tracing::debug!(%refused, "an exemption of the state store");
            }
        }
        self.recall(exempt.into_iter().filter_map(|(net, at)| Some((net.0.trunc(), at?))).collect(), removed);
        for (who, lock) in locks {
            contents.progress.step();
            if table.get(&who).is_some() {
                continue;
            }
            match table.add(Lock { who: who.clone(), ..lock }, now) {
                Ok(()) => {}
                Err(Refused::Over) => self.store.remove(Table::Locks, who.to_string()),
                Err(refused @ (Refused::Exempt(_) | Refused::Full | Refused::TooManyExempt)) => {
                    tracing::debug!(%refused, "a lock of the state store");
                }
            }
        }
    }

    /// Takes what the store has told of, which could not be read at the start.
    pub fn learn(&self, news: &mut News) {
        match news {
            News::Contents(contents) => {
                self.load(contents);
                self.untold.store(true, Ordering::Release);
            }
            News::Usage { .. } => {}
        }
    }

    /// Keeps what these are.
    pub(super) fn keep(&self, subjects: &[Subject]) {
        self.keep_as_in(&self.lock(), subjects);
    }

    /// Keeps what these are in `table`.
    pub(super) fn keep_as_in(&self, table: &LockTable, subjects: &[Subject]) {
        for subject in subjects {
            match subject {
                Subject::Lock(who) => match table.get(who) {
                    Some(lock) => self.store.put(Table::Locks, lock.who.to_string(), lock),
                    None => self.store.remove(Table::Locks, who.clone().trunc().to_string()),
                },
                Subject::Exempt(net) => {
                    let key = Network(net.trunc()).to_string();
                    if table.exempted().contains(&net.trunc()) {
                        self.store.put(Table::LockExemptions, key, &self.exempted_at(net.trunc()));
                    } else {
                        self.store.remove(Table::LockExemptions, key);
                    }
                }
            }
        }
    }

    /// Removes what is over, from here and from the store, some of it at a time; says what it was.
    pub(super) fn expire(&self, now: u64) -> Vec<Subject> {
        let mut table = self.lock();
        let over = table.expire(now, EXPIRED);
        // With the guard: whoever is locked again is in the store again.
        for who in &over {
            self.store.remove(Table::Locks, who.to_string());
        }
        self.over(&over);
        drop(table);
        over.into_iter().map(Subject::Lock).collect()
    }

    /// Removes all locks that are there now; says how many there were, and what another process is to be told that has
    /// the table. Whoever else needs the table has it in between.
    pub(super) async fn remove_all(&self) -> (usize, Vec<LockChange>) {
        let (mut count, mut all_changes) = (0_usize, Vec::new());
        let mut behind = Bound::Unbounded;
        loop {
            let (last, changes) = self.change_some(|table| {
                let some: Vec<Who> =
                    table.behind(behind.as_ref()).take(EXPIRED).map(|lock| lock.who.clone()).collect();
                for who in &some {
                    drop(table.remove(who));
                }
                count = count.saturating_add(some.len());
                let last = some.last().cloned();
                let changed = some.into_iter().map(Subject::Lock).collect();
                (last, Changed { changed, heard: Vec::new(), rows: Rows::Later })
            });
            all_changes.extend(changes);
            let Some(last) = last else { break };
            behind = Bound::Excluded(last);
            sleep(TURN).await;
        }
        self.keep_rest();
        (count, all_changes)
    }

    /// Makes the rows of locks the same as those that are left.
    fn keep_rest(&self) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.lock();
        if recent.note(&[], 0, clock::now()) {
            self.store.clear(Table::Locks);
            let rest: Vec<Subject> = table.all().map(|lock| Subject::Lock(lock.who.clone())).collect();
            self.keep_as_in(&table, &rest);
        }
    }
}
