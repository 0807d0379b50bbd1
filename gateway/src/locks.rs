//! The locks of this gateway: the table, its file, and the way to the kernel.
//!
//! Owns when the table changes hands: what is set is enforced by the datapath process at once and
//! written to the file soon, so that it outlives both processes. Decides nothing: that is
//! [`crate::policy::lock`].

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock;
use crate::config::file::LockAction;
use crate::ipc::lock::{BATCH, CHANGES, Enforced, Hits, LockChange, LockOrder};
use crate::policy::lock::{Lock, LockTable, Refused};

mod recent;

use recent::Recent;

/// The file's name in the spool folder.
pub const FILE: &str = "locks.json";

/// How often what is over is removed, and what has changed is written.
const TICK: Duration = Duration::from_secs(1);
/// Locks that are removed in one tick.
const EXPIRED: usize = 2_000;
/// How long an older process may take to tell of its last changes.
const REST: Duration = Duration::from_secs(5);
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
        /// At most [`CHANGES`].
        changes: Vec<LockChange>,
        /// Whether these are the last of those that it may not have found in the file.
        whole: bool,
    },
}

/// The locks of this gateway.
#[derive(Debug)]
pub struct Locks {
    table: Mutex<LockTable>,
    requests: mpsc::Sender<Request>,
    file: Option<PathBuf>,
    changed: AtomicBool,
    recent: Mutex<Recent>,
    /// Whether all is known that another process has changed.
    whole: watch::Sender<bool>,
}

impl Locks {
    /// Reads what was written to `file`, if there is one; `requests` lead to the datapath process.
    #[must_use]
    pub fn open(file: Option<PathBuf>, requests: mpsc::Sender<Request>) -> Self {
        let now = seconds(clock::wall());
        let mut table = LockTable::default();
        for lock in file.as_deref().map(read).unwrap_or_default() {
            if let Err(refused) = table.add(lock, now) {
                tracing::debug!(%refused, "a lock of the file");
            }
        }
        let (changed, recent) = (AtomicBool::new(false), Mutex::default());
        let whole = watch::Sender::new(true);
        Self { table: Mutex::new(table), requests, file, changed, recent, whole }
    }

    /// Another process has changes that are not in the file yet, and tells of them soon.
    pub fn await_rest(&mut self) {
        self.whole.send_replace(false);
    }

