//! What outlives the process: what this gateway remembers of clients, in an SQLite file, and what several
//! gateways count together or have each, in Redis.
//!
//! Owners keep their tables in memory, read everything once at the start, and say what has changed;
//! one thread writes it, many changes in one transaction, so that nobody who serves mail waits for
//! a disk or another server. Two processes may have the file open at once, as during an upgrade: amounts are added up,
//! and what both have counted comes back as [`News`]. A file that cannot be used stops nothing: the
//! owners go on in memory, the changes wait, and [`Store::health`] says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::config::file;
use crate::policy::quota::{Client, Entry};

mod pending;
mod progress;
mod redis;
mod shared;
mod sqlite;
#[cfg(test)]
mod tests;
mod writer;

pub use progress::Progress;
pub use shared::{Replica, SharedRow};

use pending::Queue;
use writer::{Backend, Writer};

/// The file's name in its folder.
pub const FILE: &str = "state.db";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is not the gateway's own.
    #[error(transparent)]
    Folder(#[from] crate::folder::Error),
    /// A later release has written it.
    #[error(
        "{} was written by a newer gateway (schema {found}; this one knows {}): run that one again, \
         or move the file away", path.display(), sqlite::schema::VERSION
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// Another program's file.
    #[error("{} is a database of another program; name another folder in `state-directory`", .0.display())]
    Foreign(PathBuf),
    /// What is in it makes no sense.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// It cannot be read or written now.
    #[error("{}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// Redis cannot be used now.
    #[error("{address}: {source}")]
    Redis {
        /// Where it is.
        address: String,
        /// What it said, or the system.
        #[source]
        source: ::redis::RedisError,
    },
}

/// Whether changes reach the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// They do.
    #[default]
    Kept,
    /// They do not: what is known is in memory only, and lost with the process.
    MemoryOnly {
        /// Why.
        reason: String,
    },
}

/// A table of rows with a key each, whose later values take the place of earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Limits that clients have of their own, by client.
    QuotaLimits,
    /// Locks, by who is held off.
    Locks,
    /// Networks that operators have exempted from locks.
    LockExemptions,
    /// Locks and exemptions that were removed, of which other gateways are still to be told.
    LockRemovals,
}

impl Table {
    /// All of them.
    const ALL: [Self; 4] = [Self::QuotaLimits, Self::Locks, Self::LockExemptions, Self::LockRemovals];

    /// Its name in the file.
    const fn name(self) -> &'static str {
        match self {
            Self::QuotaLimits => "quota_limits",
            Self::Locks => "locks",
            Self::LockExemptions => "lock_exemptions",
            Self::LockRemovals => "lock_removals",
        }
    }
}

/// What is in the file.
#[derive(Debug, Default)]
pub struct Contents {
    rows: BTreeMap<Table, Vec<(String, String)>>,
    /// What clients have used.
    pub usage: Vec<(Entry, u64)>,
    /// How far owners have come with it.
    pub progress: Progress,
}

impl Contents {
    /// The rows of `table`. Those that make no sense are told of and left out; in the file they stay.
    #[must_use]
    pub fn take<K: TryFrom<String>, T: DeserializeOwned>(&mut self, table: Table) -> Vec<(K, T)> {
        let rows = self.rows.remove(&table).unwrap_or_default();
        let (mut read, mut odd) = (Vec::with_capacity(rows.len()), 0_usize);
        for (key, value) in rows {
            self.progress.step();
            let row = K::try_from(key.clone()).ok().zip(serde_json::from_str(&value).ok());
            if row.is_none() {
                tracing::debug!(table = table.name(), key, "a row of the state store makes no sense");
                odd = odd.saturating_add(1);
            }
            read.extend(row);
        }
        if odd > 0 {
            tracing::warn!(
                file = FILE,
                table = table.name(),
                rows = odd,
                kept = read.len(),
                "rows of the state store make no sense and count for nothing; log.level: debug names them"
            );
        }
        read
    }
}

/// What owners learn from the file later on.
#[derive(Debug)]
pub enum News {
    /// It could not be read at the start, and was now.
    Contents(Contents),
    /// What was added, and what that makes together with what another process has added.
    Usage {
        /// The amounts.
        totals: Vec<Total>,
        /// The last one that [`Store::forget_usage`] was told before.
        epoch: u64,
    },
}

