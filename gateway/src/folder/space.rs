//! Free space of a folder, asked for at most once a second.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Folder;
use crate::clock;
use crate::config::units::ByteCount;

/// How long an answer of the file system is used.
const FRESH: Duration = Duration::from_secs(1);

/// How much must stay free, and the last known free space.
#[derive(Debug)]
pub struct Space {
    min_free: u64,
    last: Mutex<Option<(Instant, u64)>>,
}

impl Space {
    /// Keeps `min_free` octets free.
    #[must_use]
    pub const fn new(min_free: ByteCount) -> Self {
        Self { min_free: min_free.bytes(), last: Mutex::new(None) }
    }

    /// Whether `times` what must stay free is free.
    ///
    /// # Errors
    ///
    /// When the file system does not say.
    pub fn has(&self, folder: &Folder, times: u64) -> io::Result<bool> {
        Ok(self.free(folder)? >= self.min_free.saturating_mul(times))
    }

    /// Whether so many octets have room beside what must stay free.
    ///
    /// # Errors
    ///
    /// When the file system does not say.
    pub fn has_room(&self, folder: &Folder, octets: u64) -> io::Result<bool> {
        Ok(self.free(folder)? >= self.min_free.saturating_add(octets))
    }

    fn free(&self, folder: &Folder) -> io::Result<u64> {
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
