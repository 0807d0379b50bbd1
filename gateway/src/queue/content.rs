//! The content of a message, read piece by piece.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::frame::Span;

/// Octets of one piece.
const PIECE: u64 = 64 * 1024;

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not in the queue, or not any more.
    #[error("no such message")]
    Gone,
    /// It is not what was written.
    #[error("the message is damaged")]
    Damaged,
    /// The file system failed.
    #[error("the queue cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// The file of one content, until it is taken back.
type Loan = ArcSwapOption<File>;

/// The files of contents that somebody holds, however long: a delivery may wait for its server for many minutes.
#[derive(Debug, Default)]
pub(super) struct Lent {
    loans: Mutex<Vec<Weak<Loan>>>,
}

impl Lent {
    /// Loans at which those that have ended are looked for.
    const FEW: usize = 64;

    /// A content that can be read until it is taken back.
    pub(super) fn lend(&self, file: File, span: Span) -> Content {
        let file = Arc::new(ArcSwapOption::from_pointee(file));
        let mut loans = self.loans.lock().unwrap_or_else(PoisonError::into_inner);
        if loans.len() >= Self::FEW && loans.len() == loans.capacity() {
            loans.retain(|loan| loan.strong_count() > 0);
            // At least as many more come before it is looked again.
            let more = loans.len().max(Self::FEW);
            loans.shrink_to_fit();
            loans.reserve_exact(more);
        }
        loans.push(Arc::downgrade(&file));
        drop(loans);
        Content { file, span }
    }

    /// Closes all of them: what is read from them fails from here on.
    pub(super) fn take_back(&self) {
        let loans = std::mem::take(&mut *self.loans.lock().unwrap_or_else(PoisonError::into_inner));
        loans.iter().filter_map(Weak::upgrade).for_each(|loan| loan.store(None));
    }
}

/// A message's content; cheap to clone, and each clone is read from the beginning.
#[derive(Clone, Debug)]
pub struct Content {
    file: Arc<Loan>,
    span: Span,
}

impl Content {
    /// Its length in octets.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.span.length
    }

    /// Whether it has no octet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.span.length == 0
    }

    /// Begins to read.
    #[must_use]
    pub fn reader(&self) -> ContentReader {
        ContentReader { content: self.clone(), read: 0, sum: crc32fast::Hasher::new() }
    }
}

/// Reads a content from its beginning to its end.
#[derive(Debug)]
pub struct ContentReader {
    content: Content,
    read: u64,
    sum: crc32fast::Hasher,
}

impl ContentReader {
    /// The next piece; `None` at the end, which only a sound content has.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`] in the place of the end: whoever has passed the pieces on must not
    /// say that they were all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let span = self.content.span;
        let left = span.length.saturating_sub(self.read);
        if left == 0 {
            let sound = self.sum.clone().finalize() == span.sum;
            return if sound { Ok(None) } else { Err(ReadError::Damaged) };
        }
        let file = self.content.file.load_full();
        let file = file.ok_or_else(|| io::Error::other("its file system failed and was taken away"))?;
        let at = span.at.saturating_add(self.read);
        let length = usize::try_from(left.min(PIECE)).unwrap_or(usize::MAX);
        let piece = spawn_blocking(move || {
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
        });
        let piece = piece.await.map_err(io::Error::other)??;
        self.sum.update(&piece);
        self.read = self.read.saturating_add(left.min(PIECE));
        Ok(Some(piece))
    }
}
