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
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock;
use crate::config::file::LockAction;
use crate::ipc::lock::{BATCH, Enforced, Hits, LockOrder};
use crate::policy::lock::{Lock, LockTable, Refused};

/// The file's name in the spool folder.
pub const FILE: &str = "locks.json";

/// How often what is over is removed, and what has changed is written.
const TICK: Duration = Duration::from_secs(1);
/// Locks that are removed in one tick.
const EXPIRED: usize = 2_000;
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
}

/// The locks of this gateway.
#[derive(Debug)]
pub struct Locks {
    table: Mutex<LockTable>,
    requests: mpsc::Sender<Request>,
    file: Option<PathBuf>,
    changed: AtomicBool,
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
        Self { table: Mutex::new(table), requests, file, changed: AtomicBool::new(false) }
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
        let now = seconds(clock::wall());
        let net = net.trunc();
        let until = span.map(|span| now.saturating_add(span.as_secs().max(1)));
        let lock = Lock { net, action, cause, since: now, until };
        self.lock().add(lock.clone(), now)?;
        self.changed.store(true, Ordering::Release);
        self.order(LockOrder::Set { locks: vec![enforced(&lock, now)] }).await;
        if cut {
            self.order(LockOrder::Cut { net, action }).await;
        }
        tracing::info!(network = %net, action = action.name(), cause = lock.cause, until, "locked");
        Ok(lock)
    }

    /// Removes the lock of exactly this network; says whether there was one.
    pub async fn remove(&self, net: IpNet) -> bool {
        let Some(lock) = self.lock().remove(net) else { return false };
        self.changed.store(true, Ordering::Release);
        self.order(LockOrder::Remove { nets: vec![lock.net] }).await;
        tracing::info!(network = %lock.net, "unlocked");
        true
    }

    /// Removes all locks; says how many there were.
    pub async fn clear(&self) -> usize {
        let nets: Vec<IpNet> = {
            let mut table = self.lock();
            let nets: Vec<_> = table.all().map(|lock| lock.net).collect();
            for net in &nets {
                table.remove(*net);
            }
            nets
        };
        self.changed.store(true, Ordering::Release);
        for order in self.snapshot() {
            self.order(order).await;
        }
        tracing::info!(locks = nets.len(), "all locks removed");
        nets.len()
    }

    /// Waits until the datapath process has done what it was told so far, but not for ever: an operator
    /// who reads that a lock is set or removed may rely on it.
    pub async fn settled(&self) {
        // Orders and questions are one queue.
        self.hits(Vec::new()).await;
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

    #[test]
    fn a_file_that_is_no_list_of_locks_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        std::fs::write(&file, b"[{\"net\":\"no\"}]").unwrap();
        let (requests, _) = mpsc::channel(1);
        assert_eq!(Locks::open(Some(file), requests).snapshot().len(), 2);
    }
}
