//! Faults that sessions met, for the postmaster, and how many of them he is told of.
//!
//! Pure: times are arguments. A stranger may cause faults, but mail to the postmaster only up to a number in an hour.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::queue::{QueueId, Target};
use crate::smtp::client::Report;
use crate::smtp::fault::Fault;
use crate::smtp::transcript::Transcript;

/// How long notices are counted before there may be as many again.
const HOUR: Duration = Duration::from_secs(3_600);
/// Peers that a sum names.
const MOST_PEERS: usize = 20;

/// The peer where no server or client is one.
const QUEUE: &str = "the queue";

/// A session in which something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What.
    pub fault: Fault,
    /// The other side: `NAME[ADDRESS]:PORT`, or what there is of it.
    pub peer: String,
    /// What happened, in a sentence.
    pub reason: String,
    /// What was said, if there was a session.
    pub transcript: Option<Transcript>,
}

/// A message whose content is damaged in the queue, and which is held.
pub(super) fn damaged(id: QueueId) -> Incident {
    let reason =
        format!("message {id} is not what was taken: it is held, and `gateway queue show {id}` tells of it");
    Incident { fault: Fault::Data, peer: QUEUE.to_owned(), reason, transcript: None }
}

/// A message that cannot be read now.
pub(super) fn unreadable(report: &Report) -> Incident {
    let reason = report.reason.clone();
    Incident { fault: Fault::Resource, peer: QUEUE.to_owned(), reason, transcript: None }
}

/// The worst fault of a delivery, which may have had several sessions.
#[derive(Debug, Default)]
pub(super) struct Worst(Option<Incident>);

impl Worst {
    /// Notes what `report` tells of, as the `fault` that it is.
    pub(super) fn note(
        &mut self,
        fault: Option<Fault>,
        peer: &str,
        report: &Report,
        said: Option<&Transcript>,
    ) {
        let Some(fault) = fault else { return };
        if self.0.as_ref().is_none_or(|worst| worst.fault < fault) {
            let (peer, reason, transcript) = (peer.to_owned(), report.reason.clone(), said.cloned());
            self.0 = Some(Incident { fault, peer, reason, transcript });
        }
    }

    pub(super) fn into_incident(self) -> Option<Incident> {
        self.0
    }
}

/// How many notices there were of late, by class.
#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<Fault, Hour>);

#[derive(Debug, Default)]
struct Hour {
    began: Option<Instant>,
    /// Peers of which the postmaster was told.
    told: Vec<String>,
    sum: Sum,
}

/// Incidents of one class that no notice tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// How many.
    pub(super) count: u64,
    /// The first peers among them.
    pub(super) peers: Vec<String>,
    /// Where the mail of the latest went.
    pub(super) target: Option<Target>,
}

impl Sum {
    fn add(&mut self, peer: &str) {
        self.count = self.count.saturating_add(1);
        if self.peers.len() < MOST_PEERS && !self.peers.iter().any(|known| known == peer) {
            self.peers.push(peer.to_owned());
        }
    }
}

impl Hour {
    fn is_over(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now.saturating_duration_since(began) >= HOUR)
    }
}

impl Pace {
    /// Whether the postmaster is told of a fault of `peer`: once an hour, and of `most` peers. If not, it is in the sum.
    pub(super) fn admit(
        &mut self,
        fault: Fault,
        peer: &str,
        target: &Target,
        most: usize,
        now: Instant,
    ) -> bool {
        let hour = self.0.entry(fault).or_default();
        if hour.is_over(now) && hour.sum.count == 0 {
            *hour = Hour::default();
        }
        hour.began.get_or_insert(now);
        hour.sum.target = Some(target.clone());
        let is_told = hour.told.len() < most && !hour.told.iter().any(|known| known == peer);
        if is_told {
            hour.told.push(peer.to_owned());
        } else {
            hour.sum.add(peer);
        }
        is_told
    }

