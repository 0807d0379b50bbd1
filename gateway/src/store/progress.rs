//! How far reading has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what was read, for whoever waits and has to know that it goes on; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Something more was read.
    pub fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How much it is so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
