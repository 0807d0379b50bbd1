//! What keeps the journal short: old messages are written again at its end, and segments without any are removed.

use std::io;
use std::sync::PoisonError;

use bytes::Bytes;

use super::content::Content;
use super::envelope::{Envelope, QueueId};
use super::journal::Written;
use super::record::Record;
use super::segment::{self, SegmentId};
use super::{Inner, Queue};

/// Messages that are written again at a time.
const MOVED: usize = 256;

impl Queue {
    /// Writes messages of the oldest segment again.
    pub(super) async fn move_old(&self) {
        let inner = &self.inner;
        let in_use = inner.oldest_in_use();
        let ids = inner.index().to_move(in_use, MOVED);
        for id in ids {
            let Ok(stored) = self.read(id).await else { continue };
            // A damaged one stays where it is, and is told of when it is delivered.
            let Some(content) = whole(&stored.content).await else { continue };
            let Some(written) = inner.write_again(id, stored.envelope, content) else { continue };
            if let Ok(Ok(kept)) = written.await {
                inner.index().moved(id, kept.place);
            }
        }
    }
}

/// All of a content, unless it is damaged.
async fn whole(content: &Content) -> Option<Vec<Bytes>> {
    let mut pieces = Vec::new();
    let mut reader = content.reader();
    while let Some(piece) = reader.next().await.ok()? {
        pieces.push(piece);
    }
    Some(pieces)
}

impl Inner {
    /// Has a message written again, as it is now; in the order of what is said of it.
    pub(super) fn write_again(
        &self,
        id: QueueId,
        envelope: Envelope,
        content: Vec<Bytes>,
    ) -> Option<Written> {
        let index = self.index();
        let entry = index.get(id)?;
        let (standing, settled, warned) = (entry.standing, entry.settled.clone(), entry.warned);
        let record = Record::Message { id, envelope: Box::new(envelope), standing, settled, warned };
        Some(self.journal.again(record.write(), content))
    }

    /// The oldest segment that may still get a message. The index has all that do not any more, also those in which
    /// nothing but marks was written.
    fn oldest_in_use(&self) -> SegmentId {
        let (oldest, over) = self.journal.take_over();
        let mut index = self.index();
        for id in over {
            index.add_segment(id, 0, false);
        }
        oldest
    }

    /// Removes segments in which nothing is left, and locks of generations without segments.
    pub(super) fn remove_dead(&self) {
        let in_use = self.oldest_in_use();
        let dead = self.index().take_dead(in_use);
        let removed = dead.iter().take_while(|id| self.remove_segment(**id)).count();
        let (removed, left) = dead.split_at(removed);
        let mut index = self.index();
        for id in left {
            // What comes behind one that cannot be removed must not go before it: it has marks about what is there.
            index.add_segment(*id, 0, false);
        }
        drop(index);
        let Some(last) = removed.last() else { return };
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        let over: Vec<u32> = locks.range(..last.generation).map(|(generation, _)| *generation).collect();
        for generation in over {
            locks.remove(&generation);
            self.folder.remove(segment::lock_name(generation)).unwrap_or_default();
        }
    }

    /// Removes a segment; says whether it is not there any more.
    fn remove_segment(&self, id: SegmentId) -> bool {
        match self.storage.remove(&id.to_string()) {
            Ok(()) => true,
            // Somebody else did.
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                tracing::debug!(segment = %id, %error, "an empty segment cannot be removed");
                false
            }
        }
    }
}
