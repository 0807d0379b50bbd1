//! How many scans one scanner does at once.
//!
//! A scan may begin while its message still arrives. Such an early scan holds a place for as long
//! as its sender likes, so only half of the places are open to it: whoever drips messages can never
//! keep complete ones from being scanned.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one scanner.
#[derive(Debug)]
pub(super) struct Places {
    count: usize,
    all: Arc<Semaphore>,
    early: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A place at the scanner, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    early: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// The message is complete: leaves the part for early scans to another.
    pub(super) fn complete(&mut self) {
        self.early = None;
    }
}

impl Places {
    /// `count` places, of which half, rounded down, are open to early scans.
    pub(super) fn new(count: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            count,
            all: Arc::new(Semaphore::new(count)),
            early: Arc::new(Semaphore::new(count.div_euclid(2))),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a place for a complete message; first come, first served. `None` never happens
    /// while the scanner exists.
    pub(super) async fn take(&self) -> Option<Place> {
        let _waiting = Waiting::new(&self.waiting);
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Place { _all: all, early: None })
    }

    /// Takes a place for a message that still arrives, if one is free.
    pub(super) fn take_early(&self) -> Option<Place> {
        let early = Arc::clone(&self.early).try_acquire_owned().ok()?;
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place { _all: all, early: Some(early) })
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// How many are taken.
    pub(super) fn busy(&self) -> usize {
        self.count.saturating_sub(self.all.available_permits())
    }

    /// How many complete messages wait for one.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Counts one who waits, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn early_scans_leave_half_of_the_places_to_complete_messages() {
        let places = Places::new(4);
        let mut first = places.take_early().unwrap();
        let _second = places.take_early().unwrap();
        assert!(places.take_early().is_none());
        let third = places.take().await.unwrap();
        let _fourth = places.take().await.unwrap();
        assert_eq!(places.busy(), 4);
        first.complete();
        assert!(places.take_early().is_none(), "no place is free");
        drop(third);
        assert!(places.take_early().is_some());
    }

    #[tokio::test]
    async fn a_single_place_is_for_complete_messages() {
        let places = Places::new(0);
        assert_eq!(places.count(), 1);
        assert!(places.take_early().is_none());
        let _only = places.take().await.unwrap();
        let mut next = Box::pin(places.take());
        assert!(is_pending(&mut next).await);
        assert_eq!(places.waiting(), 1);
        drop(next);
        assert_eq!(places.waiting(), 0);
    }

    async fn is_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        tokio::select! {
            biased;
            _ = future => false,
            () = std::future::ready(()) => true,
        }
    }
}
