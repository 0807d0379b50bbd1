//! The writer of a copy.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::file::{self, SpoolFile};
use super::reader::{Blocks, Progress, SpoolReader};
use super::{BLOCK, Error, Inner};
use crate::config::file::LeaveOn;
use crate::intercept::flow::SessionId;

/// The copy of one message. Dropped, it is removed; dropped unfinished, its readers see
/// [`Error::Aborted`].
///
/// Memory held: up to `spool.memory`, or one block being filled, what one `append` brought and
/// one block for readers that keep up.
#[derive(Debug)]
pub struct SpoolCopy {
    inner: Arc<Inner>,
    blocks: Arc<Blocks>,
    progress: watch::Sender<Progress>,
    tail: BytesMut,
    /// Octets above the message, which are no part of it.
    lead: u64,
    len: u64,
    file: Option<Arc<SpoolFile>>,
    /// Blocks that are in the file, or on their way into it.
    written: usize,
    /// The write that runs.
    writing: Option<JoinHandle<Result<Arc<SpoolFile>, Error>>>,
    broken: bool,
}

impl SpoolCopy {
    pub(super) fn new(inner: Arc<Inner>, lead: &[u8]) -> Self {
        let lead_length = u64::try_from(lead.len()).unwrap_or(u64::MAX);
        Self {
            blocks: Arc::new(Blocks::new(Arc::clone(&inner))),
            inner,
            progress: watch::Sender::new(Progress::default()),
            tail: BytesMut::from(lead),
            lead: lead_length,
            len: lead_length,
            file: None,
            written: 0,
            writing: None,
            broken: false,
        }
    }

    /// Adds the next bytes of the message. Waits while the previous write to the file runs, so a
    /// slow disk slows the client. When cancelled, nothing of `data` was taken.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] when the file system is full, [`Error::File`] for other trouble with the
    /// file; [`Error::Closed`] after an error or after [`Self::finish`].
    pub async fn append(&mut self, mut data: &[u8]) -> Result<(), Error> {
        self.settle().await?;
        if self.progress.borrow().finished {
            return Err(Error::Closed);
        }
        self.len = self.len.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        while !data.is_empty() {
            let (head, rest) = data.split_at(data.len().min(BLOCK.saturating_sub(self.tail.len())));
            self.tail.extend_from_slice(head);
            data = rest;
            if self.tail.len() >= BLOCK {
                self.seal(false);
            }
        }
        self.spill()
    }

    /// Ends the message: readers see its end. A second call does nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub async fn finish(&mut self) -> Result<(), Error> {
        self.settle().await?;
        if self.progress.borrow().finished {
            return Ok(());
        }
        self.seal(true);
        Ok(())
    }

    /// Octets appended.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len.saturating_sub(self.lead)
    }

    /// Whether nothing was appended.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A reader that begins at the first byte; several may read at once.
    #[must_use]
    pub fn reader(&self) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.blocks), self.progress.subscribe(), self.lead)
    }

    /// Keeps the finished message for the operator when `spool.leave-on` names one of `reasons`, as
    /// `SESSION-TRANSACTION.REASON.eml` in the spool folder; returns its path.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] when kept copies would take the space of new messages: nothing is kept
    /// below twice `spool.min-free`. [`Error::File`] for other trouble, such as a name taken.
    pub async fn keep(
        mut self,
        reasons: &[LeaveOn],
        session: SessionId,
        transaction: u32,
    ) -> Result<Option<PathBuf>, Error> {
        let rules = &self.inner.leave_on;
        let named = reasons.iter().copied().find(|reason| rules.contains(reason));
        let always =
            rules.contains(&LeaveOn::Always).then(|| reasons.first().copied().unwrap_or(LeaveOn::Always));
        let Some(reason) = named.or(always) else { return Ok(None) };
        self.inner.check_space_to_keep()?;
        self.settle().await?;
        let (blocks, offset) = (self.blocks.from(self.written), self.file_offset());
        if self.file.is_none() || !blocks.is_empty() {
            self.write(offset, blocks);
            self.settle().await?;
        }
        let file = self.file.clone().ok_or(Error::Closed)?;
        let name = format!("{session}-{transaction}.{}.eml", word(reason));
        spawn_blocking(move || file.keep(&name)).await.map_err(|_| Error::Closed)?.map(Some)
    }

    /// Makes the bytes collected so far a block that readers see.
    fn seal(&mut self, finished: bool) {
        let block = self.tail.split().freeze();
        let more = usize::from(!block.is_empty());
        let len = u64::try_from(block.len()).unwrap_or(u64::MAX);
        if more != 0 {
            self.blocks.push(block);
        }
        self.progress.send_modify(|progress| {
            progress.blocks = progress.blocks.saturating_add(more);
            progress.len = progress.len.saturating_add(len);
            progress.finished = finished;
        });
    }

    /// Starts a write of the sealed blocks that are not in the file, once the copy is too large
    /// for memory.
    fn spill(&mut self) -> Result<(), Error> {
        let sealed = self.progress.borrow().blocks;
        let large = usize::try_from(self.len).unwrap_or(usize::MAX) > self.inner.memory;
        let in_file = self.written > 0;
        if sealed == self.written || !(in_file || large || self.inner.is_crowded()) {
            return Ok(());
        }
        if !in_file && let Err(error) = self.inner.check_space() {
            self.broken = true;
            return Err(error);
        }
        let blocks = self.blocks.from(self.written);
        let offset = self.file_offset();
        self.written = sealed;
        self.write(offset, blocks);
        Ok(())
    }

    /// Where the first block that is not in the file goes.
    fn file_offset(&self) -> u64 {
        u64::try_from(self.written.saturating_mul(BLOCK)).unwrap_or(u64::MAX)
    }

    fn write(&mut self, offset: u64, blocks: Vec<Bytes>) {
        let file = self.file.clone();
        let inner = Arc::clone(&self.inner);
        self.writing = Some(spawn_blocking(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(file::create(&inner.folder)?),
            };
            file.write(offset, &blocks)?;
            Ok(file)
        }));
    }

    /// Waits for the write that runs and forgets what readers need no longer find in memory.
    async fn settle(&mut self) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Closed);
        }
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let written = writing.await;
        self.writing = None;
        match written {
            Ok(Ok(file)) => {
                let for_followers = usize::from(!self.inner.is_crowded());
                let keep_from = self.written.saturating_sub(for_followers);
                self.blocks.written(&file, self.written, keep_from);
                self.file = Some(file);
                Ok(())
            }
            Ok(Err(error)) => {
                self.broken = true;
                Err(error)
            }
            Err(_) => {
                self.broken = true;
                Err(Error::Closed)
            }
        }
    }
}

impl Drop for SpoolCopy {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.discard();
        }
    }
}

const fn word(reason: LeaveOn) -> &'static str {
    match reason {
        LeaveOn::Virus => "virus",
        LeaveOn::Spam => "spam",
        LeaveOn::Error => "error",
        LeaveOn::Always => "always",
    }
}
