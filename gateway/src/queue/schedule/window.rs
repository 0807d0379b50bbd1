//! How many deliveries a destination may have at once: more while it does well, fewer when it does
//! not, none when it does badly. The rules are those of Postfix's scheduler.

use super::feedback::Feedback;

/// By how much the counters move the window.
const HYSTERESIS: f64 = 1.0;

/// The operator's limits of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    /// Deliveries at once to a destination of which nothing is known.
    pub initial: u32,
    /// The most there ever are; 0: no limit but the places.
    pub limit: u32,
    /// What a success moves.
    pub positive: Feedback,
    /// What a failure moves.
    pub negative: Feedback,
    /// Failures of as many deliveries as the window has, so many times, and the destination is dead.
    pub failed_cohorts: u32,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { initial: 5, limit: 20, positive: Feedback::ONE, negative: Feedback::ONE, failed_cohorts: 1 }
    }
}

impl Concurrency {
    const fn most(&self) -> u32 {
        if self.limit == 0 { u32::MAX } else { self.limit }
    }

    fn first(&self) -> u32 {
        self.initial.clamp(1, self.most())
    }
}

/// A destination's window.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    size: u32,
    success: f64,
    failure: f64,
    /// Failures in a row, each as its part of a window.
    failed_cohorts: f64,
}

impl Window {
    pub(super) fn new(limits: &Concurrency) -> Self {
        Self { size: limits.first(), success: 0.0, failure: 0.0, failed_cohorts: 0.0 }
    }

    /// Deliveries at once.
    pub(super) const fn size(&self) -> u32 {
        self.size
    }

    /// A dead destination lives: it gets what it has now, or what an unknown one gets.
    pub(super) fn begin_anew(&mut self, busy: u32, limits: &Concurrency) {
        let size = if busy > 0 { busy.min(limits.most()) } else { limits.first() };
        *self = Self { size, ..Self::new(limits) };
    }

    /// A delivery went well while there were `busy`, itself among them.
    pub(super) fn success(&mut self, busy: u32, limits: &Concurrency) {
        self.failed_cohorts = 0.0;
        // A window that is not used up says nothing of a larger one.
        if self.size >= limits.most() || self.size >= busy.saturating_add(limits.first()) {
            return;
        }
        let feedback = limits.positive.at(self.size);
        self.success += feedback;
        while self.success + feedback / 2.0 >= HYSTERESIS {
            self.size = self.size.saturating_add(1).min(limits.most());
            self.success -= HYSTERESIS;
            self.failure = 0.0;
        }
    }

    /// A delivery did not reach the destination; says whether it is dead with it.
    pub(super) fn failure(&mut self, limits: &Concurrency) -> bool {
        self.failed_cohorts += 1.0 / f64::from(self.size.max(1));
        if self.failed_cohorts >= f64::from(limits.failed_cohorts) - f64::EPSILON * 64.0 {
            return true;
        }
        self.failure -= limits.negative.at(self.size);
        while self.failure < 0.0 {
            self.size = self.size.saturating_sub(1).max(1);
            self.failure += HYSTERESIS;
            self.success = 0.0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(initial: u32, limit: u32, positive: &str, negative: &str, failed_cohorts: u32) -> Concurrency {
        Concurrency {
            initial,
            limit,
            positive: positive.parse().unwrap(),
            negative: negative.parse().unwrap(),
            failed_cohorts,
        }
    }

    /// Sizes after each of these ends: `+` with a full window, `-`.
    fn sizes(limits: &Concurrency, ends: &str) -> Vec<u32> {
        let mut window = Window::new(limits);
        ends.chars()
            .map(|end| {
                if end == '+' {
                    window.success(window.size, limits);
                } else if window.failure(limits) {
                    return 0;
                }
                window.size
            })
            .collect()
    }

    // Specification section 17.3.
    #[test]
    fn feedback_of_one_moves_the_window_by_one() {
        let standard = limits(5, 20, "1", "1", 1);
        assert_eq!(sizes(&standard, "++++"), [6, 7, 8, 9]);
        // 1/5 + 1/4 + 1/3 < 1, and 1/2 more is too much.
        assert_eq!(sizes(&standard, "----"), [4, 3, 2, 0]);
        assert_eq!(sizes(&limits(18, 20, "1", "1", 1), "++++"), [19, 20, 20, 20]);
        assert_eq!(sizes(&limits(1, 20, "1", "1", 1), "-"), [0]);
        assert_eq!(sizes(&limits(2, 0, "1", "1", 3), "--+--"), [1, 1, 2, 1, 1]);
    }

    // Specification section 17.3.
    #[test]
    fn feedback_by_concurrency_moves_it_by_one_for_each_window() {
        let gentle = limits(4, 20, "1/concurrency", "1/concurrency", 10);
        assert_eq!(sizes(&gentle, "+++++++++"), [4, 4, 4, 5, 5, 5, 5, 5, 6]);
        assert_eq!(sizes(&gentle, "-----"), [3, 3, 3, 2, 2]);
        let root = limits(4, 20, "1/sqrt_concurrency", "1", 1);
        assert_eq!(sizes(&root, "+++"), [4, 5, 5]);
    }

    // Specification section 17.3: window < busy + initial.
    #[test]
    fn a_window_that_is_not_used_up_does_not_grow() {
        let limits = limits(5, 20, "1", "1", 1);
        let mut window = Window::new(&limits);
        for _ in 0..10 {
            window.success(1, &limits);
        }
        assert_eq!(window.size(), 6);
    }

    #[test]
    fn a_success_forgets_failures() {
        let limits = limits(5, 20, "1", "0.1", 1);
        let mut window = Window::new(&limits);
        for _ in 0..1_000 {
            assert!(!window.failure(&limits));
            window.success(5, &limits);
        }
    }
}
