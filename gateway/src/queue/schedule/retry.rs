//! When a message is tried again, when its sender is warned, and when it is given up.

use std::time::Duration;

/// The operator's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The least time between two attempts.
    pub minimal_backoff: Duration,
    /// The longest.
    pub maximal_backoff: Duration,
    /// The age from which on a message is returned; zero: after its first attempt.
    pub lifetime: Duration,
    /// The same for messages with an empty sender; at most `lifetime`.
    pub bounce_lifetime: Duration,
    /// The age from which on the sender is told that it takes longer; zero: he never is.
    pub delay_warning: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let five_days = Duration::from_secs(5 * 24 * 60 * 60);
        Self {
            minimal_backoff: Duration::from_secs(300),
            maximal_backoff: Duration::from_secs(4_000),
            lifetime: five_days,
            bounce_lifetime: five_days,
            delay_warning: Duration::ZERO,
        }
    }
}

/// What is done with a message that an attempt has not got rid of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is returned to its sender.
    Expired,
    /// It is tried again.
    Again {
        /// After this time.
        after: Duration,
        /// The sender is told now.
        warn: bool,
    },
}

impl Retry {
    /// What is done with a message of this age after an attempt. Pauses grow with its age, so that each is
    /// about as long as all before it (Postfix's queue manager).
    #[must_use]
    pub fn next(&self, age: Duration, sender_is_empty: bool, warned: bool) -> Next {
        let lifetime = if sender_is_empty { self.bounce_lifetime.min(self.lifetime) } else { self.lifetime };
        if age >= lifetime {
            return Next::Expired;
        }
        // Not `clamp`, which takes no minimum above the maximum.
        let after = age.min(self.maximal_backoff).max(self.minimal_backoff);
        let late = !self.delay_warning.is_zero() && age >= self.delay_warning;
        Next::Again { after, warn: late && !warned && !sender_is_empty }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn again(after: u64, warn: bool) -> Next {
        Next::Again { after: seconds(after), warn }
    }

    // Specification section 17.2.
    #[test]
    fn pauses_are_as_long_as_the_message_is_old_within_limits() {
        let retry = Retry::default();
        for (age, after) in [(0, 300), (299, 300), (301, 301), (2_000, 2_000), (9_999, 4_000)] {
            assert_eq!(retry.next(seconds(age), false, false), again(after, false), "{age}");
        }
        let reversed = Retry { minimal_backoff: seconds(50), maximal_backoff: seconds(10), ..retry };
        assert_eq!(reversed.next(seconds(20), false, false), again(50, false));
    }

    // Specification section 17.2.
    #[test]
    fn a_message_is_given_up_when_it_is_too_old() {
        let retry = Retry { lifetime: seconds(1_000), bounce_lifetime: seconds(500), ..Retry::default() };
        for (age, sender_is_empty, next) in [
            (999, false, again(999, false)),
            (1_000, false, Next::Expired),
            (499, true, again(499, false)),
            (500, true, Next::Expired),
        ] {
            assert_eq!(retry.next(seconds(age), sender_is_empty, false), next, "{age}");
        }
        let longer = Retry { bounce_lifetime: seconds(5_000), ..retry };
        assert_eq!(longer.next(seconds(1_000), true, false), Next::Expired);
        let once = Retry { lifetime: Duration::ZERO, ..retry };
        assert_eq!(once.next(Duration::ZERO, false, false), Next::Expired);
    }

    // Specification section 18: once, when delay_warning_time is over.
    #[test]
    fn a_sender_is_warned_once() {
        let retry = Retry { delay_warning: seconds(600), ..Retry::default() };
        for (age, sender_is_empty, warned, warn) in [
            (599, false, false, false),
            (600, false, false, true),
            (900, false, true, false),
            (900, true, false, false),
        ] {
            assert_eq!(retry.next(seconds(age), sender_is_empty, warned), again(age.max(300), warn));
        }
    }
}
