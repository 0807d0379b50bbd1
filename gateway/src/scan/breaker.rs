//! When a scanner that is not there is left alone. Pure: told the time, except by a scan that is
//! cancelled.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::file::CircuitBreaker;

/// Whether scans reach a scanner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Circuit {
    /// They do.
    #[default]
    Closed,
    /// The scanner is left alone for so long.
    Open(Duration),
    /// One message tries it, or will.
    HalfOpen,
}

/// Counts the failures in a row of one scanner.
#[derive(Debug)]
pub(super) struct Breaker {
    rules: CircuitBreaker,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One scan is on its way, and the others wait for what comes of it.
    Trying {
        pause: Duration,
    },
}

/// Whether a scan may begin.
pub(super) enum Admission<'a> {
    Granted(Trial<'a>),
    /// The scanner is left alone for so long.
    Refused(Duration),
}

/// A scan that was let through. Dropped untold, as when it is cancelled, it says nothing.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    breaker: &'a Breaker,
    /// The one scan by which a scanner is tried again, and when it began.
    probe: Option<Instant>,
}

/// A change that operators hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened(Duration),
    Closed,
}

impl Breaker {
    pub(super) const fn new(rules: CircuitBreaker) -> Self {
        Self { rules, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether scans may begin as they like.
    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.state(), State::Closed { .. })
    }

    /// Asks to begin a scan at `now`.
    pub(super) fn admit(&self, now: Instant) -> Admission<'_> {
        let mut state = self.state();
        match *state {
            State::Closed { .. } => Admission::Granted(Trial { breaker: self, probe: None }),
            State::Open { until, pause } if until <= now => {
                *state = State::Trying { pause };
                Admission::Granted(Trial { breaker: self, probe: Some(now) })
            }
            State::Open { until, .. } => Admission::Refused(until.saturating_duration_since(now)),
            State::Trying { .. } => Admission::Refused(Duration::ZERO),
        }
    }

    /// The scanner passes a check of its health, as it did not before: it is tried at once.
    pub(super) fn came_back(&self, now: Instant) {
        let mut state = self.state();
        if let State::Open { until, .. } = &mut *state {
            *until = now.min(*until);
        }
    }

    /// How it is at `now`.
    pub(super) fn view(&self, now: Instant) -> Circuit {
        let state = *self.state();
        match state {
            State::Closed { .. } => Circuit::Closed,
            State::Open { until, .. } if until > now => Circuit::Open(until.saturating_duration_since(now)),
            State::Open { .. } | State::Trying { .. } => Circuit::HalfOpen,
        }
    }
}

impl Trial<'_> {
    /// The scanner answered.
    pub(super) fn succeeded(mut self) -> Option<Change> {
        self.probe = None;
        let mut state = self.breaker.state();
        let was_closed = matches!(*state, State::Closed { .. });
        *state = State::Closed { failures: 0 };
        (!was_closed).then_some(Change::Closed)
    }

    /// The scanner was not there at `now`.
    pub(super) fn failed(mut self, now: Instant) -> Option<Change> {
        let probe = self.probe.take();
        let rules = &self.breaker.rules;
        let mut state = self.breaker.state();
        match (*state, probe) {
            (State::Closed { failures }, _) => {
                let failures = failures.saturating_add(1);
                if rules.failures == 0 || failures < rules.failures {
                    *state = State::Closed { failures };
                    return None;
                }
                let pause = rules.pause.duration();
                *state = State::Open { until: later(now, pause), pause };
                Some(Change::Opened(pause))
            }
            (State::Trying { pause }, Some(_)) => {
                let pause = pause.saturating_mul(2).min(rules.longest_pause.duration());
                *state = State::Open { until: later(now, pause), pause };
                None
            }
            // It was let through before; the scan that tries says what counts.
            (State::Trying { .. }, None) | (State::Open { .. }, _) => None,
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let Some(until) = self.probe.take() else { return };
        let mut state = self.breaker.state();
        if let State::Trying { pause } = *state {
            // The next message tries.
            *state = State::Open { until, pause };
        }
    }
}

