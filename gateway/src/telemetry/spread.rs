//! A counter that all threads add to many times for each message.
//!
//! One cell that they share would go from one processor's cache to another's with each addition, about a microsecond
//! of each short session in all; so each thread has a cell, as far as there are cells.

use std::cell::Cell as Local;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Cells; threads beyond share.
const CELLS: usize = 16;

/// A cell with a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell(AtomicU64);

/// The counter.
#[derive(Debug, Default)]
pub(super) struct Spread([Cell; CELLS]);

/// Threads that have counted.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The cell of this thread, once it has counted.
    static MINE: Local<Option<usize>> = const { Local::new(None) };
}

fn mine() -> usize {
    MINE.get().unwrap_or_else(|| {
        let mine = THREADS.fetch_add(1, Ordering::Relaxed) % CELLS;
        MINE.set(Some(mine));
        mine
    })
}

impl Spread {
    /// Where this thread counts.
    pub(super) fn cell(&self) -> &AtomicU64 {
        let [first, ..] = &self.0;
        &self.0.get(mine()).unwrap_or(first).0
    }

    /// What all have counted.
    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_there_are_cells_lose_nothing() {
        let counter = Spread::default();
        std::thread::scope(|scope| {
            for _ in 0..3 * CELLS {
                scope.spawn(|| {
                    for _ in 0..100 {
                        counter.cell().fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counter.sum(), 100 * 3 * 16);
    }

    #[test]
    fn two_threads_count_in_cells_of_their_own() {
        let counter = Spread::default();
        let place = || std::ptr::from_ref(counter.cell()).addr();
        let (one, other) = (place(), std::thread::scope(|scope| scope.spawn(place).join().unwrap()));
        assert!(one.abs_diff(other) >= 64);
    }
}
