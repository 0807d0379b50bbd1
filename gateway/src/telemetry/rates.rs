//! How fast things happened in the last two minutes, for the console's curves.
//!
//! Owns a fixed number of points, one a second. Never reads a clock: its caller ticks.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::metrics::Totals;

/// Points kept.
const POINTS: usize = 120;

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Sessions accepted.
    pub sessions: u64,
    /// Messages that ended, whatever was done with them.
    pub messages: u64,
    /// Messages the gateway refused.
    pub refused: u64,
    /// Octets from clients.
    pub from_client: u64,
    /// Octets from servers.
    pub from_server: u64,
    /// Sessions open at the end of the second.
    pub open: u64,
}

/// The last points.
#[derive(Debug, Default)]
pub(super) struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: Totals,
    points: VecDeque<Rates>,
}

impl History {
    pub(super) fn push(&self, totals: Totals, open: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let last = std::mem::replace(&mut inner.last, totals);
        if inner.points.len() == POINTS {
            inner.points.pop_front();
        }
        inner.points.push_back(Rates {
            sessions: totals.sessions.saturating_sub(last.sessions),
            messages: totals.messages.saturating_sub(last.messages),
            refused: totals.refused.saturating_sub(last.refused),
            from_client: totals.from_client.saturating_sub(last.from_client),
            from_server: totals.from_server.saturating_sub(last.from_server),
            open: u64::try_from(open).unwrap_or(u64::MAX),
        });
    }

    pub(super) fn points(&self) -> Vec<Rates> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).points.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_the_difference_of_two_totals_and_old_points_leave() {
        let history = History::default();
        for second in 1..=200u64 {
            history.push(Totals { messages: second * 3, ..Totals::default() }, 7);
        }
        let points = history.points();
        assert_eq!(points.len(), POINTS);
        assert!(points.iter().all(|point| point.messages == 3 && point.open == 7));
    }
}
