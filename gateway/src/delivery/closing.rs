//! The end of an attempt to deliver a message: who is left, when they are tried again, and who is told.
//!
//! Owns the order of what is written: a report is in the queue before what it tells of leaves it. A crash between the two
//! makes a report twice, never none.

use std::time::{Duration, SystemTime};

use super::courier::Fate;
use super::dsn::{Action, Kind};
use super::office::{Office, Subject};
use crate::clock;
use crate::queue::Envelope;
use crate::queue::schedule::{Next, Retry};
use crate::smtp::client::Outcome;
use crate::telemetry::Trouble;

/// What is done with those whom no server has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    /// They are returned.
    returned: Vec<Fate>,
    /// They are tried again.
    deferred: Vec<Fate>,
    /// When, and whether the sender is told of it.
    again: Option<(Duration, bool)>,
}

fn judge(failed: Vec<Fate>, age: Duration, sender_is_empty: bool, warned: bool, retry: Retry) -> Verdict {
    let (mut returned, mut deferred): (Vec<_>, Vec<_>) =
        failed.into_iter().partition(|fate| matches!(fate.outcome, Outcome::Bounced(_)));
    let again = match retry.next(age, sender_is_empty, warned) {
        _ if deferred.is_empty() => None,
        Next::Expired => {
            returned.append(&mut deferred);
            None
        }
        Next::Again { after, warn } => Some((after, warn)),
    };
    Verdict { returned, deferred, again }
}

/// Ends an attempt in which nothing more is to be heard of anybody. `failed`: those whom no server has taken.
pub(super) async fn conclude(office: &Office, subject: &Subject, warned: bool, failed: Vec<Fate>) {
    // Done with, or deleted by an operator.
    if office.queue.find(subject.id).is_none() {
        return;
    }
    let retry = office.setup.load().retry;
    let age = subject.envelope.age(clock::wall());
    let sender_is_empty = subject.envelope.sender.is_empty();
    let expired = matches!(retry.next(age, sender_is_empty, warned), Next::Expired);
    let Verdict { returned, deferred, again } = judge(failed, age, sender_is_empty, warned, retry);
    let mut due = again.map(|(after, _)| after);
    if !returned.is_empty() {
        if expired {
            tracing::info!(id = %subject.id, status = "expired", recipients = returned.len(), "returned to sender");
        }
        match office.tell(subject, Kind::Failure, &returned, |_| Action::Failed).await {
            Ok(()) => {
                let places: Vec<_> = returned.iter().map(|fate| fate.place).collect();
                office.queue.settle(subject.id, &places);
            }
            Err(error) => {
                // They are neither returned nor lost.
                office.telemetry.trouble(Trouble::Queue, || format!("a report was not written: {error}"));
                due = Some(due.unwrap_or(retry.minimal_backoff));
            }
        }
    }
    office.note_deferred(subject, &deferred);
    if let Some((_, true)) = again {
        warn(office, subject, &deferred, retry).await;
    }
    match due {
        Some(after) => office.queue.defer(subject.id, later(after)),
        // Some were left out: it was held meanwhile, or cannot be read now.
        None => office.queue.put_back(subject.id),
    }
}

async fn warn(office: &Office, subject: &Subject, deferred: &[Fate], retry: Retry) {
    let until = expiry(&subject.envelope, retry);
    match office.tell(subject, Kind::Delay { until }, deferred, |_| Action::Delayed).await {
        Ok(()) => office.queue.set_warned(subject.id),
        // It is tried again with the next attempt.
        Err(error) => {
            office
                .telemetry
                .trouble(Trouble::Queue, || format!("a report on a delay was not written: {error}"));
        }
    }
}

fn expiry(envelope: &Envelope, retry: Retry) -> SystemTime {
    let arrived = Duration::from_millis(envelope.arrived);
    SystemTime::UNIX_EPOCH
        .checked_add(arrived.saturating_add(retry.lifetime))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(super) fn later(after: Duration) -> SystemTime {
    let now = clock::wall();
    now.checked_add(after).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::client::{Report, Status};

    fn fates(words: &str) -> Vec<Fate> {
        let outcome = |word| match word {
            'd' => Outcome::Deferred(Report::new(Status::transient(4, 1), "no")),
            _ => Outcome::Bounced(Report::new(Status::permanent(1, 1), "no")),
        };
        (0..)
            .zip(words.chars())
            .map(|(place, word)| Fate { place, outcome: outcome(word), remote: None, server_reports: false })
            .collect()
    }

    fn judged(words: &str, age: u64) -> (Vec<u32>, Vec<u32>, Option<u64>) {
        let retry = Retry { lifetime: Duration::from_secs(1_000), ..Retry::default() };
        let verdict = judge(fates(words), Duration::from_secs(age), false, false, retry);
        let places = |fates: Vec<Fate>| fates.into_iter().map(|fate| fate.place).collect();
        let again = verdict.again.map(|(after, _)| after.as_secs());
        (places(verdict.returned), places(verdict.deferred), again)
    }

    // Specification section 17.2: the expiry check happens after an attempt.
    #[test]
    fn who_is_left_is_tried_again_until_the_message_is_too_old() {
        assert_eq!(judged("bdb", 10), (vec![0, 2], vec![1], Some(300)));
        assert_eq!(judged("bb", 10), (vec![0, 1], vec![], None));
        assert_eq!(judged("bd", 1_000), (vec![0, 1], vec![], None));
        assert_eq!(judged("", 1_000), (vec![], vec![], None));
    }
}
