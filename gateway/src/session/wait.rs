//! What drivers of sessions wait for, where it may not be there.

use std::future::pending;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::copy::{Judged, MessageCopy};

/// A future that was begun.
pub(super) type Begun<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What comes of `future`; nothing ever where there is none.
pub(super) async fn opt<T>(future: Option<&mut Begun<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// The next result of the scanners.
pub(super) async fn judged(message: Option<&mut MessageCopy>, patience: Duration) -> Judged {
    match message {
        Some(message) if message.awaits_verdict() => message.next(patience).await,
        _ => pending().await,
    }
}

/// Waits for a deadline.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
