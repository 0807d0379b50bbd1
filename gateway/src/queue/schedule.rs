//! Which delivery is next, and how many there are at once.
//!
//! Owns the order of destinations and what each of them can bear. Pure: the time is an argument, and
//! what a destination is, and why one is in trouble, is for the caller to say. Each decision costs at
//! most the logarithm of the number of destinations; what is remembered of destinations without mail has
//! a ceiling.
//!
//! Fair by construction: destinations take turns, and so do the messages of one destination, each with as
//! many recipients as one delivery may have. No destination has more than half of all places, so
//! that one that hangs never holds the others.

mod destination;
mod feedback;
mod retry;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::QueueId;
use destination::{Destination, Place};

pub use feedback::{BadFeedback, Feedback};
pub use retry::{Next, Retry};
pub use window::Concurrency;

/// How long a destination without mail is remembered: its window, and when its last delivery was.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many of them are.
const MOST_REMEMBERED: usize = 65_536;

/// What a destination can bear. Those of one transport share it.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// How many deliveries it may have at once.
    pub concurrency: Concurrency,
    /// Recipients of one delivery; 0: any number.
    pub recipients: usize,
    /// How long it is left alone when it is in trouble.
    pub dead: Duration,
    /// The time between two deliveries, which then never run at once; zero: none.
    pub rate_delay: Duration,
}

/// Some recipients of a message that go to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The message.
    pub message: QueueId,
    /// Places of the recipients in its envelope.
    pub recipients: VecDeque<u32>,
}

/// A job that is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where it goes.
    pub destination: Arc<str>,
    /// What it brings.
    pub job: Job,
    /// The last delivery to this destination ended when, if that is not long ago: its connection may
    /// still be open.
    pub last: Option<Instant>,
    /// More mail is waiting for this destination: the connection is worth keeping.
    pub more: bool,
}

/// What a delivery showed of its destination, whatever became of the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Showed<R> {
    /// It can be talked to.
    Health,
    /// It cannot, for this reason.
    Trouble(R),
}

/// All deliveries that are waiting or under way. `R` is the reason why a destination is in trouble.
pub struct Schedule<R> {
    /// How many deliveries may be under way.
    places: u32,
    busy: u32,
    /// Recipients that are waiting.
    recipients: usize,
    destinations: HashMap<Arc<str>, Destination<R>>,
    /// Those that may have a delivery now, in the order of their turns.
    turns: BTreeMap<u64, Arc<str>>,
    next_turn: u64,
    /// Those that may have one at that time.
    paused: BTreeSet<(Instant, Arc<str>)>,
    /// Those without mail, and when they are forgotten.
    idle: BTreeSet<(Instant, Arc<str>)>,
}

impl<R> fmt::Debug for Schedule<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule")
            .field("busy", &self.busy)
            .field("recipients", &self.recipients)
            .field("destinations", &self.destinations.len())
            .finish_non_exhaustive()
    }
}

impl<R: Clone> Schedule<R> {
    /// A schedule that has up to `places` deliveries under way.
    #[must_use]
    pub fn new(places: u32) -> Self {
        Self {
            places: places.max(1),
            busy: 0,
            recipients: 0,
            destinations: HashMap::new(),
            turns: BTreeMap::new(),
            next_turn: 0,
            paused: BTreeSet::new(),
            idle: BTreeSet::new(),
        }
    }

