//! What drivers of sessions wait for, where it may not be there.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::{Context as Polling, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use tokio::time::{Sleep, sleep_until};

use super::Context;
use super::copy::{Judged, MessageCopy};
use super::table::OpenSession;
use crate::outcome::SessionEnd;

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

/// Wakes a session at its deadline, which is another one after every step.
///
/// Nearly all deadlines move away before they come. A timer that is set anew for each takes a lock
/// that all sessions share, twice a step; this one stays set for the earliest, and looks again when
/// that has come.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Returns once `deadline` has come.
    pub(super) async fn at(&mut self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => poll_fn(|polling| self.poll_at(deadline, polling)).await,
            None => pending().await,
        }
    }

    fn poll_at(&mut self, deadline: Instant, polling: &mut Polling<'_>) -> Poll<()> {
        let deadline = deadline.into();
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(polling));
            if deadline <= sleep.deadline() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// Those who may end a session at any time, as a stream of one: it is polled when one of them has
/// spoken, where a future would be at every step, and take locks that all sessions share.
pub(super) fn told_to_end<'a>(
    live: &'a OpenSession,
    context: &'a Context,
) -> FuturesUnordered<impl Future<Output = SessionEnd> + 'a> {
    let mut stop = context.stop.clone();
    FuturesUnordered::from_iter([async move {
        tokio::select! {
            () = live.ended_by_operator() => SessionEnd::Operator,
            _ = stop.wait_for(|stop| *stop) => SessionEnd::Shutdown,
        }
    }])
}

#[cfg(test)]
mod tests {
    use tokio::time::{self, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Waits for an alarm that was set to the first of these times from the beginning, and is then set to the
    /// second; returns after how long it went off.
    async fn moved(from: Duration, to: Duration) -> Duration {
        let began = time::Instant::now();
        let at = |after| Some((began + after).into_std());
        let mut alarm = Alarm::default();
        assert!(timeout(SECOND, alarm.at(at(from))).await.is_err(), "too early");
        alarm.at(at(to)).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_goes_off_at_the_deadline_that_it_was_given_last() {
        // The clock of tokio's timers has whole milliseconds.
        let is_at = |went_off: Duration, seconds: u32| {
            went_off >= SECOND * seconds && went_off < SECOND * seconds + Duration::from_millis(10)
        };
        for (from, to) in [(5, 60), (60, 5), (5, 5)] {
            let went_off = moved(SECOND * from, SECOND * to).await;
            assert!(is_at(went_off, to), "{from} to {to}: {went_off:?}");
        }
        assert!(is_at(moved(SECOND * 60, Duration::ZERO).await, 1), "its time has passed");
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_has_gone_off_can_be_set_again() {
        let began = time::Instant::now();
        let mut alarm = Alarm::default();
        for seconds in [1, 2, 5] {
            alarm.at(Some((began + SECOND * seconds).into_std())).await;
            assert!(began.elapsed() >= SECOND * seconds);
        }
    }
}