/// What became of an amount that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Total {
    /// Of what.
    pub entry: Entry,
    /// The amount.
    pub added: u64,
    /// What it is in all.
    pub total: u64,
}

/// The store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    queue: Arc<Writing>,
    health: Arc<Mutex<Health>>,
}

/// The way to the writer, which ends with it.
#[derive(Debug)]
struct Writing(Arc<Queue>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Store {
    /// Opens the file in `folder`, makes it where there is none, and reads it. Blocks.
    ///
    /// Where it cannot be used, the store is empty and tries again from time to time: see
    /// [`Self::health`].
    #[must_use]
    pub fn open(folder: &Path) -> (Self, Contents, mpsc::UnboundedReceiver<News>) {
        Self::open_watched(folder, Progress::default())
    }

    /// As [`Self::open`], where somebody waits who has to know that it goes on.
    #[must_use]
    pub fn open_watched(
        folder: &Path,
        progress: Progress,
    ) -> (Self, Contents, mpsc::UnboundedReceiver<News>) {
        Self::start(sqlite::Sqlite::new(folder, progress))
    }

    /// Connects to Redis, which keeps amounts only, and many gateways'. Blocks.
    ///
    /// While it cannot be used, the amounts wait: see [`Self::health`].
    #[must_use]
    pub fn connect(server: file::Redis) -> (Self, mpsc::UnboundedReceiver<News>) {
        let (store, _, news) = Self::start(redis::Amounts::new(server));
        (store, news)
    }

    /// Keeps the rows of `owner` the same as those of other gateways with the same Redis. Blocks until all
    /// are known, but not for long.
    ///
    /// While Redis cannot be used, each has its own: see [`Self::health`].
    #[must_use]
    pub fn share(server: file::Redis, owner: Weak<dyn Replica>, progress: Progress) -> Self {
        let (store, _, _) = Self::start(redis::Rows::new(server, owner, progress));
        store
    }

    fn start(backend: impl Backend) -> (Self, Contents, mpsc::UnboundedReceiver<News>) {
        let (queue, health) = (Arc::<Queue>::default(), Arc::<Mutex<Health>>::default());
        // One element for each transaction, of which there are few in a second.
        let (news, learnt) = mpsc::unbounded_channel();
        let mut writer = Writer::new(backend, Arc::clone(&queue), Arc::clone(&health), news);
        let store = Self { queue: Arc::new(Writing(queue)), health };
        let contents = writer.begin();
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || writer.run());
        if let Err(error) = thread {
            store.queue.0.close();
            set(&store.health, Health::MemoryOnly { reason: format!("no thread: {error}") });
            tracing::warn!(%error, "no thread for the state store; all is in memory only");
        }
        (store, contents, learnt)
    }

    /// Whether changes reach the file.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes that were dropped because too many waited for a file that cannot be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.0.dropped()
    }

    /// Keeps a row, in place of one with the same key.
    pub fn put(&self, table: Table, key: String, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(value) => self.queue.0.put(table, key, Some(value)),
            Err(error) => tracing::debug!(table = table.name(), key, %error, "a row cannot be kept"),
        }
    }

    /// Forgets a row.
    pub fn remove(&self, table: Table, key: String) {
        self.queue.0.put(table, key, None);
    }

    /// Forgets all rows of a table.
    pub fn clear(&self, table: Table) {
        self.queue.0.clear(table);
    }

    /// Adds to what was used; what that makes comes back as [`News::Usage`].
    pub fn add(&self, entry: Entry, amount: u64) {
        self.queue.0.add(entry, amount);
    }

    /// Forgets what `client` has used, or what all have. News of what is added from now on has this
    /// `epoch`.
    pub fn forget_usage(&self, client: Option<Client>, epoch: u64) {
        self.queue.0.forget_usage(client, epoch);
    }

    /// Its [`Replica`] has something to tell.
    pub fn touch(&self) {
        self.queue.0.touch();
    }

    /// As [`Self::flush`], on a thread that may wait.
    pub fn flush_here(&self) {
        // Without a thread there is nothing to wait for.
        self.queue.0.flush().blocking_recv().ok();
    }

    /// Waits until what was said so far is in the file, or was tried in vain.
    pub async fn flush(&self) {
        // Without a thread there is nothing to wait for.
        self.queue.0.flush().await.ok();
    }
}

fn set(health: &Mutex<Health>, new: Health) {
    *health.lock().unwrap_or_else(PoisonError::into_inner) = new;
}
