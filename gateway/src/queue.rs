//! Mail that the gateway has taken and not yet handed on: a journal in one folder.
//!
//! Owns what "on stable storage" means: when [`Queue::accept`] returns, message and envelope survive a
//! crash of the machine. Does not know when a message is due, where it goes, or what SMTP is.
//!
//! # What is on the disk
//!
//! | file | what it is |
//! | --- | --- |
//! | `GENERATION.lock` | locked (flock(2)) as long as the process lives that writes this generation's segments |
//! | `GENERATION-NUMBER.segment` | records one behind the other: `frame`; only its generation's process appends |
//! | `NAME.corrupt` | octets that were found damaged, for the operator |
//!
//! Legal states, each of which a start brings in order:
//!
//! 1. A segment without a record: made in the moment of a crash. It is removed.
//! 2. Octets at a segment's end that are no record, or a last message whose content is not what its
//!    sum says: they were being written, and nobody was told that they were taken. They are left out.
//! 3. Damage between sound records: it is kept in a `.corrupt` file, told, and what comes after it counts.
//! 4. A message twice: it was being moved out of an old segment. The later record counts, and says all
//!    that the earlier and its marks said.
//! 5. Marks about a message that is not there. They mean nothing.
//! 6. A message whose last marks are missing: what they said is done again, and a recipient gets it twice, or
//!    its sender is warned twice. Nothing is left undone.
//! 7. A message that nobody was told was taken, because it took the disk too long: it is taken back as soon as the
//!    disk answers. After a crash before that it is there, and is delivered though its sender brings it again.
//! 8. Segments of a generation whose lock is held: they belong to a process that is about to leave,
//!    as during an upgrade. They are taken over when all other locks are free and all of them can be read. A process whose file system was taken
//!    away to be repaired has no lock when it is back, and writes no more.
//!
//! Segments are removed from the oldest on, never one that has an older one beside it: what is said of
//! a message is never removed before the message. Where an old message keeps many segments, it is
//! written again at the end.

mod claim;
mod compaction;
mod content;
mod debt;
mod entry;
mod envelope;
mod frame;
mod index;
mod journal;
mod large;
mod lost;
mod record;
mod recovery;
pub mod schedule;
mod segment;
mod storage;
mod takeover;
#[cfg(test)]
pub(crate) mod tests;
mod uses;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use crate::config::units::ByteCount;
use crate::folder::{self, Folder, Space};

pub use crate::smtp::envelope::{Notify as NotifyOn, Recipient, Ret};
pub use claim::Claim;
pub use content::{Content, ContentReader, ReadError};
pub use entry::Summary;
pub use envelope::{BadQueueId, Body, Envelope, QueueId, Submitter, Target};
pub use index::Counts;
pub use journal::WriteError;
pub use large::LargeMessage;
pub use record::Standing;

use content::Lent;
use entry::Entry;
use frame::Reader;
use index::Index;
use journal::Journal;
use record::Record;

use storage::Storage;
use takeover::own_generation;

/// How soon writing is tried again after it failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the queue cannot be opened: for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be used.
    #[error("queue {0}")]
    Folder(#[from] folder::Error),
    /// The folder's files cannot be used.
    #[error("queue folder: {0}")]
    Io(#[from] io::Error),
}

/// A message as it is in the queue.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its envelope.
    pub envelope: Envelope,
    /// Places of the recipients for whom all is done.
    pub settled: Vec<u32>,
    /// Whether its sender was told that it takes long.
    pub warned: bool,
    /// Its content.
    pub content: Content,
}

/// The queue of this gateway; cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: Folder,
    storage: Arc<dyn Storage>,
    space: Space,
    journal: Journal,
    index: Mutex<Index>,
    /// The locks of this generation and of those whose segments were taken over.
    locks: Mutex<BTreeMap<u32, File>>,
    lent: Lent,
    arrived: Notify,
}

impl Queue {
    /// Opens the queue in the folder at `path`, which is made when missing, and finds what a
    /// predecessor left. Below `min_free` octets of free space no message is taken. Blocks.
    ///
    /// # Errors
    ///
    /// When the folder cannot be used. Damaged segments are no reason not to open.
    pub fn open(path: &Path, min_free: ByteCount) -> Result<Self, OpenError> {
        let folder = Folder::open(path)?;
        let storage = Arc::new(folder.clone());
        Ok(Self::with(folder, storage, min_free, AGAIN)?)
    }

