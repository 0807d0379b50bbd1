//! What empties the queue: takes what is due, has it delivered, and sees that each message ends.
//!
//! Owns what is under way. Which delivery is next is [`Schedule`]'s to say, how one goes `courier`'s, and what
//! follows from it `closing`'s. A message that is under way when the process ends is due again in the next one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{sleep_until, timeout};

mod active;
mod errand;
#[cfg(test)]
mod tests;

use active::Active;
use errand::{Event, Failed};

use super::courier::{Errand, Fate};
use super::office::{Asked, Office, Sent, Subject};
use super::transport::PLACES;
use crate::clock;
use crate::queue::schedule::{Delivery, Job, Schedule, Showed};
use crate::queue::{QueueId, ReadError, Stored};
use crate::smtp::client::{Outcome, Report};
use crate::telemetry::Trouble;

/// Messages under way at most (`qmgr_message_active_limit` of Postfix).
const MOST_MESSAGES: usize = 20_000;
/// Their recipients (`qmgr_message_recipient_limit`).
const MOST_RECIPIENTS: usize = 20_000;
/// Messages that are read at once.
const READING: usize = 64;
/// How long it is waited for what is due, though the clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Deliveries that follow each other so soon may share a connection.
const BACK_TO_BACK: Duration = Duration::from_secs(1);
/// How often it is looked whether a disk has recovered.
const RECOVERY: Duration = Duration::from_secs(1);
/// How often segments are looked after.
const MAINTENANCE: Duration = Duration::from_secs(5);

