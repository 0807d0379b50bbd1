//! What was said of messages and is not on stable storage yet: how much memory that takes, and when it is too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Octets of marks from which on nothing more is delivered: those of about 100,000.
pub(super) const MOST: usize = 16 * 1024 * 1024;
/// Octets that a mark takes beside its record.
const BESIDE: usize = 64;

/// Marks that wait, at the writer or on their way to it; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Debt {
    octets: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
}

impl Debt {
    /// A mark waits.
    pub(super) fn add(&self, record: &[u8]) {
        self.octets.fetch_add(octets(record), Ordering::Relaxed);
    }

    /// It is on stable storage.
    pub(super) fn pay(&self, record: &[u8]) {
        self.octets.fetch_sub(octets(record), Ordering::Relaxed);
    }

    /// Whether marks wait because the file system fails otherwise than for being full.
    pub(super) fn set_failing(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    /// Whether no more should be done of which marks are made: the file system fails, or there are too many.
    pub(super) fn is_too_large(&self) -> bool {
        self.fails.load(Ordering::Relaxed) || self.octets.load(Ordering::Relaxed) > MOST
    }
}

const fn octets(record: &[u8]) -> usize {
    record.len().saturating_add(BESIDE)
}