    fn with(
        folder: Folder,
        storage: Arc<dyn Storage>,
        min_free: ByteCount,
        again: Duration,
    ) -> io::Result<Self> {
        let (generation, lock) = own_generation(&folder)?;
        let journal = Journal::start(Arc::clone(&storage), generation, again)?;
        let locks = Mutex::new(BTreeMap::from([(generation, lock)]));
        let inner = Inner {
            folder,
            storage,
            space: Space::new(min_free),
            journal,
            index: Mutex::default(),
            locks,
            lent: Lent::default(),
            arrived: Notify::new(),
        };
        match inner.adopt() {
            Err(error) if recovery::passes(&error) => {
                tracing::warn!(%error, "what is in the queue cannot be read yet; it is tried again");
            }
            adopted => adopted?,
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes a message: returns its name when envelope and content are on stable storage. Cancelled before, it does
    /// not take it.
    ///
    /// # Errors
    ///
    /// Nothing was taken.
    pub async fn accept(&self, envelope: Envelope, content: Vec<Bytes>) -> Result<QueueId, WriteError> {
        let inner = &self.inner;
        inner.check_space()?;
        let id = inner.journal.name();
        let size = content.iter().map(Bytes::len).sum::<usize>();
        let entry = Entry::new(&envelope, u64::try_from(size).unwrap_or(u64::MAX));
        let record = Record::Message {
            id,
            envelope: Box::new(envelope),
            standing: Standing::Ready,
            settled: Vec::new(),
            warned: false,
        };
        let kept = inner.journal.offer(id, record.write(), content).taken().await?;
        // Nobody else delivers it before: whoever is told that it is not taken must be right.
        inner.enter(id, Entry { place: kept.place, ..entry });
        Ok(id)
    }

    /// Whether a message of so many octets has room beside what is to stay free. It may be taken up until it
    /// is written.
    #[must_use]
    pub fn has_room(&self, octets: u64) -> bool {
        // A file system that does not say is found out about when it is written to.
        self.inner.space.has_room(&self.inner.folder, octets).unwrap_or(true)
    }

    /// Takes up to `most` messages for delivery that are due at `wall`. Each is in the hands of the caller
    /// until it is settled, removed, or given back with [`Self::defer`] or [`Self::put_back`].
    #[must_use]
    pub fn take(&self, wall: SystemTime, most: usize) -> Vec<QueueId> {
        self.inner.index().take(milliseconds(wall), most)
    }

    /// When the next deferred message is due.
    #[must_use]
    pub fn next_due(&self) -> Option<SystemTime> {
        let due = self.inner.index().next_due()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(due))
    }

    /// Waits until a message was taken in, or may be delivered again.
    pub async fn arrival(&self) {
        self.inner.arrived.notified().await;
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// When it is not there, or damaged.
    pub async fn read(&self, id: QueueId) -> Result<Stored, ReadError> {
        let inner = Arc::clone(&self.inner);
        spawn_blocking(move || inner.read(id)).await.map_err(io::Error::other)?
    }

    /// Notes that all is done for these recipients of a message, which leaves the queue with the last.
    pub fn settle(&self, id: QueueId, recipients: &[u32]) {
        let inner = &self.inner;
        let mut index = inner.index();
        let Some((home, done)) = index.settle(id, recipients) else { return };
        if done {
            index.remove(id);
            inner.journal.mark(&Record::Gone { id }, home);
        } else {
            inner.journal.mark(&Record::Settled { id, recipients: recipients.to_vec() }, home);
        }
    }

    /// Gives a message back that was taken: it is due again at `due`. One that an operator has held meanwhile stays
    /// held.
    pub fn defer(&self, id: QueueId, due: SystemTime) {
        let inner = &self.inner;
        let mut index = inner.index();
        let standing = Standing::Deferred(milliseconds(due));
        let Some((home, true)) = index.give_back(id, standing) else { return };
        inner.journal.mark(&Record::Standing { id, standing }, home);
        drop(index);
        inner.arrived.notify_one();
    }

    /// Gives a message back that was taken, as it was: it is due now.
    pub fn put_back(&self, id: QueueId) {
        self.inner.index().give_back(id, Standing::Ready);
    }

    /// Notes that the sender of a message was told that it takes long.
    pub fn set_warned(&self, id: QueueId) {
        let inner = &self.inner;
        let mut index = inner.index();
        let Some(home) = index.set_warned(id) else { return };
        inner.journal.mark(&Record::Warned { id }, home);
    }

    /// Sets when a message may be delivered; says whether it is there. One that is under way is, at the earliest,
    /// delivered again when it was given back.
    pub fn set_standing(&self, id: QueueId, standing: Standing) -> bool {
        let inner = &self.inner;
        let mut index = inner.index();
        let Some(home) = index.set_standing(id, standing) else { return false };
        inner.journal.mark(&Record::Standing { id, standing }, home);
        drop(index);
        inner.arrived.notify_one();
        true
    }

    /// Removes a message; says whether it was there.
    pub fn remove(&self, id: QueueId) -> bool {
        let inner = &self.inner;
        let mut index = inner.index();
        let Some(home) = index.remove(id) else { return false };
        inner.journal.mark(&Record::Gone { id }, home);
        true
    }

    /// Whether the disk fails to note what was done, so that a crash would undo whatever is done meanwhile. One that
    /// is only full does not count, since what leaves it makes room, until there is more to note than should be held.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.inner.journal.is_behind() || !self.inner.folder.is_held()
    }

    /// How many messages there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.index().counts()
    }

