//! The locks of other gateways with the same Redis, and what they are told of these.
//!
//! A lock that one gateway sets, removes or renews is the same in all of them a moment later: in the
//! table, in the kernel and in the store of each, so that each goes on with all of them without Redis.
//! Of two changes the later one counts; what was removed is kept in mind until others have heard of it.
//! A lock that is over ends everywhere by itself. No flow waits for any of this.

mod row;
#[cfg(test)]
mod tests;
mod versions;

use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::timeout;

use super::recent::Subject;
use super::{Locks, seconds};
use crate::clock;
use crate::config::file;
use crate::policy::lock::{LockTable, Who};
use crate::store::{Health, Progress, Replica, SharedRow, Store};

pub(super) use versions::Sharing;

use row::Content;
use versions::Heard;

/// How long a lock that is over stays in Redis, for gateways whose clocks differ: seconds.
const SPARE: u64 = 60 * 60;
/// How long it is known in Redis that a lock was removed: seconds. A gateway that was away for longer brings
/// such a lock back.
const GONE: u64 = 30 * 24 * 60 * 60;
/// How long an operator waits for Redis.
const PATIENCE: Duration = Duration::from_secs(2);
/// Changes of others after which the store is waited for, which takes no more than so many at once.
const TOGETHER: usize = 10_000;
/// How locks are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharingView {
    /// Why they are not at the moment.
    pub lost: Option<String>,
    /// Rows of others that make no sense, each time they were read.
    pub odd: u64,
    /// Locks and exemptions for which there was no room, there or here.
    pub full: u64,
}

impl Locks {
    fn sharing(&self) -> MutexGuard<'_, Sharing> {
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shares locks and exemptions with all gateways that use the same `server`. Blocks until those of others
    /// are known, but not for long; `progress` tells how it goes on.
    pub fn share(self: &Arc<Self>, server: file::Redis, progress: Progress) {
        self.sharing().on = true;
        let owner: Weak<Self> = Arc::downgrade(self);
        if self.shared.set(Store::share(server, owner, progress)).is_err() {
            tracing::debug!("locks are shared already");
        }
    }

    /// How locks are shared; `None`: they are this gateway's own.
    #[must_use]
    pub fn shared(&self) -> Option<SharingView> {
        let lost = match self.shared.get()?.health() {
            Health::Kept => None,
            Health::MemoryOnly { reason } => Some(reason),
        };
        let sharing = self.sharing();
        Some(SharingView { lost, odd: sharing.odd, full: sharing.full })
    }

    /// Waits until others can know what was changed here, but not for long.
    pub async fn told_others(&self) {
        if let Some(shared) = self.shared.get()
            && timeout(PATIENCE, shared.flush()).await.is_err()
        {
            tracing::debug!("other gateways learn of a change later");
        }
    }

    /// Other gateways are to know that these were changed here; what became of them stands in `table`.
    pub(super) fn stamp(&self, table: &mut LockTable, subjects: &[Subject]) {
        let mut sharing = self.sharing();
        if !sharing.on {
            return;
        }
        for subject in subjects {
            sharing.stamp(table, subject, &self.store);
        }
        drop(sharing);
        if let Some(shared) = self.shared.get() {
            shared.touch();
        }
    }

    /// Others may not know these as they are, and may have changed them since.
    pub(super) fn retell(&self, subjects: Vec<Subject>) {
        let mut sharing = self.sharing();
        if !sharing.on || subjects.is_empty() {
            return;
        }
        sharing.untold.extend(subjects);
        sharing.again = true;
        drop(sharing);
        if let Some(shared) = self.shared.get() {
            shared.touch();
        }
    }

    /// A lock that is over is so everywhere.
    pub(super) fn over(&self, over: &[Who]) {
        let mut sharing = self.sharing();
        if !sharing.untold.is_empty() || !sharing.unseen.is_empty() {
            for who in over {
                let subject = Subject::Lock(who.clone());
                sharing.untold.remove(&subject);
                sharing.unseen.remove(&subject);
            }
        }
    }

    /// When this network was exempted, as the store keeps it.
    pub(super) fn exempted_at(&self, net: IpNet) -> Option<u64> {
        self.sharing().exempt.get(&net).copied()
    }

    /// Takes in what the store has kept: when networks were exempted, and what was removed while others could
    /// not be told.
    pub(super) fn recall(&self, exempted: Vec<(IpNet, u64)>, removed: Vec<(String, u64)>) {
        let mut sharing = self.sharing();
        sharing.exempt.extend(exempted);
        for (name, version) in removed {
            if let Some(subject) = Subject::read(&name) {
                sharing.buried.insert(subject.clone(), version);
                sharing.untold.insert(subject);
            }
        }
        // What the store has brought late, others may not know.
        sharing.again = true;
    }

