//! What systemd is told, where it wants to know (`sd_notify(3)`).

use sd_notify::NotifyState;
use tracing::debug;

use crate::datapath::supervise::START;

/// Tells systemd, where it wants to know (`sd_notify(3)`).
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "cannot notify systemd");
    }
}

pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "cannot notify systemd"),
    }
}

/// The start goes on, and is not to be given up.
pub(super) fn notify_starting() {
    let microseconds = u32::try_from(START.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::ExtendTimeoutUsec(microseconds)]);
}
