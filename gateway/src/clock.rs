//! The only reader of the system's clocks.
//!
//! Everything that decides by time takes the time as an argument, so that tests can pass their
//! own. Intervals use the monotonic clock; records use the wall clock.

use std::time::{Instant, SystemTime};

/// The present, on the monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// The present, on the wall clock; for records only.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
