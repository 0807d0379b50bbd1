//! Time limits: one for each stage, as a whole or between signs of life.

use std::time::{Duration, Instant};

use super::{Rules, Stage};

/// How long the present stage has lasted.
#[derive(Debug)]
pub(super) struct Clock {
    stage: Stage,
    limit: Duration,
    since: Instant,
    /// Nothing is waited for but the driver, since then.
    idle: Option<Instant>,
}

impl Clock {
    pub(super) const fn new(now: Instant) -> Self {
        Self { stage: Stage::Connect, limit: Duration::ZERO, since: now, idle: None }
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) const fn enter(&mut self, stage: Stage, limit: Duration, now: Instant) {
        *self = Self { stage, limit, since: now, idle: None };
    }

    /// Nothing is waited for any more.
    pub(super) const fn stop(&mut self) {
        self.limit = Duration::ZERO;
    }

    /// `None` where there is no limit.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.limit.is_zero() || self.idle.is_some() {
            return None;
        }
        self.since.checked_add(self.limit)
    }

    /// Octets came or went, `sent` of the latter.
    pub(super) fn progress(&mut self, sent: usize, rules: &Rules, now: Instant) {
        if !rules.request_deadline {
            if self.stage != Stage::Pause {
                self.since = now;
            }
        } else if self.stage == Stage::Text {
            // A text earns time as it moves, but never more than the limit.
            let sent = u64::try_from(sent).unwrap_or(u64::MAX).saturating_mul(1_000);
            let earned = sent.checked_div(u64::from(rules.min_data_rate)).unwrap_or_default();
            let earned = Duration::from_millis(earned);
            self.since = self.since.checked_add(earned).map_or(now, |since| since.min(now));
        }
    }

    /// The clock stands still while the driver, not the server, is waited for.
    pub(super) fn set_idle(&mut self, idle: bool, now: Instant) {
        match self.idle {
            None if idle => self.idle = Some(now),
            Some(stopped) if !idle => {
                self.idle = None;
                let stood = now.saturating_duration_since(stopped);
                self.since = self.since.checked_add(stood).unwrap_or(now);
            }
            None | Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::smtp::client::Protocol;

    const LIMIT: Duration = Duration::from_secs(100);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rules(request_deadline: bool) -> Rules {
        Rules { request_deadline, min_data_rate: 500, ..Rules::new(Protocol::Smtp, "gw.test") }
    }

    #[test]
    fn a_drip_does_not_move_the_limit_of_a_whole_stage() {
        let start = clock::now();
        let mut clock = Clock::new(start);
        clock.enter(Stage::Rcpt, LIMIT, start);
        clock.progress(1, &rules(true), start + seconds(60));
        assert_eq!(clock.deadline(), Some(start + LIMIT));
        clock.progress(1, &rules(false), start + seconds(60));
        assert_eq!(clock.deadline(), Some(start + seconds(160)));
    }

    #[test]
    fn a_text_earns_time_as_it_moves_and_never_more_than_the_limit() {
        let start = clock::now();
        let mut clock = Clock::new(start);
        clock.enter(Stage::Text, LIMIT, start);
        clock.progress(5_000, &rules(true), start + seconds(50));
        assert_eq!(clock.deadline(), Some(start + seconds(110)));
        clock.progress(1_000_000, &rules(true), start + seconds(50));
        assert_eq!(clock.deadline(), Some(start + seconds(150)));
    }

    #[test]
    fn the_clock_stands_still_while_the_driver_reads_the_text() {
        let start = clock::now();
        let mut clock = Clock::new(start);
        clock.enter(Stage::Text, LIMIT, start);
        clock.set_idle(true, start + seconds(10));
        clock.set_idle(true, start + seconds(20));
        assert_eq!(clock.deadline(), None);
        clock.set_idle(false, start + seconds(1_000));
        assert_eq!(clock.deadline(), Some(start + seconds(990) + LIMIT));
    }

    #[test]
    fn no_limit_is_no_deadline() {
        let mut clock = Clock::new(clock::now());
        clock.enter(Stage::Connect, Duration::ZERO, clock::now());
        assert_eq!(clock.deadline(), None);
    }
}