    /// The messages behind `after` in the order of arrival, at most `most`.
    #[must_use]
    pub fn list(&self, after: Option<QueueId>, most: usize) -> Vec<Summary> {
        let entries = self.inner.index().list(after, most);
        entries.into_iter().map(|(id, entry)| Summary::new(id, &entry)).collect()
    }

    /// One of them.
    #[must_use]
    pub fn find(&self, id: QueueId) -> Option<Summary> {
        self.inner.index().get(id).map(|entry| Summary::new(id, entry))
    }

    /// Waits until all that was said so far is on stable storage; says whether it is.
    pub async fn settled(&self) -> bool {
        self.inner.journal.settle().await
    }

    /// Takes over what other processes left, empties old segments and removes empty ones. To be called every
    /// few seconds.
    pub async fn maintain(&self) {
        let inner = Arc::clone(&self.inner);
        let adopted = spawn_blocking(move || inner.adopt()).await;
        if let Ok(Err(error)) = adopted {
            tracing::debug!(%error, "the queue folder cannot be listed");
        }
        self.move_old().await;
        let inner = Arc::clone(&self.inner);
        // Removing a large file takes time.
        spawn_blocking(move || inner.remove_dead()).await.unwrap_or_default();
    }
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_space(&self) -> Result<(), WriteError> {
        if self.space.has(&self.folder, 1)? { Ok(()) } else { Err(WriteError::NoSpace) }
    }

    fn enter(&self, id: QueueId, entry: Entry) {
        self.index().add(id, entry);
        self.arrived.notify_one();
    }

    fn read(&self, id: QueueId) -> Result<Stored, ReadError> {
        // Between a look at the index and the opening of the file, the message may be moved.
        for _ in 0..3 {
            let entry = self.index().get(id).cloned().ok_or(ReadError::Gone)?;
            let file = match self.folder.read(entry.place.segment.to_string()) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let frame =
                Reader::open(&file)?.and_then(|reader| reader.at(entry.place.at).transpose()).transpose()?;
            let Some(frame) = frame else { return Err(ReadError::Damaged) };
            let Some(Record::Message { id: found, envelope, .. }) = Record::read(&frame.record) else {
                return Err(ReadError::Damaged);
            };
            if found != id {
                return Err(ReadError::Damaged);
            }
            return Ok(Stored {
                envelope: *envelope,
                settled: entry.settled,
                warned: entry.warned,
                content: self.lent.lend(file, frame.content),
            });
        }
        Err(ReadError::Gone)
    }
}

/// Milliseconds since 1970.
fn milliseconds(wall: SystemTime) -> u64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