    /// Recipients that are waiting for a delivery: the caller takes messages out of the queue while
    /// they are few.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.recipients
    }

    /// Deliveries that are under way.
    #[must_use]
    pub const fn busy(&self) -> u32 {
        self.busy
    }

    /// Adds a job for `destination`. A destination has the limits with which it was added first.
    ///
    /// # Errors
    ///
    /// The destination is in trouble, for this reason, and left alone: the job is to be deferred.
    pub fn add(&mut self, destination: &str, limits: &Arc<Limits>, job: Job, now: Instant) -> Result<(), R> {
        let share = self.places.div_ceil(2);
        let key: Arc<str> = self
            .destinations
            .get_key_value(destination)
            .map_or_else(|| destination.into(), |(key, _)| Arc::clone(key));
        let entry = self
            .destinations
            .entry(Arc::clone(&key))
            .or_insert_with(|| Destination::new(Arc::clone(limits), share));
        if let Some(reason) = entry.trouble(now) {
            return Err(reason.clone());
        }
        if !job.recipients.is_empty() {
            self.recipients = self.recipients.saturating_add(job.recipients.len());
            entry.waiting.push_back(job);
        }
        self.file(&key, now);
        Ok(())
    }

    /// The delivery that is to begin now, if there is one and a place for it. Each one is to be ended with
    /// [`Self::done`].
    pub fn next(&mut self, now: Instant) -> Option<Delivery> {
        self.wake(now);
        if self.busy >= self.places {
            return None;
        }
        let (_, key) = self.turns.pop_first()?;
        let entry = self.destinations.get_mut(&key)?;
        entry.place = Place::Nowhere;
        let job = entry.begin()?;
        let delivery = Delivery {
            destination: Arc::clone(&key),
            last: entry.last_end.filter(|last| now.saturating_duration_since(*last) < REMEMBERED),
            more: !entry.waiting.is_empty(),
            job,
        };
        self.busy = self.busy.saturating_add(1);
        self.recipients = self.recipients.saturating_sub(delivery.job.recipients.len());
        self.file(&key, now);
        Some(delivery)
    }

    /// Notes that a delivery has ended. Returns the jobs that are given up with it, because the
    /// destination is left alone from now on: they are to be deferred for the same reason.
    pub fn done(&mut self, destination: &str, showed: Showed<R>, now: Instant) -> Vec<Job> {
        let Some((key, entry)) = self.destinations.get_key_value(destination) else { return Vec::new() };
        if entry.busy == 0 {
            return Vec::new();
        }
        let key = Arc::clone(key);
        let Some(entry) = self.destinations.get_mut(&key) else { return Vec::new() };
        let dropped = entry.end(showed, now);
        let recipients = dropped.iter().map(|job| job.recipients.len()).sum();
        self.recipients = self.recipients.saturating_sub(recipients);
        self.busy = self.busy.saturating_sub(1);
        self.file(&key, now);
        self.forget_surplus();
        dropped
    }

    /// Notes that an operator wants this destination to be tried: it is not left alone any more.
    pub fn flush(&mut self, destination: &str, now: Instant) {
        let Some((key, _)) = self.destinations.get_key_value(destination) else { return };
        let key = Arc::clone(key);
        if let Some(entry) = self.destinations.get_mut(&key) {
            entry.revive();
        }
        self.file(&key, now);
    }

    /// The same for all destinations.
    pub fn flush_all(&mut self, now: Instant) {
        let keys: Vec<_> = self.destinations.keys().cloned().collect();
        for key in keys {
            self.flush(&key, now);
        }
    }

    /// When [`Self::next`] may have a delivery that it has not now, though none ends.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.paused.first().map(|(at, _)| *at)
    }

    /// Lets those go on whose time has come, and forgets others.
    fn wake(&mut self, now: Instant) {
        while let Some((at, _)) = self.paused.first()
            && *at <= now
        {
            let Some((_, key)) = self.paused.pop_first() else { break };
            if let Some(entry) = self.destinations.get_mut(&key) {
                entry.place = Place::Nowhere;
            }
            self.file(&key, now);
        }
        while let Some((at, _)) = self.idle.first()
            && *at <= now
        {
            let Some((_, key)) = self.idle.pop_first() else { break };
            self.destinations.remove(&key);
        }
    }

    fn forget_surplus(&mut self) {
        while self.idle.len() > MOST_REMEMBERED {
            let Some((_, key)) = self.idle.pop_first() else { break };
            self.destinations.remove(&key);
        }
    }

    /// Puts a destination where it belongs. One that has its turn to come keeps it.
    fn file(&mut self, key: &Arc<str>, now: Instant) {
        let Some(entry) = self.destinations.get_mut(key) else { return };
        let wanted = entry.wants(now);
        match (entry.place, wanted) {
            (Place::Turn(_), destination::Wants::Turn) => return,
            (Place::Turn(turn), _) => drop(self.turns.remove(&turn)),
            (Place::Paused(at), _) => drop(self.paused.remove(&(at, Arc::clone(key)))),
            (Place::Idle(at), _) => drop(self.idle.remove(&(at, Arc::clone(key)))),
            (Place::Nowhere, _) => {}
        }
        entry.place = match wanted {
            destination::Wants::Nothing => Place::Nowhere,
            destination::Wants::Turn => {
                let turn = self.next_turn;
                self.next_turn = turn.wrapping_add(1);
                self.turns.insert(turn, Arc::clone(key));
                Place::Turn(turn)
            }
            destination::Wants::Pause(until) => {
                self.paused.insert((until, Arc::clone(key)));
                Place::Paused(until)
            }
            destination::Wants::Rest(until) => {
                self.idle.insert((until, Arc::clone(key)));
                Place::Idle(until)
            }
        };
    }
}
