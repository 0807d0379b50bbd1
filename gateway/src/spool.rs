//! The copy of a message that scanners see: in memory while it is small, then in a file.
//!
//! Owns the spool folder, its free space and how much memory all copies hold together. A copy is
//! written once, by the session, and read any number of times while it grows. Never blocks an
//! async thread on a file, and never leaves a file behind unless the operator asked for it: copies
//! of a process that died are removed at the next start.

mod copy;
mod file;
mod reader;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

use crate::config::file::{LeaveOn, Spool};
use crate::folder::{self, Folder, Space};

pub use copy::SpoolCopy;
pub use reader::SpoolReader;

/// Size of the pieces in which a copy is held, written and read, in bytes.
pub const BLOCK: usize = 64 * 1024;

/// All copies together may hold this many times `spool.memory`; beyond, even small ones go to
/// files, so that a crowd of half-sent messages cannot fill the memory.
const MEMORY_SHARE: usize = 256;

/// Why a copy cannot be written, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used: for the operator.
    #[error("spool {0}")]
    Folder(#[from] folder::Error),
    /// Less than `spool.min-free` is free, or the file system is full. Passes by itself.
    #[error("not enough free space in the spool folder")]
    NoSpace,
    /// A file operation failed.
    #[error("spool file: {0}")]
    File(#[source] io::Error),
    /// The copy failed or ended before.
    #[error("the copy takes no more data")]
    Closed,
    /// Its writer gave the copy up before its end.
    #[error("the message was given up before its end")]
    Aborted,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT) => Self::NoSpace,
            _ => Self::File(error),
        }
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

/// The spool folder and its rules; cheap to clone.
#[derive(Clone, Debug)]
pub struct Spooler {
    inner: Arc<Inner>,
}

/// What all copies share.
#[derive(Debug)]
struct Inner {
    folder: Folder,
    space: Space,
    memory: usize,
    leave_on: Vec<LeaveOn>,
    held: AtomicUsize,
}

impl Inner {
    /// Whether a new message may begin.
    fn check_space(&self) -> Result<(), Error> {
        if self.space.has(&self.folder, 1)? { Ok(()) } else { Err(Error::NoSpace) }
    }

    /// Whether a copy may be kept: kept copies must not take the space of new messages, or whoever
    /// sends enough viruses could stop the mail.
    fn check_space_to_keep(&self) -> Result<(), Error> {
        if self.space.has(&self.folder, 2)? { Ok(()) } else { Err(Error::NoSpace) }
    }

    /// Whether all copies together hold more memory than they may.
    fn is_crowded(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.memory.saturating_mul(MEMORY_SHARE)
    }
}

impl Spooler {
    /// Opens the folder, which is made when missing, and removes what a dead predecessor left.
    ///
    /// Copies of another live process, or of an older `Spooler` of this one, are let alone.
    ///
    /// # Errors
    ///
    /// [`Error::Folder`] says what the operator must set right.
    pub fn open(config: &Spool) -> Result<Self, Error> {
        let folder = Folder::open(&config.directory)?;
        file::sweep(&folder);
        Ok(Self {
            inner: Arc::new(Inner {
                space: Space::new(config.min_free),
                folder,
                memory: config.memory.as_len(),
                leave_on: config.leave_on.clone(),
                held: AtomicUsize::new(0),
            }),
        })
    }

    /// Begins the copy of one message.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] when less than `spool.min-free` is free: the message should be answered
    /// with 452 4.3.1 (RFC 5321 section 4.2.3, RFC 3463 section 3.4).
    pub fn begin(&self) -> Result<SpoolCopy, Error> {
        self.begin_below(b"")
    }

    /// The same, below `lead`: some octets that readers see first, and that are not counted as part
    /// of the message.
    ///
    /// # Errors
    ///
    /// As [`Self::begin`].
    pub fn begin_below(&self, lead: &[u8]) -> Result<SpoolCopy, Error> {
        self.inner.check_space()?;
        Ok(SpoolCopy::new(Arc::clone(&self.inner), lead))
    }

    /// Lets go of a folder that is lost: see [`Folder::let_go_if_lost`]. From then on no message has a copy. Blocks.
    pub fn let_go_if_lost(&self) {
        if self.inner.folder.let_go_if_lost() {
            tracing::warn!(
                folder = %self.inner.folder.path().display(),
                "the file system of the spool failed and was taken away: no message is taken until it is back"
            );
        }
    }

    /// Whether its folder was not let go.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.inner.folder.is_held()
    }

    /// Whether a folder that was let go is back.
    #[must_use]
    pub fn is_back(&self) -> bool {
        self.inner.folder.is_back()
    }

    /// Memory that all copies hold, in bytes.
    #[must_use]
    pub fn memory_held(&self) -> usize {
        self.inner.held.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
