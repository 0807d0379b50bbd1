//! Questions that were recorded and are sent again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Nonce;

/// How far the clocks of gateway and router may differ.
pub const SKEW: Duration = Duration::from_secs(30);
/// How long a nonce is known at least: a question with the latest time that is taken may come again
/// for so long.
const KNOWN: Duration = Duration::from_secs(60);
/// Nonces of that time: more than 4,000 questions a second for a whole minute.
const CEILING: usize = 1 << 18;

/// Why a question is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its time is not the present.
    #[error("asked at another time: is a clock wrong?")]
    Time,
    /// It was answered already.
    #[error("asked before")]
    Repeated,
    /// Too many questions are known.
    #[error("too many questions")]
    Full,
}

/// The questions that were answered lately.
#[derive(Debug)]
pub struct Recent {
    present: HashSet<Nonce>,
    past: HashSet<Nonce>,
    turned: Instant,
}

impl Recent {
    /// None yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { present: HashSet::new(), past: HashSet::new(), turned: now }
    }

    /// Takes a question that says it was `sent` at that time; `wall` is the time here, both in
    /// milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn take(&mut self, nonce: Nonce, sent: u64, wall: u64, now: Instant) -> Result<(), Refused> {
        if u128::from(sent.abs_diff(wall)) > SKEW.as_millis() {
            return Err(Refused::Time);
        }
        let age = now.saturating_duration_since(self.turned);
        if age >= KNOWN {
            let old = std::mem::take(&mut self.present);
            self.past = if age < KNOWN * 2 { old } else { HashSet::new() };
            self.turned = now;
        }
        if self.past.contains(&nonce) || self.present.contains(&nonce) {
            return Err(Refused::Repeated);
        }
        if self.present.len() >= CEILING {
            return Err(Refused::Full);
        }
        self.present.insert(nonce);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const WALL: u64 = 1_800_000_000_000;

    fn nonce(number: u128) -> Nonce {
        Nonce(number.to_be_bytes())
    }

    #[test]
    fn a_question_is_answered_once() {
        let now = clock::now();
        let mut recent = Recent::new(now);
        assert_eq!(recent.take(nonce(1), WALL, WALL, now), Ok(()));
        assert_eq!(recent.take(nonce(2), WALL, WALL, now), Ok(()));
        assert_eq!(recent.take(nonce(1), WALL, WALL, now), Err(Refused::Repeated));
    }

    #[test]
    fn whenever_a_recorded_question_still_has_the_right_time_it_is_known() {
        let start = clock::now();
        // From the earliest to the latest time that the gateway's clock may show.
        for skew in [-30_000_i64, 0, 30_000] {
            for first in [0, 1, 59, 60, 61, 119] {
                let mut recent = Recent::new(start);
                let at = |second: u64| (WALL + second * 1000, start + Duration::from_secs(second));
                let sent = WALL + first * 1000;
                let sent = sent.saturating_add_signed(skew);
                let (wall, now) = at(first);
                assert_eq!(recent.take(nonce(7), sent, wall, now), Ok(()));
                for second in first..first + 200 {
                    let (wall, now) = at(second);
                    recent.take(nonce(u128::from(second) + 1000), wall, wall, now).unwrap();
                    assert!(recent.take(nonce(7), sent, wall, now).is_err(), "{skew} {first} {second}");
                }
            }
        }
    }

    #[test]
    fn a_question_of_another_time_is_refused() {
        let now = clock::now();
        let mut recent = Recent::new(now);
        for sent in [0, WALL - 30_001, WALL + 30_001, u64::MAX] {
            assert_eq!(recent.take(nonce(1), sent, WALL, now), Err(Refused::Time), "{sent}");
        }
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let now = clock::now();
        let mut recent = Recent::new(now);
        for number in 0..u128::try_from(CEILING).unwrap() {
            recent.take(nonce(number), WALL, WALL, now).unwrap();
        }
        assert_eq!(recent.take(nonce(u128::MAX), WALL, WALL, now), Err(Refused::Full));
        let later = now + KNOWN;
        assert_eq!(recent.take(nonce(u128::MAX), WALL, WALL, later), Ok(()));
    }
}
