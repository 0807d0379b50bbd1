//! Readers of a copy, which follow its writer.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::file::SpoolFile;
use super::{BLOCK, Error, Inner};

/// How far the writer is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Blocks that can be read.
    pub(super) blocks: usize,
    /// Bytes in these blocks: all blocks but the last are full.
    pub(super) len: u64,
    /// Whether they are all there will be.
    pub(super) finished: bool,
}

/// Where the blocks of a copy are: the later ones in memory, all written ones in the file.
#[derive(Debug)]
pub(super) struct Blocks {
    inner: Arc<Inner>,
    place: Mutex<Place>,
}

#[derive(Debug, Default)]
struct Place {
    /// Number of the first block in `memory`.
    first: usize,
    memory: VecDeque<Bytes>,
    file: Option<Arc<SpoolFile>>,
}

impl Blocks {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, place: Mutex::default() }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the next block.
    pub(super) fn push(&self, block: Bytes) {
        self.inner.held.fetch_add(block.len(), Ordering::Relaxed);
        self.place().memory.push_back(block);
    }

    /// Notes the file, which holds every block before number `written`, and forgets the blocks in
    /// memory before number `keep_from`.
    pub(super) fn written(&self, file: &Arc<SpoolFile>, written: usize, keep_from: usize) {
        let mut place = self.place();
        if place.file.is_none() {
            place.file = Some(Arc::clone(file));
        }
        while place.first < keep_from.min(written) {
            let Some(block) = place.memory.pop_front() else { break };
            self.inner.held.fetch_sub(block.len(), Ordering::Relaxed);
            place.first = place.first.saturating_add(1);
        }
    }

    /// The blocks from number `from` on that are in memory.
    pub(super) fn from(&self, from: usize) -> Vec<Bytes> {
        let place = self.place();
        place.memory.iter().skip(from.saturating_sub(place.first)).cloned().collect()
    }

    /// Block `number`, from memory or, with its offset and length, from the file.
    fn find(&self, number: usize) -> Found {
        let place = self.place();
        match number.checked_sub(place.first).and_then(|index| place.memory.get(index)) {
            Some(block) => Found::Memory(block.clone()),
            None => Found::File(place.file.clone()),
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        let held: usize = self.place().memory.iter().map(Bytes::len).sum();
        self.inner.held.fetch_sub(held, Ordering::Relaxed);
    }
}

enum Found {
    Memory(Bytes),
    File(Option<Arc<SpoolFile>>),
}

/// Reads a copy from its beginning, while it is written and after.
///
/// A clone reads on from the same place, independently.
#[derive(Clone, Debug)]
pub struct SpoolReader {
    blocks: Arc<Blocks>,
    progress: watch::Receiver<Progress>,
    /// Octets above the message, which are read but are no part of it.
    lead: u64,
    next: usize,
}

impl SpoolReader {
    pub(super) const fn new(blocks: Arc<Blocks>, progress: watch::Receiver<Progress>, lead: u64) -> Self {
        Self { blocks, progress, lead, next: 0 }
    }

    /// The next block, of [`BLOCK`] bytes except for the last one; `None` at the end of the
    /// message. Waits for the writer. Can be cancelled without losing anything.
    ///
    /// # Errors
    ///
    /// [`Error::Aborted`] when the writer went away before the end; [`Error::File`] when the file
    /// cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let progress = loop {
            let progress = *self.progress.borrow_and_update();
            if self.next < progress.blocks {
                break progress;
            }
            if progress.finished {
                return Ok(None);
            }
            self.progress.changed().await.map_err(|_| Error::Aborted)?;
        };
        let block = match self.blocks.find(self.next) {
            Found::Memory(block) => block,
            Found::File(None) => return Err(Error::Closed),
            Found::File(Some(file)) => {
                let offset = u64::try_from(self.next.saturating_mul(BLOCK)).unwrap_or(u64::MAX);
                let left = usize::try_from(progress.len.saturating_sub(offset)).unwrap_or(usize::MAX);
                spawn_blocking(move || file.read(offset, left.min(BLOCK)))
                    .await
                    .map_err(|_| Error::Closed)??
            }
        };
        self.next = self.next.saturating_add(1);
        Ok(Some(block))
    }

    /// Octets above the message, which are read but are no part of it.
    #[must_use]
    pub const fn lead(&self) -> u64 {
        self.lead
    }

    /// Returns when `octets` of the message can be read, or when the writer has finished with fewer.
    ///
    /// # Errors
    ///
    /// [`Error::Aborted`] when the writer went away before.
    pub async fn reached(&mut self, octets: u64) -> Result<(), Error> {
        let octets = octets.saturating_add(self.lead);
        self.progress
            .wait_for(|progress| progress.finished || progress.len >= octets)
            .await
            .map(drop)
            .map_err(|_| Error::Aborted)
    }

    /// Returns when the writer has finished.
    ///
    /// # Errors
    ///
    /// [`Error::Aborted`] when the writer went away before the end.
    pub async fn finished(&mut self) -> Result<(), Error> {
        self.progress.wait_for(|progress| progress.finished).await.map(drop).map_err(|_| Error::Aborted)
    }

    /// Whether the writer has finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.progress.borrow().finished
    }

    /// Octets of the message that can be read so far.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.stream_length().saturating_sub(self.lead)
    }

    /// Octets that can be read so far, with those above the message.
    #[must_use]
    pub fn stream_length(&self) -> u64 {
        self.progress.borrow().len
    }

    /// Begins again at the first byte.
    pub fn rewind(&mut self) {
        self.next = 0;
    }
}
