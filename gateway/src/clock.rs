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

/// The present on the wall clock, in milliseconds since 1970.
#[must_use]
pub fn wall_millis() -> u64 {
    let since = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The present in nanoseconds of `CLOCK_MONOTONIC`, by which the kernel program stamps.
#[must_use]
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanoseconds.unwrap_or(0))
}
