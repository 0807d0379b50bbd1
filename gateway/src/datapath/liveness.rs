//! Whether a process that says nothing hangs, or has only had no time to speak.
//!
//! A machine that does too much, or stood still itself (a snapshot, a migration), keeps words from
//! their time. To kill the proxy for that would cost all sessions and bring none of them forward. A
//! process that hangs gives itself away: it neither runs nor waits for a processor.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::clock;

/// Without a word for this long, a process is looked at.
const SUSPICION: Duration = Duration::from_millis(1_500);
/// And looked at again, after this time: then it hangs, or is seen to be busy.
const LOOK: Duration = Duration::from_millis(500);
/// The part of [`LOOK`] that a busy process has run, or waited for a processor.
const BUSY: Duration = Duration::from_millis(50);
/// However busy it is, it has to find the time for a word.
const LONGEST: Duration = Duration::from_secs(10);

/// The silence of one process.
#[derive(Debug)]
pub(super) struct Silence {
    /// When it last spoke.
    since: Instant,
    /// The last look at it, and the time it had had until then.
    look: Option<(Instant, Times)>,
}

impl Silence {
    /// It has just spoken.
    pub(super) fn broken() -> Self {
        Self { since: clock::now(), look: None }
    }

    /// When it last spoke.
    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// When to [`look`](Self::look) at it.
    pub(super) fn due(&self) -> Instant {
        self.look.as_ref().map_or(self.since + SUSPICION, |(at, _)| *at + LOOK)
    }

    /// How long it has been silent by now, if it hangs.
    pub(super) fn look(&mut self, times: Times) -> Option<Duration> {
        let now = clock::now();
        let silent = now.saturating_duration_since(self.since);
        let had = self.look.as_ref().map(|(_, before)| times.since(before));
        self.look = Some((now, times));
        let busy = had? >= BUSY;
        (!busy || silent >= LONGEST).then_some(silent)
    }
}

/// The time that each thread of a process has run or waited for a processor
/// (`Documentation/scheduler/sched-stats.rst`). The sum of all would fall when a thread ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Times(HashMap<u32, Duration>);

impl Times {
    /// Those of a process; none where the kernel does not tell.
    pub(super) fn of(pid: u32) -> Self {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let times = threads.filter_map(|thread| {
            let number = thread.file_name().to_str()?.parse().ok()?;
            Some((number, time_in(&fs::read_to_string(thread.path().join("schedstat")).ok()?)?))
        });
        Self(times.collect())
    }

    /// What threads that are there now have had since an earlier look.
    fn since(&self, before: &Self) -> Duration {
        let had = |(thread, time): (&u32, &Duration)| {
            time.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(had).sum()
    }
}

fn time_in(schedstat: &str) -> Option<Duration> {
    let mut nanoseconds = schedstat.split_ascii_whitespace().map(str::parse::<u64>);
    let (ran, waited) = (nanoseconds.next()?.ok()?, nanoseconds.next()?.ok()?);
    Some(Duration::from_nanos(ran).saturating_add(Duration::from_nanos(waited)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent_for(time: Duration) -> Silence {
        Silence { since: clock::now().checked_sub(time).unwrap(), look: None }
    }

    fn times(threads: &[(u32, Duration)]) -> Times {
        Times(threads.iter().copied().collect())
    }

    #[test]
    fn a_process_that_had_no_time_between_two_looks_hangs() {
        let mut silence = silent_for(SUSPICION);
        assert!(silence.due() <= clock::now());
        assert_eq!(silence.look(times(&[(1, Duration::from_secs(7))])), None);
        assert!(silence.due() > clock::now());
        assert!(silence.look(times(&[(1, Duration::from_secs(7) + BUSY / 2)])).unwrap() >= SUSPICION);
    }

    #[test]
    fn one_that_runs_or_waits_for_a_processor_is_given_ten_seconds() {
        for (silent, hangs) in [(SUSPICION, false), (LONGEST - LOOK, false), (LONGEST, true)] {
            let mut silence = silent_for(silent);
            assert_eq!(silence.look(times(&[(1, BUSY)])), None);
            assert_eq!(silence.look(times(&[(1, BUSY * 2)])).is_some(), hangs);
        }
    }

    #[test]
    fn a_thread_that_ends_takes_nothing_from_what_the_others_had() {
        let before = times(&[(1, BUSY), (2, 10 * BUSY)]);
        assert_eq!(times(&[(1, 2 * BUSY)]).since(&before), BUSY);
        assert_eq!(times(&[(1, BUSY), (3, BUSY)]).since(&before), BUSY);
        assert_eq!(Times::default().since(&before), Duration::ZERO);
    }

    #[test]
    fn the_times_of_a_process_are_those_of_its_threads() {
        let before = Times::of(std::process::id());
        let began = clock::now();
        while began.elapsed() < Duration::from_millis(20) {}
        assert!(Times::of(std::process::id()).since(&before) > Duration::ZERO);
        assert_eq!(Times::of(u32::MAX), Times::default());
        assert_eq!(time_in("1000 500 3\n"), Some(Duration::from_nanos(1_500)));
        assert_eq!(time_in("1000"), None);
        assert_eq!(time_in("a b c"), None);
    }
}