/// Empties the queue until `stop` says so; then deliveries under way may take `grace` to end.
pub async fn run(office: Arc<Office>, mut asked: Asked, mut stop: watch::Receiver<bool>, grace: Duration) {
    let mut manager = Manager::new(office);
    let mut maintenance = tokio::time::interval(MAINTENANCE);
    maintenance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        manager.begin();
        let office = Arc::clone(&manager.office);
        let wake = manager.wake();
        tokio::select! {
            Some(ended) = manager.tasks.join_next_with_id() => manager.ended(ended),
            Some(done) = asked.recv() => {
                manager.schedule.flush_all(clock::now());
                // Whoever asked may have left.
                done.send(()).unwrap_or_default();
            }
            () = office.queue.arrival() => {}
            () = sleep_until(wake.into()) => {}
            _ = maintenance.tick() => {
                manager.maintain();
            }
            // An error: nobody is left who could say so.
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    manager.drain(grace).await;
}

/// A task, and what is lost to the schedule if it dies.
#[derive(Debug)]
enum Task {
    Read(QueueId),
    Deliver {
        destination: Arc<str>,
        message: QueueId,
        recipients: Vec<u32>,
        /// Those whom a server has taken.
        sent: Sent,
    },
    /// It clears up after a delivery that died.
    ClearUp {
        destination: Arc<str>,
        message: QueueId,
        recipients: Vec<u32>,
    },
    Conclude(QueueId),
    /// It looks after the queue.
    Maintain,
    /// It tells the postmaster of something.
    Tell,
}

#[derive(Debug)]
struct Manager {
    office: Arc<Office>,
    schedule: Schedule<Report>,
    messages: HashMap<QueueId, Active>,
    tasks: JoinSet<Event>,
    known: HashMap<Id, Task>,
    reading: usize,
    /// One at a time.
    maintaining: Arc<Semaphore>,
}

impl Manager {
    fn new(office: Arc<Office>) -> Self {
        Self {
            office,
            schedule: Schedule::new(PLACES),
            messages: HashMap::new(),
            tasks: JoinSet::new(),
            known: HashMap::new(),
            reading: 0,
            maintaining: Arc::new(Semaphore::new(1)),
        }
    }

    /// Begins whatever can begin now. While the disk cannot note what is delivered that is nothing: after a crash
    /// all of it would be delivered again.
    fn begin(&mut self) {
        if self.office.queue.is_behind() {
            let why = || "deliveries wait until the disk of the queue takes notes of them again".to_owned();
            return self.office.telemetry.trouble(Trouble::Queue, why);
        }
        for id in self.office.queue.take(clock::wall(), self.room()) {
            self.reading = self.reading.saturating_add(1);
            let office = Arc::clone(&self.office);
            self.spawn(Task::Read(id), async move { Event::Read(Box::new(office.queue.read(id).await)) });
        }
        while let Some(delivery) = self.schedule.next(clock::now()) {
            self.deliver(delivery);
        }
    }

    /// How many more messages may be under way.
    fn room(&self) -> usize {
        if self.schedule.waiting() >= MOST_RECIPIENTS {
            return 0;
        }
        MOST_MESSAGES.saturating_sub(self.messages.len()).min(READING.saturating_sub(self.reading))
    }

    /// When to look again, though nothing happens.
    fn wake(&self) -> Instant {
        let now = clock::now();
        if self.office.queue.is_behind() {
            return now.checked_add(RECOVERY).unwrap_or(now);
        }
        let due =
            self.office.queue.next_due().map(|due| due.duration_since(clock::wall()).unwrap_or_default());
        // What is due and was not taken waits for room, not for time.
        let due = due.filter(|_| self.room() > 0).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        let due = now.checked_add(due).unwrap_or(now);
        self.schedule.next_wake().map_or(due, |wake| wake.min(due))
    }

    fn maintain(&mut self) {
        let Ok(permit) = Arc::clone(&self.maintaining).try_acquire_owned() else { return };
        let office = Arc::clone(&self.office);
        self.spawn(Task::Maintain, async move {
            office.queue.maintain().await;
            office.sum_up().await;
            drop(permit);
            Event::Other
        });
    }

    fn spawn(&mut self, task: Task, work: impl Future<Output = Event> + Send + 'static) {
        let handle = self.tasks.spawn(work);
        self.known.insert(handle.id(), task);
    }

    fn ended(&mut self, ended: Result<(Id, Event), tokio::task::JoinError>) {
        match ended {
            Ok((id, event)) => {
                let task = self.known.remove(&id);
                match (task, event) {
                    (Some(Task::Read(id)), Event::Read(stored)) => self.read(id, *stored),
                    (
                        Some(
                            Task::Deliver { destination, message, recipients, .. }
                            | Task::ClearUp { destination, message, recipients },
                        ),
                        Event::Delivered(done),
                    ) => self.delivered(&destination, message, &recipients, done),
                    (_, Event::Read(_) | Event::Delivered(_) | Event::Other) => {}
                }
            }
            // A panic, which is logged by itself: what it was about is tried again later.
            Err(error) => match self.known.remove(&error.id()) {
                Some(Task::Read(id)) => self.read(id, Err(ReadError::Damaged)),
                Some(Task::Deliver { destination, message, recipients, sent }) => {
                    self.clear_up(destination, message, recipients, sent);
                }
                Some(Task::ClearUp { destination, message, recipients }) => {
                    let report =
                        Report::transient(3, 0, "the delivery failed for an error of the gateway's own");
                    let done = Failed { fates: fates(&recipients, &report), trouble: None };
                    self.delivered(&destination, message, &recipients, done);
                }
                Some(Task::Conclude(id)) => self.again(id),
                Some(Task::Maintain | Task::Tell) | None => {}
            },
        }
    }

    /// A delivery died, which others may have survived whom a server had taken by then.
    fn clear_up(&mut self, destination: Arc<str>, message: QueueId, recipients: Vec<u32>, sent: Sent) {
        let known = self.messages.get(&message).and_then(|active| {
            let protocol = active.next_hops.get(&destination)?.protocol;
            Some((Subject { id: message, envelope: Arc::clone(&active.envelope) }, protocol))
        });
        // It always is: who has a delivery is under way.
        let Some((subject, protocol)) = known else { return };
        let lost = errand::Lost { recipients: recipients.clone(), sent, protocol };
        let office = Arc::clone(&self.office);
        let task = Task::ClearUp { destination, message, recipients };
        self.spawn(task, errand::clear_up(office, subject, lost));
    }

    /// A message was read.
    fn read(&mut self, id: QueueId, stored: Result<Stored, ReadError>) {
        self.reading = self.reading.saturating_sub(1);
        let stored = match stored {
            Ok(stored) => stored,
            Err(ReadError::Gone) => return,
            Err(ReadError::Damaged) => {
                errand::hold_damaged(&self.office, id);
                self.spawn(Task::Tell, errand::tell_damaged(Arc::clone(&self.office), id));
                return self.office.queue.put_back(id);
            }
            Err(ReadError::Io(error)) => {
                self.office.telemetry.trouble(Trouble::Queue, || format!("message {id}: {error}"));
                return self.again(id);
            }
        };
        self.activate(id, stored);
    }

    /// Gives a message back with which something is wrong that may pass.
    fn again(&self, id: QueueId) {
        let after = self.office.setup.load().retry.minimal_backoff;
        self.office.queue.defer(id, super::closing::later(after));
    }

    /// Gives the recipients of a message to the schedule.
    fn activate(&mut self, id: QueueId, stored: Stored) {
        let setup = self.office.setup.load_full();
        let now = clock::now();
        let Stored { envelope, settled, warned, .. } = stored;
        let (groups, mut failed) = active::groups(&envelope, &settled, &setup);
        let mut next_hops = BTreeMap::new();
        let mut open = 0usize;
        for mut group in groups {
            let limits = &setup.transport(group.next_hop.protocol).limits;
            let job = Job { message: id, recipients: group.recipients.clone() };
            match self.schedule.add(&group.destination, limits, job, now) {
                Ok(()) => {
                    open = open.saturating_add(group.recipients.len());
                    next_hops.insert(Arc::from(group.destination), group.next_hop);
                }
                Err(report) => failed.extend(fates(group.recipients.make_contiguous(), &suspended(&report))),
            }
        }
        let queued = envelope.age(clock::wall());
        let envelope = Arc::new(envelope);
        for fate in &failed {
            errand::record_unsent(
                &self.office,
                &Subject { id, envelope: Arc::clone(&envelope) },
                fate,
                queued,
            );
        }
        let active = Active { envelope, warned, next_hops, queued, scheduled: now, open, failed };
        if open == 0 { self.conclude(id, active) } else { drop(self.messages.insert(id, active)) }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let Delivery { destination, job, last, more } = delivery;
        // The one before has just ended, or there is one to come.
        let busy =
            more || last.is_some_and(|last| clock::now().saturating_duration_since(last) <= BACK_TO_BACK);
        let recipients: Vec<u32> = job.recipients.into();
        let known = self.messages.get(&job.message).and_then(|active| {
            let next_hop = active.next_hops.get(&destination)?.clone();
            let subject = Subject { id: job.message, envelope: Arc::clone(&active.envelope) };
            Some((subject, next_hop, active.queued, active.scheduled))
        });
        let Some((subject, next_hop, queued, scheduled)) = known else {
            // It never is: who has a job is under way.
            drop(self.schedule.done(&destination, Showed::Health, clock::now()));
            return;
        };
        let errand =
            Errand { id: job.message, recipients: recipients.clone(), next_hop, queued, scheduled, busy };
        let office = Arc::clone(&self.office);
        let sent = Sent::default();
        let task = Task::Deliver { destination, message: job.message, recipients, sent: sent.clone() };
        self.spawn(task, errand::carry_out(office, subject, errand, sent));
    }

    /// A delivery has ended.
    fn delivered(&mut self, destination: &str, message: QueueId, recipients: &[u32], done: Failed) {
        let Failed { fates: failed, trouble } = done;
        let showed = trouble.clone().map_or(Showed::Health, Showed::Trouble);
        let dropped = self.schedule.done(destination, showed, clock::now());
        self.close(message, recipients.len(), failed);
        let Some(trouble) = trouble else { return };
        let report = suspended(&trouble);
        for job in dropped {
            let recipients: Vec<u32> = job.recipients.into();
            let failed = fates(&recipients, &report);
            if let Some(active) = self.messages.get(&job.message) {
                let subject = Subject { id: job.message, envelope: Arc::clone(&active.envelope) };
                for fate in &failed {
                    errand::record_unsent(&self.office, &subject, fate, active.queued);
                }
            }
            self.close(job.message, recipients.len(), failed);
        }
    }

    fn close(&mut self, id: QueueId, count: usize, failed: Vec<Fate>) {
        let is_over = self.messages.get_mut(&id).is_some_and(|active| active.close(count, failed));
        if is_over && let Some(active) = self.messages.remove(&id) {
            self.conclude(id, active);
        }
    }

    fn conclude(&mut self, id: QueueId, active: Active) {
        let office = Arc::clone(&self.office);
        // Most messages end with their last recipient, and nothing is left to say.
        if office.queue.find(id).is_none() {
            return;
        }
        let subject = Subject { id, envelope: active.envelope };
        self.spawn(Task::Conclude(id), async move {
            super::closing::conclude(&office, &subject, active.warned, active.failed).await;
            Event::Other
        });
    }

    /// Begins no delivery any more, and waits for those under way.
    async fn drain(&mut self, grace: Duration) {
        let over = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.ended(ended);
            }
        };
        if timeout(grace, over).await.is_err() {
            tracing::info!(deliveries = self.schedule.busy(), "deliveries were cut off; they are made again");
            self.tasks.shutdown().await;
        }
        self.office.pool.clear();
        // What was said of messages is on stable storage before the process ends.
        self.office.queue.settled().await;
    }
}

/// The same for all of them.
fn fates(recipients: &[u32], report: &Report) -> Vec<Fate> {
    let fate = |place: &u32| Fate {
        place: *place,
        outcome: Outcome::Deferred(report.clone().softened()),
        remote: None,
        server_reports: false,
    };
    recipients.iter().map(fate).collect()
}

/// What those are told whose destination is left alone.
fn suspended(report: &Report) -> Report {
    let reason = format!("delivery temporarily suspended: {}", report.reason);
    Report { reason, ..report.clone().softened() }
}
