//! What was changed when, here and elsewhere, and of what others are still to be told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::row::Content;
use crate::clock;
use crate::locks::recent::Subject;
use crate::locks::seconds;
use crate::policy::lock::{Lock, LockTable, MOST, Refused, Who};
use crate::store::{Store, Table};

/// Removals that the store keeps at most, until others have heard of them.
const KEPT: usize = 100_000;
/// Least time between two lines about rows that cannot be used.
const PACE: Duration = Duration::from_secs(600);

/// What is known of other gateways.
#[derive(Debug, Default)]
pub(in crate::locks) struct Sharing {
    pub(super) on: bool,
    /// The last version that was heard of or given.
    last: u64,
    /// What others may not know.
    pub(super) untold: BTreeSet<Subject>,
    /// What was removed, and when, where others may not know.
    pub(super) buried: BTreeMap<Subject, u64>,
    /// When operators have exempted networks.
    pub(super) exempt: BTreeMap<IpNet, u64>,
    /// What the others have not shown to know, while all of theirs is read.
    pub(super) unseen: BTreeSet<Subject>,
    /// What was taken over since the store was waited for.
    pub(super) taken: usize,
    /// What was taken over while all was read.
    pub(super) found: usize,
    pub(super) again: bool,
    pub(super) odd: u64,
    pub(super) full: u64,
    /// When a line was written about them.
    complained: Option<Instant>,
}

/// What came of a row.
pub(super) enum Heard {
    Known,
    Changed,
    Full,
}

impl Sharing {
    /// When `subject` was changed last.
    pub(super) fn version(&self, table: &LockTable, subject: &Subject) -> Option<u64> {
        let version = match subject {
            Subject::Lock(who) => table.get(who).map(Lock::version),
            // Some were exempted before gateways shared that.
            Subject::Exempt(net) => {
                table.exempted().contains(net).then(|| self.exempt.get(net).copied().unwrap_or(1))
            }
        };
        version.or_else(|| self.buried.get(subject).copied())
    }

    /// A version later than all that are known, though clocks differ.
    fn next(&mut self, known: Option<u64>) -> u64 {
        let later = self.last.max(known.unwrap_or(0)).saturating_add(1);
        self.last = clock::wall_millis().max(later);
        self.last
    }

    /// Notes that `subject` was changed here.
    pub(super) fn stamp(&mut self, table: &mut LockTable, subject: &Subject, store: &Store) {
        let version = self.next(self.version(table, subject));
        let is_there = match subject {
            Subject::Lock(who) => {
                table.stamp(who, version);
                table.get(who).is_some()
            }
            Subject::Exempt(net) => {
                let exempt = table.exempted().contains(net);
                let _before =
                    if exempt { self.exempt.insert(*net, version) } else { self.exempt.remove(net) };
                exempt
            }
        };
        if is_there {
            self.exhume(subject, store);
        } else {
            self.bury(subject, version, store);
        }
        self.untold.insert(subject.clone());
    }

    fn bury(&mut self, subject: &Subject, version: u64, store: &Store) {
        if self.buried.len() >= MOST {
            self.buried.pop_first();
        }
        if self.buried.len() < KEPT {
            store.put(Table::LockRemovals, subject.name(), &version);
        }
        self.buried.insert(subject.clone(), version);
    }

    pub(super) fn exhume(&mut self, subject: &Subject, store: &Store) {
        if self.buried.remove(subject).is_some() {
            store.remove(Table::LockRemovals, subject.name());
        }
    }

    /// Takes over what another gateway has changed, if that was later than what is known.
    pub(super) fn hear(
        &mut self,
        table: &mut LockTable,
        (subject, version, content): (&Subject, u64, Content),
        store: &Store,
    ) -> Heard {
        self.unseen.remove(subject);
        self.last = self.last.max(version);
        let own = self.version(table, subject);
        if own.is_some_and(|own| own > version) {
            self.untold.insert(subject.clone());
            return Heard::Known;
        }
        self.untold.remove(subject);
        if own.is_none_or(|own| own == version) && content.is_in(table, subject) {
            return Heard::Known;
        }
        self.exhume(subject, store);
        match (subject, content) {
            (Subject::Lock(who), Content::Lock(Some(lock))) => adopt(table, who, *lock),
            (Subject::Lock(who), _) => changed(table.remove(who).is_some()),
            (Subject::Exempt(net), Content::Exempt(true)) => match table.exempt(*net) {
                Ok(_) => {
                    self.exempt.insert(*net, version);
                    Heard::Changed
                }
                Err(_) => Heard::Full,
            },
            (Subject::Exempt(net), _) => {
                self.exempt.remove(net);
                changed(table.unexempt(*net))
            }
        }
    }

    /// Counts rows that cannot be used; says whether that is to be told.
    pub(super) fn complain(&mut self, odd: u64, full: u64) -> bool {
        self.odd = self.odd.saturating_add(odd);
        self.full = self.full.saturating_add(full);
        let now = clock::now();
        let due = self.complained.is_none_or(|last| now.saturating_duration_since(last) >= PACE);
        let told = due && (odd > 0 || full > 0);
        if told {
            self.complained = Some(now);
        }
        told
    }
}

/// What this gateway has counted of a lock stays.
fn adopt(table: &mut LockTable, who: &Who, lock: Lock) -> Heard {
    let refused = table.get(who).map_or(0, |own| own.refused);
    match table.adopt(Lock { refused, ..lock }, seconds(clock::wall())) {
        Ok(()) => Heard::Changed,
        Err(Refused::Full) => Heard::Full,
        Err(Refused::Over | Refused::Exempt(_) | Refused::TooManyExempt) => {
            changed(table.remove(who).is_some())
        }
    }
}

const fn changed(changed: bool) -> Heard {
    if changed { Heard::Changed } else { Heard::Known }
}
