//! Waiting for something, but not for ever.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

/// Between two looks.
const STEP: Duration = Duration::from_millis(20);

/// A point in time after which something counts as failed.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The point `limit` from the present.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self(now() + limit)
    }

    /// Time left; nothing when it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// The present, to measure how long something takes.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the rig runs beside the gateway and has no clock of its to borrow"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Looks until `probe` finds something.
///
/// # Errors
///
/// What `probe` fails with, or that `what` did not happen within `limit`.
pub fn until<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if deadline.passed() {
            bail!("{what} did not happen within {limit:?}");
        }
        thread::sleep(STEP);
    }
}

/// Appends what the other side sends next to `unread`; says how many octets came, `None` when it has closed or `stop`
/// is set. How soon that is seen is the read timeout of `stream`.
pub fn receive(stream: &mut TcpStream, unread: &mut Vec<u8>, stop: &AtomicBool) -> Option<usize> {
    let mut buffer = [0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => {
                unread.extend_from_slice(buffer.get(..count).unwrap_or_default());
                return Some(count);
            }
            // A read with a time limit is not taken up again after a signal (signal(7)).
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => return None,
        }
    }
    None
}
