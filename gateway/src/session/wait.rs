//! What drivers of sessions wait for, where it may not be there.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Polling, Poll, Wake, Waker, ready};
use std::time::{Duration, Instant};

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

/// Wakes a task, and keeps that it has: what hangs on the bell need not be looked at in a step in which it
/// has not rung. A future that is looked at takes locks, and memory that has left the processor's cache since.
#[derive(Debug)]
struct Bell {
    ringer: Arc<Ringer>,
    /// The ringer, as those who ring have it.
    rope: Waker,
    /// Who hears it, to know when that is another one.
    task: Waker,
}

#[derive(Debug)]
struct Ringer {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        task.wake();
    }
}

impl Default for Bell {
    /// Has rung: nothing was looked at yet.
    fn default() -> Self {
        let task = Mutex::new(Waker::noop().clone());
        let ringer = Arc::new(Ringer { rung: AtomicBool::new(true), task });
        Self { rope: Waker::from(Arc::clone(&ringer)), ringer, task: Waker::noop().clone() }
    }
}

impl Bell {
    /// Whether it has rung since it was last asked. From here on it rings for this task.
    fn has_rung(&mut self, polling: &Polling<'_>) -> bool {
        if !self.task.will_wake(polling.waker()) {
            self.task.clone_from(polling.waker());
            self.ringer.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.task);
        }
        // The swap leaves a ring that comes later, and sees all that was done before one that came.
        self.ringer.rung.load(Ordering::Relaxed) && self.ringer.rung.swap(false, Ordering::AcqRel)
    }

    /// What hangs on it is to be looked at in the next step.
    fn is_due(&self) {
        self.ringer.rung.store(true, Ordering::Release);
    }

    fn rope(&self) -> Polling<'_> {
        Polling::from_waker(&self.rope)
    }
}

/// Wakes a session at its deadline, which is another one after every step.
///
/// Nearly all deadlines move away before they come. A timer that is set anew for each takes a lock
/// that all sessions share, twice a step; this one stays set for the earliest, and looks again when
/// that has come.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    bell: Bell,
}

impl Alarm {
    /// Returns once `deadline` has come.
    pub(super) async fn at(&mut self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => poll_fn(|polling| self.poll_at(deadline, polling)).await,
            None => pending().await,
        }
    }

    fn poll_at(&mut self, deadline: Instant, polling: &Polling<'_>) -> Poll<()> {
        let deadline = deadline.into();
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        let sooner = deadline < sleep.deadline();
        if sooner {
            sleep.as_mut().reset(deadline);
        }
        if !self.bell.has_rung(polling) && !sooner {
            return Poll::Pending;
        }
        loop {
            ready!(sleep.as_mut().poll(&mut self.bell.rope()));
            if deadline <= sleep.deadline() {
                self.bell.is_due();
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// Waits for those who may end a session at any time, and takes the locks that all sessions share for that
/// only when one of them has spoken.
pub(super) struct Told<'a> {
    /// None once somebody has ended the session.
    end: Option<Begun<'a, SessionEnd>>,
    bell: Bell,
}

impl<'a> Told<'a> {
    /// Waits for an operator who ends the session, and for the gateway to stop.
    pub(super) fn to_end(live: &'a OpenSession, context: &'a Context) -> Self {
        let mut stop = context.stop.clone();
        Self::by(async move {
            tokio::select! {
                () = live.ended_by_operator() => SessionEnd::Operator,
                _ = stop.wait_for(|stop| *stop) => SessionEnd::Shutdown,
            }
        })
    }

    fn by(end: impl Future<Output = SessionEnd> + Send + 'a) -> Self {
        Self { end: Some(Box::pin(end)), bell: Bell::default() }
    }

    /// Returns once somebody ends the session, and never after that.
    pub(super) async fn end(&mut self) -> SessionEnd {
        poll_fn(|polling| self.poll_end(polling)).await
    }

    fn poll_end(&mut self, polling: &Polling<'_>) -> Poll<SessionEnd> {
        if !self.bell.has_rung(polling) {
            return Poll::Pending;
        }
        let Some(end) = &mut self.end else { return Poll::Pending };
        let ended = ready!(end.as_mut().poll(&mut self.bell.rope()));
        self.end = None;
        Poll::Ready(ended)
    }
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

    #[tokio::test(start_paused = true)]
    async fn whoever_is_told_to_end_hears_it_once_and_from_any_task() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut told = Told::by(async { told.await.unwrap_or(SessionEnd::Error) });
        assert!(timeout(SECOND, told.end()).await.is_err(), "nobody has spoken");
        let (hears, heard) = tokio::sync::oneshot::channel();
        // It has waited in this task before: the bell is to ring in the other one.
        let waiting = async move {
            let end = told.end().await;
            let again = timeout(SECOND, told.end()).await.is_ok();
            hears.send((end, again)).unwrap();
        };
        tokio::spawn(waiting);
        tokio::task::yield_now().await;
        tell.send(SessionEnd::Operator).unwrap();
        assert_eq!(heard.await.unwrap(), (SessionEnd::Operator, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_between_two_looks_is_heard() {
        let notify = tokio::sync::Notify::new();
        let mut told = Told::by(async {
            notify.notified().await;
            notify.notified().await;
            SessionEnd::Operator
        });
        for _ in 0..2 {
            assert!(timeout(SECOND, told.end()).await.is_err(), "too early");
            notify.notify_one();
        }
        assert_eq!(timeout(SECOND, told.end()).await, Ok(SessionEnd::Operator));
    }
}
