//! What waits in the queue, for operators: by destination, why, and what of it is damaged.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Office, Subject};
use crate::clock;
use crate::delivery::courier::{Fate, recipient};
use crate::delivery::next_hop::NextHop;
use crate::delivery::waiting::{Destination, Reasons, Shape};
use crate::queue::{QueueId, ReadError, Standing, Summary};
use crate::smtp::client::Outcome;

/// Messages whose envelopes are read for one list, the oldest first.
const LOOKED_AT: usize = 20_000;
/// Messages that are looked at before others may have a turn.
const PAGE: usize = 500;
/// How long a list is good for another who asks; longer where it took long to make.
const FRESH: Duration = Duration::from_secs(2);
/// Of the time that passes, at most this part is spent on lists.
const SHARE: u32 = 10;

/// The destinations that mail waits for.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The destinations, most messages first.
    pub destinations: Vec<Destination>,
    /// Messages that were not looked at, younger than all others.
    pub unlooked: u64,
    made: Instant,
    fresh: Duration,
}

impl Office {
    /// Mail that waits, by destination. For all who ask soon after each other it is looked through once.
    pub async fn waiting(&self) -> Arc<Waiting> {
        let mut last = self.waiting.lock().await;
        let is_fresh =
            |waiting: &&Arc<Waiting>| clock::now().saturating_duration_since(waiting.made) < waiting.fresh;
        if let Some(waiting) = last.as_ref().filter(is_fresh) {
            return Arc::clone(waiting);
        }
        let waiting = Arc::new(self.look_through().await);
        *last = Some(Arc::clone(&waiting));
        waiting
    }

    async fn look_through(&self) -> Waiting {
        let began = clock::now();
        let (mut shape, mut after, mut looked_at) = (Shape::default(), None, 0usize);
        while looked_at < LOOKED_AT {
            let page = self.queue.list(after, PAGE);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            looked_at = looked_at.saturating_add(page.len());
            for summary in page {
                self.count(&mut shape, summary).await;
            }
        }
        let counts = self.queue.counts();
        let all = counts.ready.saturating_add(counts.deferred).saturating_add(counts.held);
        let (unlooked, made) = (all.saturating_sub(looked_at), clock::now());
        Waiting {
            destinations: shape.finish(&self.reasons(), made),
            unlooked: u64::try_from(unlooked).unwrap_or(u64::MAX),
            made,
            fresh: FRESH.max(made.saturating_duration_since(began).saturating_mul(SHARE)),
        }
    }

    async fn count(&self, shape: &mut Shape, summary: Summary) {
        let stored = match self.queue.read(summary.id).await {
            Ok(stored) => stored,
            Err(ReadError::Damaged) => return self.found_damaged(summary.id),
            Err(ReadError::Gone | ReadError::Io(_)) => return,
        };
        let name = &self.setup.load().name;
        let mut by_destination = BTreeMap::<String, u64>::new();
        let open = (0u32..).zip(&stored.envelope.recipients);
        for (_, recipient) in open.filter(|(place, _)| stored.settled.binary_search(place).is_err()) {
            let next_hop = NextHop::of(&stored.envelope.target, &recipient.address, name);
            let destination = next_hop.map_or_else(|_| "(no destination)".to_owned(), |hop| hop.to_string());
            let recipients = by_destination.entry(destination).or_default();
            *recipients = recipients.saturating_add(1);
        }
        let age = stored.envelope.age(clock::wall());
        for (destination, recipients) in by_destination {
            shape.count(destination, age, recipients, summary.standing == Standing::Held);
        }
    }

    /// Notes why recipients wait for another attempt.
    pub(in crate::delivery) fn note_deferred(&self, subject: &Subject, deferred: &[Fate]) {
        let name = &self.setup.load().name;
        for fate in deferred {
            let (Outcome::Sent(report) | Outcome::Deferred(report) | Outcome::Bounced(report)) =
                &fate.outcome;
            let Some(recipient) = recipient(&subject.envelope, fate.place) else { continue };
            let Ok(next_hop) = NextHop::of(&subject.envelope.target, &recipient.address, name) else {
                continue;
            };
            self.reasons().note(subject.id, next_hop.to_string(), &report.reason, clock::now());
        }
    }

    /// Why the last attempt with a message failed, if one of this process did, and how long ago that was.
    #[must_use]
    pub fn why(&self, id: QueueId) -> Option<(String, Duration)> {
        let reasons = self.reasons();
        let why = reasons.of_message(id)?;
        Some((why.text.to_string(), clock::now().saturating_duration_since(why.at)))
    }

    /// Notes that a message is not what was taken.
    pub(in crate::delivery) fn found_damaged(&self, id: QueueId) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Messages of which it is known that they are damaged.
    #[must_use]
    pub fn damaged(&self) -> Vec<QueueId> {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.retain(|id| self.queue.find(*id).is_some());
        damaged.iter().copied().collect()
    }

    fn reasons(&self) -> MutexGuard<'_, Reasons> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