    /// Waits until all is known that another process has changed. One that has died tells nothing.
    async fn whole(&self) {
        let mut seen = self.whole.subscribe();
        if timeout(REST, seen.wait_for(|whole| *whole)).await.is_err() {
            tracing::warn!("locks that were changed in the last second before the upgrade may be lost");
            self.whole.send_replace(true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LockTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on no lock touches these networks.
    pub fn set_exempt(&self, exempt: Vec<IpNet>) {
        self.lock().set_exempt(exempt);
    }

    /// Networks that no lock touches.
    #[must_use]
    pub fn exempt(&self) -> Vec<IpNet> {
        self.lock().exempt().to_vec()
    }

    /// The lock that holds `client`.
    #[must_use]
    pub fn find(&self, client: IpAddr) -> Option<Lock> {
        self.lock().find(client, seconds(clock::wall())).cloned()
    }

    /// How many there are of each action.
    #[must_use]
    pub fn by_action(&self) -> [(LockAction, u64); 3] {
        let table = self.lock();
        [LockAction::Drop, LockAction::Reset, LockAction::Reject].map(|action| {
            let count = table.all().filter(|lock| lock.action == action).count();
            (action, u64::try_from(count).unwrap_or(u64::MAX))
        })
    }

    /// The first `most` locks by network, what was counted of each, and how many there are.
    pub async fn list(&self, most: usize) -> (Vec<(Lock, Hits)>, usize) {
        self.whole().await;
        let (locks, all) = {
            let table = self.lock();
            (table.all().take(most).cloned().collect::<Vec<_>>(), table.len())
        };
        let mut hits = Vec::with_capacity(locks.len());
        for some in locks.chunks(BATCH) {
            let mut counted = self.hits(some.iter().map(|lock| lock.net).collect()).await;
            counted.resize(some.len(), Hits::default());
            hits.extend(counted);
        }
        (locks.into_iter().zip(hits).collect(), all)
    }

    async fn hits(&self, nets: Vec<IpNet>) -> Vec<Hits> {
        let (answer, counted) = oneshot::channel();
        if self.requests.send(Request::Hits { nets, answer }).await.is_err() {
            return Vec::new();
        }
        timeout(COUNTED, counted).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Sets a lock for `span` (`None`: for ever), in place of one of the same network; with `cut`,
    /// flows that the kernel carries end at once.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why not.
    pub async fn add(
        &self,
        net: IpNet,
        action: LockAction,
        span: Option<Duration>,
        cause: String,
        cut: bool,
    ) -> Result<Lock, Refused> {
        self.whole().await;
        let now = seconds(clock::wall());
        let net = net.trunc();
        let until = span.map(|span| now.saturating_add(span.as_secs().max(1)));
        let lock = Lock { net, action, cause, since: now, until };
        self.lock().add(lock.clone(), now)?;
        self.order(LockOrder::Set { locks: vec![enforced(&lock, now)] }).await;
        self.note(&[net]).await;
        if cut {
            self.order(LockOrder::Cut { net, action }).await;
        }
        tracing::info!(network = %net, action = action.name(), cause = lock.cause, until, "locked");
        Ok(lock)
    }

    /// Removes the lock of exactly this network; says whether there was one.
    pub async fn remove(&self, net: IpNet) -> bool {
        self.whole().await;
        let Some(lock) = self.lock().remove(net) else { return false };
        self.order(LockOrder::Remove { nets: vec![lock.net] }).await;
        self.note(&[lock.net]).await;
        tracing::info!(network = %lock.net, "unlocked");
        true
    }

    /// Removes all locks; says how many there were.
    pub async fn clear(&self) -> usize {
        self.whole().await;
        let nets: Vec<IpNet> = {
            let mut table = self.lock();
            let nets: Vec<_> = table.all().map(|lock| lock.net).collect();
            for net in &nets {
                table.remove(*net);
            }
            nets
        };
        for order in self.snapshot() {
            self.order(order).await;
        }
        self.note(&nets).await;
        tracing::info!(locks = nets.len(), "all locks removed");
        nets.len()
    }

    /// Waits until the datapath process has done what it was told so far, but not for ever: an operator
    /// who reads that a lock is set or removed may rely on it.
    pub async fn settled(&self) {
        // Orders and questions are one queue.
        self.hits(Vec::new()).await;
    }

    /// The locks of these networks have changed.
    async fn note(&self, nets: &[IpNet]) {
        self.changed.store(true, Ordering::Release);
        let at = seconds(clock::wall());
        let kept = self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(nets, at, clock::now());
        if !kept {
            for changes in self.changes(nets.iter().map(|net| (*net, at))).chunks(CHANGES) {
                self.pass_on(changes, false).await;
            }
        }
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

    fn changes(&self, changed: impl Iterator<Item = (IpNet, u64)>) -> Vec<LockChange> {
        let table = self.lock();
        changed.map(|(net, at)| LockChange { net, at, lock: table.get(net).cloned() }).collect()
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
        let nets: Vec<IpNet> = changes.iter().map(|change| change.net).collect();
        let mut table = self.lock();
        for LockChange { net, at, lock } in changes {
            // What was changed here since then holds.
            if table.get(net).is_some_and(|own| own.since > at) {
                continue;
            }
            match lock {
                Some(lock) if table.add(lock.clone(), now).is_ok() => set.push(enforced(&lock, now)),
                Some(_) => {}
                None => removed.extend(table.remove(net).map(|lock| lock.net)),
            }
        }
        drop(table);
        self.changed.store(true, Ordering::Release);
        // They are not in the file yet, and this process may have a successor soon.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(&nets, now, clock::now());
        if whole {
            self.whole.send_replace(true);
        }
        vec![LockOrder::Set { locks: set }, LockOrder::Remove { nets: removed }]
    }

    async fn order(&self, order: LockOrder) {
        if self.requests.send(Request::Order(order)).await.is_err() {
            tracing::debug!("the gateway is stopping");
        }
    }

    /// The orders that make the kernel's locks the same as these.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LockOrder> {
        let now = seconds(clock::wall());
        let locks: Vec<Enforced> =
            self.lock().all().filter(|lock| lock.holds(now)).map(|lock| enforced(lock, now)).collect();
        let set = locks.chunks(BATCH).map(|some| LockOrder::Set { locks: some.to_vec() });
        std::iter::once(LockOrder::Begin).chain(set).chain([LockOrder::Complete]).collect()
    }

    /// Removes what is over and keeps the file up to date, until it is dropped.
    pub async fn run(&self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let over = self.lock().expire(seconds(clock::wall()), EXPIRED);
            for nets in over.chunks(BATCH) {
                self.order(LockOrder::Remove { nets: nets.to_vec() }).await;
            }
            if !over.is_empty() || self.changed.load(Ordering::Acquire) {
                self.save().await;
            }
        }
    }

    /// Writes what has changed since the file was last written.
    pub async fn close(&self) {
        if self.changed.load(Ordering::Acquire) {
            self.save().await;
        }
    }

    /// Writes the file.
    async fn save(&self) {
        self.changed.store(false, Ordering::Release);
        let Some(file) = self.file.clone() else { return };
        let locks: Vec<Lock> = self.lock().all().cloned().collect();
        let written = tokio::task::spawn_blocking(move || write(&file, &locks)).await;
        if let Ok(Err(error)) = written {
            // The next tick tries again; what is locked is locked all the same.
            self.changed.store(true, Ordering::Release);
            tracing::debug!(%error, "cannot write the file of locks");
        }
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn enforced(lock: &Lock, now: u64) -> Enforced {
    let left = lock.until.map(|until| Duration::from_secs(until.saturating_sub(now)));
    Enforced { net: lock.net, action: lock.action, left }
}

/// A file that cannot be read is told of, and no reason not to start.
fn read(file: &Path) -> Vec<Lock> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "locks cannot be read; none are in force");
            return Vec::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(file = %file.display(), %error, "locks cannot be understood; none are in force");
        Vec::new()
    })
}

/// Replaces the file in one step: whoever reads it finds all locks or those of before.
fn write(file: &Path, locks: &[Lock]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().prefix(".locks-").tempfile_in(folder)?;
    serde_json::to_writer(io::BufWriter::new(&mut new), locks)?;
    new.flush()?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn locks_are_told_to_the_kernel_and_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let (requests, mut told) = mpsc::channel(16);
        let locks = Locks::open(Some(file.clone()), requests.clone());
        let net: IpNet = "10.1.2.3/8".parse().unwrap();
        locks.add(net, LockAction::Reject, None, "spam".to_owned(), true).await.unwrap();
        let hour = Some(Duration::from_secs(3600));
        locks
            .add("2001:db8::/32".parse().unwrap(), LockAction::Drop, hour, String::new(), false)
            .await
            .unwrap();
        let Some(Request::Order(LockOrder::Set { locks: set })) = told.recv().await else {
            unreachable!("a lock is set")
        };
        assert_eq!(set[0].net.to_string(), "10.0.0.0/8");
        assert!(matches!(told.recv().await, Some(Request::Order(LockOrder::Cut { .. }))));
        locks.save().await;

        let again = Locks::open(Some(file), requests);
        let found = again.find("10.9.9.9".parse().unwrap()).unwrap();
        assert_eq!((found.action, found.until, found.cause.as_str()), (LockAction::Reject, None, "spam"));
        assert_eq!(again.snapshot().len(), 3);
        assert_eq!(again.clear().await, 2);
        assert!(again.find("10.9.9.9".parse().unwrap()).is_none());
    }

