//! The threads that serve sessions, one for each processor.
//!
//! Owns on which of them a session runs: on one, for all of its life. A runtime of several threads takes
//! tasks to whichever has nothing to do; threads are woken for that many times a message, only to find that
//! what a session has in a processor's cache is in another one's. What is no session (deliveries, the control
//! socket, the datapath process) is the other runtime's.

use std::io;
use std::num::NonZeroUsize;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// The threads; once dropped they have ended, and what ran on them with them.
#[derive(Debug)]
pub(super) struct Threads {
    all: Vec<(Handle, JoinHandle<()>)>,
    stop: watch::Sender<bool>,
}

impl Threads {
    /// Starts so many.
    ///
    /// # Errors
    ///
    /// When the system has no thread or no descriptor for one of them.
    pub(super) fn start(count: NonZeroUsize) -> io::Result<Self> {
        let mut threads = Self { all: Vec::new(), stop: watch::Sender::new(false) };
        for _ in 0..count.get() {
            let runtime = Builder::new_current_thread().enable_all().thread_name("proxy").build()?;
            let handle = runtime.handle().clone();
            let mut stop = threads.stop.subscribe();
            let serve = move || {
                // An error is the end of the sender, which is a stop as well.
                runtime.block_on(async { stop.wait_for(|stop| *stop).await.is_ok() });
            };
            threads.all.push((handle, thread::Builder::new().name("proxy".to_owned()).spawn(serve)?));
        }
        Ok(threads)
    }

    /// Where sessions can be put.
    pub(super) fn places(&self) -> Places {
        Places(self.all.iter().map(|(handle, _)| handle.clone()).collect())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for (_, thread) in self.all.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that served sessions has panicked");
            }
        }
    }
}

/// Where sessions can be put.
#[derive(Clone, Debug)]
pub(super) struct Places(Vec<Handle>);

impl Places {
    /// The thread that has the fewest tasks: this one, if there are several and the caller runs on it, because
    /// another one has to be woken. Outside of these threads it may be the caller's runtime, if there are none.
    pub(super) fn least_busy(&self) -> Handle {
        let here = Handle::current();
        let tasks = |handle: &&Handle| (handle.metrics().num_alive_tasks(), handle.id() != here.id());
        self.0.iter().min_by_key(tasks).cloned().unwrap_or(here)
    }

    /// One for each listener, in turn.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().cycle()
    }
}

/// Whether all threads still do what they are asked. One that does not stops its sessions, and perhaps a
/// listener, while the others seem well.
#[derive(Debug)]
pub(super) struct Pulse(Vec<(Handle, Asked)>);

/// The answer that one owes.
type Asked = tokio::task::JoinHandle<()>;

impl Pulse {
    /// Asks each of them.
    pub(super) fn of(places: &Places) -> Self {
        Self(places.0.iter().map(|thread| (thread.clone(), ask(thread))).collect())
    }

    /// Whether all have answered since they were asked; asks those again that have.
    pub(super) fn beats(&mut self) -> bool {
        let mut all = true;
        for (thread, asked) in &mut self.0 {
            if asked.is_finished() {
                *asked = ask(thread);
            } else {
                all = false;
            }
        }
        all
    }
}

fn ask(thread: &Handle) -> Asked {
    thread.spawn(async {})
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    #[test]
    fn tasks_are_spread_and_stay_where_they_are_put() {
        let threads = Threads::start(TWO).unwrap();
        let places = threads.places();
        let of = |handle: &Handle| places.0.iter().position(|place| place.id() == handle.id()).unwrap();
        let first = places.0[0].clone();
        let taken = first.block_on(async {
            let mut taken = Vec::new();
            for _ in 0..6 {
                let place = places.least_busy();
                place.spawn(pending::<()>());
                taken.push(of(&place));
            }
            taken
        });
        assert_eq!(taken, [0, 1, 0, 1, 0, 1], "in turn, and the caller's own thread first");
    }

    #[test]
    fn the_pulse_stops_while_one_thread_does_nothing_it_is_asked() {
        let threads = Threads::start(TWO).unwrap();
        let mut pulse = Pulse::of(&threads.places());
        let mut beats_within_a_second = || {
            (0..100).any(|_| {
                thread::sleep(Duration::from_millis(10));
                pulse.beats()
            })
        };
        assert!(beats_within_a_second());
        let (go_on, told) = std::sync::mpsc::channel::<()>();
        threads.places().0[1].spawn(async move { told.recv().is_ok() });
        // The last question may have been answered before.
        beats_within_a_second();
        assert!(!beats_within_a_second());
        go_on.send(()).unwrap();
        assert!(beats_within_a_second());
    }

    #[test]
    fn what_runs_ends_with_the_threads() {
        struct Told(std::sync::mpsc::Sender<&'static str>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send("ended").unwrap();
            }
        }
        let threads = Threads::start(TWO).unwrap();
        let (told, ended) = std::sync::mpsc::channel();
        for handle in threads.places().in_turn().take(2) {
            let told = Told(told.clone());
            handle.spawn(async move {
                pending::<()>().await;
                drop(told);
            });
        }
        drop(threads);
        assert_eq!(ended.try_iter().count(), 2);
    }
}