    /// A notice could not be written: the sum tells of it.
    pub(super) fn not_told(&mut self, fault: Fault, peer: &str) {
        self.0.entry(fault).or_default().sum.add(peer);
    }

    /// A sum could not be written: it is due again with the next.
    pub(super) fn put_back(&mut self, fault: Fault, sum: Sum, now: Instant) {
        let hour = self.0.entry(fault).or_default();
        hour.began.get_or_insert(now);
        let Sum { count, peers, target } = sum;
        hour.sum.count = hour.sum.count.saturating_add(count);
        hour.sum.peers = peers;
        hour.sum.target = hour.sum.target.take().or(target);
    }

    /// Sums of hours that are over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Fault, Sum)> {
        let over = self.0.iter_mut().filter(|(_, hour)| hour.is_over(now));
        let sums = over.map(|(fault, hour)| (*fault, std::mem::take(hour).sum));
        sums.filter(|(_, sum)| sum.count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::smtp::client::Status;

    fn admitted(pace: &mut Pace, peers: &[&str], now: Instant) -> Vec<bool> {
        let admit = |peer: &&str| pace.admit(Fault::Policy, peer, &Target::Mx, 2, now);
        peers.iter().map(admit).collect()
    }

    #[test]
    fn each_peer_is_told_of_once_an_hour_and_the_rest_as_a_sum() {
        let (mut pace, start) = (Pace::default(), clock::now());
        assert_eq!(admitted(&mut pace, &["a", "a", "b", "c", "c"], start), [true, false, true, false, false]);
        assert!(pace.admit(Fault::Protocol, "a", &Target::Mx, 2, start), "another class");
        assert_eq!(pace.due(start + HOUR / 2), []);
        // What comes before the sum is told is in it.
        assert_eq!(admitted(&mut pace, &["d"], start + HOUR), [false]);
        let peers = ["a", "c", "d"].map(str::to_owned).to_vec();
        let sum = Sum { count: 4, peers, target: Some(Target::Mx) };
        assert_eq!(pace.due(start + HOUR), [(Fault::Policy, sum.clone())]);
        assert_eq!(pace.due(start + HOUR), []);
        assert_eq!(admitted(&mut pace, &["a"], start + HOUR), [true]);
        // The queue was full.
        pace.not_told(Fault::Policy, "a");
        pace.put_back(Fault::Policy, sum, start + HOUR);
        let due = pace.due(start + HOUR * 2);
        assert_eq!(due.iter().map(|(_, sum)| sum.count).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn a_quiet_hour_ends_without_a_word() {
        let (mut pace, start) = (Pace::default(), clock::now());
        assert_eq!(admitted(&mut pace, &["a"], start), [true]);
        assert_eq!(pace.due(start + HOUR), []);
        assert_eq!(admitted(&mut pace, &["a"], start + HOUR), [true]);
    }

    #[test]
    fn no_crowd_of_peers_takes_memory_without_end() {
        let (mut pace, now) = (Pace::default(), clock::now());
        for number in 0..100_000 {
            pace.admit(Fault::Policy, &format!("[2001:db8::{number:x}]"), &Target::Mx, 3, now);
        }
        let hour = pace.0.get(&Fault::Policy).unwrap();
        assert_eq!((hour.told.len(), hour.sum.peers.len(), hour.sum.count), (3, MOST_PEERS, 99_997));
    }

    #[test]
    fn of_a_delivery_the_worst_is_told() {
        let report = |reason: &str| Report::new(Status::transient(3, 0), reason);
        let mut worst = Worst::default();
        worst.note(None, "x", &report("nothing"), None);
        worst.note(Some(Fault::Protocol), "a", &report("first"), None);
        worst.note(Some(Fault::Software), "b", &report("worst"), None);
        worst.note(Some(Fault::Resource), "c", &report("last"), None);
        assert_eq!(worst.into_incident().map(|incident| incident.reason).as_deref(), Some("worst"));
    }
}
