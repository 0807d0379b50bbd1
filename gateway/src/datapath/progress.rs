//! Which flows are to be told of while they run.
//!
//! The table is the only list of flows: what has changed is seen by when its last packet came. Of
//! very many flows that are busy, each look tells of a part.

use std::time::{Duration, Instant};

/// Least time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Flows told of in one look, about.
const TOLD: usize = 4_096;
/// Added to the time looked back on: entries keep time to about a millisecond.
const SLACK: Duration = Duration::from_millis(10);

/// When to look, and at which part.
#[derive(Debug)]
pub struct Progress {
    last: Instant,
    part: usize,
    parts: usize,
}

/// One look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Flows whose last packet came within this time have changed.
    since: Duration,
    part: usize,
    parts: usize,
}

impl Progress {
    /// Nothing was told before `now`.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { last: now, part: 0, parts: 1 }
    }

    /// The look that is due, if one is.
    pub fn due(&mut self, now: Instant) -> Option<Look> {
        let passed = now.saturating_duration_since(self.last);
        if passed < PERIOD {
            return None;
        }
        self.last = now;
        self.part = (self.part + 1) % self.parts;
        // The last look at this part was so many looks ago.
        let parts = u32::try_from(self.parts).unwrap_or(u32::MAX);
        Some(Look { since: passed.saturating_mul(parts) + SLACK, part: self.part, parts: self.parts })
    }

    /// Notes how many flows had changed, told of or not.
    pub const fn note(&mut self, changed: usize) {
        self.parts = changed.div_ceil(TOLD);
        if self.parts == 0 {
            self.parts = 1;
        }
    }
}

impl Look {
    /// Whether a flow that has been idle for so long has changed.
    #[must_use]
    pub fn sees(&self, idle: Duration) -> bool {
        idle <= self.since
    }

    /// Whether a flow with this port of its client is told of this time.
    #[must_use]
    pub fn tells(&self, port: u16) -> bool {
        usize::from(port) % self.parts == self.part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_look_comes_once_a_second_and_sees_what_moved_since_the_last() {
        let start = clock::now();
        let mut progress = Progress::new(start);
        assert!(progress.due(start + PERIOD / 2).is_none());
        let look = progress.due(start + PERIOD).unwrap();
        assert!(look.sees(PERIOD) && !look.sees(PERIOD * 2) && look.tells(1) && look.tells(2));
        assert!(progress.due(start + PERIOD).is_none());
    }

    #[test]
    fn of_very_many_flows_each_is_told_of_in_one_of_several_looks() {
        let start = clock::now();
        let mut progress = Progress::new(start);
        progress.note(3 * TOLD);
        let looks: Vec<_> = (1..=3).map(|second| progress.due(start + PERIOD * second).unwrap()).collect();
        for port in [1, 2, 3, 40_000] {
            assert_eq!(looks.iter().filter(|look| look.tells(port)).count(), 1);
        }
        assert!(looks[0].sees(PERIOD * 3));
    }
}
