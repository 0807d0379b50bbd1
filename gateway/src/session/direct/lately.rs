//! What was lately: a set with a ceiling, which forgets the oldest first.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// How many are remembered. What comes late comes within moments, and then there are few others.
const REMEMBERED: usize = 4_096;

/// What was lately.
#[derive(Debug)]
pub(super) struct Lately<T> {
    set: HashSet<T>,
    /// Oldest first; some may be forgotten already.
    order: VecDeque<T>,
}

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self { set: HashSet::new(), order: VecDeque::new() }
    }
}

impl<T: Copy + Eq + Hash> Lately<T> {
    pub(super) fn add(&mut self, one: T) {
        if !self.set.insert(one) {
            return;
        }
        self.order.push_back(one);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }

    pub(super) fn has(&self, one: &T) -> bool {
        self.set.contains(one)
    }

    pub(super) fn forget(&mut self, one: &T) {
        self.set.remove(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first_and_nothing_grows() {
        let mut lately = Lately::default();
        for number in 0..=REMEMBERED {
            lately.add(number);
            lately.add(number);
        }
        assert!(!lately.has(&0) && lately.has(&1) && lately.has(&REMEMBERED));
        lately.forget(&1);
        assert!(!lately.has(&1));
        for round in 0..3 * REMEMBERED {
            lately.add(7);
            lately.forget(&7);
            assert!(lately.order.len() <= REMEMBERED && lately.set.len() <= REMEMBERED, "{round}");
        }
    }
}