    /// What others are told of `subject`.
    fn row(table: &LockTable, sharing: &Sharing, subject: &Subject) -> Option<SharedRow> {
        let name = subject.name();
        let version = sharing.version(table, subject)?;
        let (end, value) = match subject {
            Subject::Lock(who) => {
                let lock = table.get(who);
                let end = lock.and_then(|lock| lock.until).map(|until| until.saturating_add(SPARE));
                (end, lock.and_then(|lock| serde_json::to_string(lock).ok()))
            }
            Subject::Exempt(net) => (None, table.exempted().contains(net).then(|| "true".to_owned())),
        };
        let gone = || (version / 1000).saturating_add(GONE);
        let end = if value.is_none() { Some(gone()) } else { end };
        Some(SharedRow { name, version, end, value })
    }

    /// Counts rows that cannot be used.
    fn complain(&self, odd: u64, full: u64) {
        let mut sharing = self.sharing();
        if sharing.complain(odd, full) {
            tracing::warn!(
                odd = sharing.odd,
                full = sharing.full,
                "rows in Redis make no sense (odd), or there are too many (full); all others hold; gateways of other \
                 releases, other programs and wrong clocks leave such rows"
            );
        }
    }
}

impl Replica for Locks {
    fn untold(&self, most: usize) -> Vec<SharedRow> {
        let table = self.lock();
        let mut sharing = self.sharing();
        let some: Vec<Subject> = sharing.untold.iter().take(most).cloned().collect();
        let row = |subject| match Self::row(&table, &sharing, subject) {
            Some(row) => Ok(row),
            // It is over, or was never there.
            None => Err(subject.clone()),
        };
        let (rows, nothing): (Vec<_>, Vec<_>) = some.iter().map(row).partition(Result::is_ok);
        for subject in nothing.into_iter().filter_map(Result::err) {
            sharing.untold.remove(&subject);
        }
        rows.into_iter().filter_map(Result::ok).collect()
    }

    fn told(&self, rows: &[SharedRow], full: u64) {
        let table = self.lock();
        let mut sharing = self.sharing();
        for row in rows {
            if let Some(subject) = Subject::read(&row.name)
                && sharing.version(&table, &subject).is_none_or(|version| version == row.version)
            {
                sharing.untold.remove(&subject);
                sharing.exhume(&subject, &self.store);
            }
        }
        drop((sharing, table));
        self.complain(0, full);
    }

    fn begin(&self) {
        let (mut subjects, mut behind) = (Vec::new(), Bound::Unbounded);
        // Others need the table, too. What is changed behind this back has a version and is told anyway.
        loop {
            let table = self.lock();
            let before = subjects.len();
            subjects.extend(table.behind(behind.as_ref()).take(TOGETHER).map(|lock| lock.who.clone()));
            drop(table);
            let last = subjects.get(before..).and_then(<[Who]>::last);
            let Some(last) = last else { break };
            behind = Bound::Excluded(last.clone());
        }
        let exempt: Vec<_> = self.lock().exempted().iter().copied().map(Subject::Exempt).collect();
        let unseen = subjects.into_iter().map(Subject::Lock).chain(exempt).collect();
        let mut sharing = self.sharing();
        sharing.unseen = unseen;
        sharing.found = 0;
    }

    fn merge(&self, rows: Vec<SharedRow>, odd: u64) {
        let all = rows.len();
        let rows: Vec<_> = rows.into_iter().filter_map(Content::read).collect();
        let odd = odd.saturating_add(count(all.saturating_sub(rows.len())));
        let (mut subjects, mut full) = (Vec::new(), 0_u64);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.lock();
        let mut sharing = self.sharing();
        for (subject, version, content) in rows {
            match sharing.hear(&mut table, (&subject, version, content), &self.store) {
                Heard::Changed => subjects.push(subject),
                Heard::Full => full = full.saturating_add(1),
                Heard::Known => {}
            }
        }
        sharing.found = sharing.found.saturating_add(subjects.len());
        sharing.taken = sharing.taken.saturating_add(subjects.len());
        let wait = sharing.taken >= TOGETHER;
        if wait {
            sharing.taken = 0;
        }
        drop((sharing, table));
        // With the guard: nothing is written once another process has the table.
        if recent.note(&subjects, seconds(clock::wall()), clock::now()) {
            self.keep(&subjects);
        }
        drop(recent);
        tracing::debug!(changes = subjects.len(), "locks of other gateways");
        self.complain(odd, full);
        // What the kernel is told at the start has these.
        if self.enforcing.load(Ordering::Acquire) {
            self.tell_here(&subjects);
        }
        if wait {
            self.store.flush_here();
        }
    }

    fn complete(&self) {
        let mut sharing = self.sharing();
        let mut unseen = std::mem::take(&mut sharing.unseen);
        let (ours, others) = (unseen.len(), sharing.found);
        // Most of them are in one of the two.
        if sharing.untold.len() < unseen.len() {
            std::mem::swap(&mut sharing.untold, &mut unseen);
        }
        sharing.untold.extend(unseen);
        drop(sharing);
        tracing::info!(ours, others, "locks are the same as those of other gateways");
    }

    fn kept_at_most(&self) -> Duration {
        Duration::from_secs(GONE)
    }

    fn again(&self) -> bool {
        std::mem::take(&mut self.sharing().again)
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
