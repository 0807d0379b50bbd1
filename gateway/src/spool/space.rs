//! Free space of the spool folder, asked for at most once a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Error;
use crate::clock;
use crate::config::units::ByteCount;
use crate::folder::Folder;

/// How long an answer of the file system is used.
const FRESH: Duration = Duration::from_secs(1);

/// The rule `spool.min-free` and the last known free space.
#[derive(Debug)]
pub(super) struct Space {
    min_free: u64,
    last: Mutex<Option<(Instant, u64)>>,
}

impl Space {
    pub(super) const fn new(min_free: ByteCount) -> Self {
        Self { min_free: min_free.bytes(), last: Mutex::new(None) }
    }

    /// Whether a new message may begin.
    pub(super) fn check(&self, folder: &Folder) -> Result<(), Error> {
        if self.free(folder)? < self.min_free { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// Whether a copy may be kept: kept copies must not take the space of new messages, or whoever
    /// sends enough viruses could stop the mail.
    pub(super) fn check_keep(&self, folder: &Folder) -> Result<(), Error> {
        if self.free(folder)? < self.min_free.saturating_mul(2) { Err(Error::NoSpace) } else { Ok(()) }
    }

    fn free(&self, folder: &Folder) -> Result<u64, Error> {
        let now = clock::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, free)) = *last
            && now.saturating_duration_since(at) < FRESH
        {
            return Ok(free);
        }
        let free = folder.free()?;
        *last = Some((now, free));
        Ok(free)
    }
}