fn later(now: Instant, pause: Duration) -> Instant {
    now.checked_add(pause).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::config::units::Span;

    fn breaker() -> Breaker {
        let (pause, longest_pause) = (Span::seconds(10), Span::seconds(30));
        Breaker::new(CircuitBreaker { failures: 3, pause, longest_pause })
    }

    fn trial(breaker: &Breaker, now: Instant) -> Trial<'_> {
        match breaker.admit(now) {
            Admission::Granted(trial) => trial,
            Admission::Refused(left) => panic!("left alone for {left:?}"),
        }
    }

    fn is_refused(breaker: &Breaker, now: Instant) -> bool {
        matches!(breaker.admit(now), Admission::Refused(_))
    }

    fn fail(breaker: &Breaker, times: usize, now: Instant) {
        for _ in 0..times {
            trial(breaker, now).failed(now);
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not_let_them() {
        let (breaker, now) = (breaker(), clock::now());
        for _ in 0..5 {
            assert_eq!(trial(&breaker, now).failed(now), None);
            assert_eq!(trial(&breaker, now).failed(now), None);
            assert_eq!(trial(&breaker, now).succeeded(), None);
        }
        assert_eq!(trial(&breaker, now).failed(now), None);
        assert_eq!(trial(&breaker, now).failed(now), None);
        assert_eq!(trial(&breaker, now).failed(now), Some(Change::Opened(10 * SECOND)));
        assert!(is_refused(&breaker, now + 9 * SECOND));
        assert_eq!(breaker.view(now + 9 * SECOND), Circuit::Open(SECOND));
    }

    #[test]
    fn one_scan_tries_and_its_end_decides_for_all() {
        let (breaker, mut now) = (breaker(), clock::now());
        fail(&breaker, 3, now);
        for pause in [20, 30, 30] {
            now += 30 * SECOND;
            let probe = trial(&breaker, now);
            assert_eq!(breaker.view(now), Circuit::HalfOpen);
            assert!(is_refused(&breaker, now), "only one tries");
            assert_eq!(probe.failed(now), None);
            assert_eq!(breaker.view(now), Circuit::Open(pause * SECOND));
        }
        now += 30 * SECOND;
        assert_eq!(trial(&breaker, now).succeeded(), Some(Change::Closed));
        assert_eq!(breaker.view(now), Circuit::Closed);
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_cancelled_try_leaves_it_to_the_next() {
        let (breaker, now) = (breaker(), clock::now());
        fail(&breaker, 3, now);
        let later = now + 10 * SECOND;
        drop(trial(&breaker, later));
        assert_eq!(trial(&breaker, later).succeeded(), Some(Change::Closed));
    }

    #[test]
    fn a_good_check_ends_the_pause_early() {
        let (breaker, now) = (breaker(), clock::now());
        fail(&breaker, 3, now);
        assert!(is_refused(&breaker, now));
        breaker.came_back(now);
        assert_eq!(trial(&breaker, now).succeeded(), Some(Change::Closed));
    }

    #[test]
    fn scans_of_before_neither_hurt_nor_lengthen_it_but_their_answers_count() {
        let (breaker, now) = (breaker(), clock::now());
        let (old, older, oldest) = (trial(&breaker, now), trial(&breaker, now), trial(&breaker, now));
        fail(&breaker, 3, now);
        assert_eq!(old.failed(now + SECOND), None);
        assert_eq!(breaker.view(now), Circuit::Open(10 * SECOND));
        let probe = trial(&breaker, now + 10 * SECOND);
        assert_eq!(older.failed(now + 10 * SECOND), None);
        assert!(is_refused(&breaker, now + 10 * SECOND), "the try goes on");
        assert_eq!(oldest.succeeded(), Some(Change::Closed));
        assert_eq!(probe.succeeded(), None);
    }

    #[test]
    fn none_is_left_alone_where_that_is_switched_off() {
        let breaker = Breaker::new(CircuitBreaker { failures: 0, ..CircuitBreaker::default() });
        let now = clock::now();
        (0..1_000).for_each(|_| assert_eq!(trial(&breaker, now).failed(now), None));
        assert!(breaker.is_closed());
    }
}
