//! Large messages, each in a segment of its own, so that nobody waits for their octets.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::entry::Entry;
use super::envelope::{Envelope, QueueId};
use super::frame::{self, FIRST, HEAD, Mark};
use super::journal::{self, Place, WriteError};
use super::record::{Record, Standing};

use super::Queue;
use super::segment::SegmentId;
use super::storage::Storage;

/// A message that is being written: first the content, then, when it is on stable storage, what is said of it.
/// Dropped before, it leaves no trace.
#[derive(Debug)]
pub struct LargeMessage {
    queue: Queue,
    envelope: Option<Envelope>,
    id: QueueId,
    record: Vec<u8>,
    segment: SegmentId,
    file: Arc<File>,
    mark: Mark,
    length: u64,
    sum: crc32fast::Hasher,
}

impl Queue {
    /// Begins a message whose content comes in pieces.
    ///
    /// # Errors
    ///
    /// When the file system is full or fails.
    pub async fn begin(&self, envelope: Envelope) -> Result<LargeMessage, WriteError> {
        self.inner.check_space()?;
        let (id, segment) = (self.inner.journal.name(), self.inner.journal.segment());
        let storage = Arc::clone(&self.inner.storage);
        let made = spawn_blocking(move || journal::begin(&*storage, segment)).await;
        let (file, mark) = made.map_err(|_| WriteError::Closed)??;
        let record = Record::Message {
            id,
            envelope: Box::new(envelope.clone()),
            standing: Standing::Ready,
            settled: Vec::new(),
            warned: false,
        };
        Ok(LargeMessage {
            queue: self.clone(),
            envelope: Some(envelope),
            id,
            record: record.write(),
            segment,
            file: Arc::new(file),
            mark,
            length: 0,
            sum: crc32fast::Hasher::new(),
        })
    }
}

impl LargeMessage {
    /// Writes the next piece.
    ///
    /// # Errors
    ///
    /// When the file system is full or fails; then the message is to be dropped.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), WriteError> {
        self.sum.update(&piece);
        let at = self.content_at().saturating_add(self.length);
        self.length = self.length.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        self.on_disk(move |storage, file| storage.write(file, at, &[&piece])).await
    }

    /// Takes the message: returns its name when envelope and content are on stable storage.
    ///
    /// # Errors
    ///
    /// Nothing was taken.
    pub async fn finish(mut self) -> Result<QueueId, WriteError> {
        let head = frame::head_of(&self.mark, &self.record, self.length, self.sum.clone().finalize());
        let record = std::mem::take(&mut self.record);
        let length = self.length.saturating_add(head_length(&record));
        self.on_disk(move |storage, file| {
            // A sound head means a sound content, whatever happens between the two.
            storage.sync(file)?;
            storage.write(file, FIRST, &[&head, &record])?;
            storage.sync(file)?;
            storage.sync_names()
        })
        .await?;
        if let Some(envelope) = self.envelope.take() {
            let place = Place { segment: self.segment, at: FIRST, length };
            let entry = Entry { place, ..Entry::new(&envelope, self.length) };
            self.queue.inner.enter(self.id, entry);
        }
        Ok(self.id)
    }

    fn content_at(&self) -> u64 {
        FIRST.saturating_add(head_length(&self.record))
    }

    async fn on_disk(
        &self,
        what: impl FnOnce(&dyn Storage, &File) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), WriteError> {
        let (storage, file) = (Arc::clone(&self.queue.inner.storage), Arc::clone(&self.file));
        let done = spawn_blocking(move || what(&*storage, &file)).await;
        Ok(done.map_err(|_| WriteError::Closed)??)
    }
}

impl Drop for LargeMessage {
    fn drop(&mut self) {
        if self.envelope.is_none() {
            return;
        }
        let (inner, id, segment) = (Arc::clone(&self.queue.inner), self.id, self.segment);
        let remove = move || {
            if inner.storage.remove(&segment.to_string()).is_err() {
                // Its head may be on the disk, although it was refused. It is removed before what says so.
                inner.index().add_segment(segment, 0, false);
                inner.journal.mark(&Record::Gone { id }, segment);
            }
        };
        // Removing a large file takes time.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

fn head_length(record: &[u8]) -> u64 {
    u64::try_from(HEAD.saturating_add(record.len())).unwrap_or(u64::MAX)
}