    /// Locks without a file, whose requests are not carried out.
    fn idle() -> (Locks, mpsc::Receiver<Request>) {
        let (requests, told) = mpsc::channel(64);
        (Locks::open(None, requests), told)
    }

    /// All changes that a process has passed on.
    fn passed_on(told: &mut mpsc::Receiver<Request>) -> Vec<LockChange> {
        let requests = std::iter::from_fn(|| told.try_recv().ok());
        let changes = requests.filter_map(|request| match request {
            Request::Bequeath { changes, .. } => Some(changes),
            Request::Order(_) | Request::Hits { .. } => None,
        });
        changes.flatten().collect()
    }

    #[tokio::test]
    async fn a_process_that_takes_over_learns_what_it_did_not_find_in_the_file() {
        let ((old, mut told), (mut new, _requests)) = (idle(), idle());
        let [first, second, third]: [IpNet; 3] =
            ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"].map(|net| net.parse().unwrap());
        // The new one has found the first in the file, and not that it is removed.
        for locks in [&old, &new] {
            locks.add(first, LockAction::Drop, None, "spam".to_owned(), false).await.unwrap();
        }
        new.await_rest();
        assert!(timeout(Duration::from_millis(1), new.remove(second)).await.is_err(), "not known yet");
        old.remove(first).await;
        old.add(second, LockAction::Reset, None, "virus".to_owned(), false).await.unwrap();
        assert!(passed_on(&mut told).is_empty(), "nobody has taken over");
        old.bequeath().await;
        let orders = new.inherit(passed_on(&mut told), true);
        let LockOrder::Set { locks } = &orders[0] else { unreachable!("a lock is set") };
        assert_eq!((locks.len(), locks[0].net), (1, second));
        assert_eq!(orders[1], LockOrder::Remove { nets: vec![first] });
        // What a session finds that is still open in the old one.
        old.add(third, LockAction::Reject, None, "virus".to_owned(), false).await.unwrap();
        assert_eq!(new.inherit(passed_on(&mut told), true).len(), 2);
        let held: Vec<Lock> = new.lock().all().cloned().collect();
        assert_eq!(held.iter().map(|lock| lock.net).collect::<Vec<_>>(), [second, third]);
        assert!(held.iter().all(|lock| lock.cause == "virus"));
    }

    #[tokio::test]
    async fn what_was_changed_since_by_the_process_that_took_over_holds() {
        let (new, _requests) = idle();
        let net: IpNet = "10.0.0.0/8".parse().unwrap();
        new.add(net, LockAction::Drop, None, String::new(), false).await.unwrap();
        let orders = new.inherit(vec![LockChange { net, at: 1, lock: None }], true);
        assert_eq!(orders[1], LockOrder::Remove { nets: Vec::new() });
        assert!(new.find("10.1.1.1".parse().unwrap()).is_some());
    }

    #[test]
    fn a_file_that_is_no_list_of_locks_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        std::fs::write(&file, b"[{\"net\":\"no\"}]").unwrap();
        let (requests, _) = mpsc::channel(1);
        assert_eq!(Locks::open(Some(file), requests).snapshot().len(), 2);
    }
}
