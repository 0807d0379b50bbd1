//! Which locks have changed lately: what a process that takes over may not have found in the store.
//!
//! Owns names and times only; what has become of a lock stands in the table.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::policy::lock::Who;

/// How long a change is kept in mind: longer than a new process may take from reading the store to
/// serving, and than the store may be behind.
const KEPT: Duration = Duration::from_secs(90);
/// Changes kept in mind at most. The store is behind by less than a second, so that the last of them are the
/// ones that count.
const MOST: usize = 65_536;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The lock of a network or of an identity.
    Lock(Who),
    /// An operator's exemption.
    Exempt(IpNet),
}

/// The last changes.
#[derive(Debug, Default)]
pub(super) struct Recent {
    changes: VecDeque<Change>,
    /// Whether another process has the table.
    bequeathed: bool,
}

#[derive(Debug)]
struct Change {
    until: Instant,
    /// Seconds since 1970.
    at: u64,
    subject: Subject,
}

impl Recent {
    /// Keeps in mind that these were changed `at` so many seconds since 1970; false: another process
    /// has the table, and is to be told at once.
    pub(super) fn note(&mut self, subjects: &[Subject], at: u64, now: Instant) -> bool {
        if self.bequeathed {
            return false;
        }
        let old = self.changes.iter().take_while(|change| change.until <= now).count();
        self.changes.drain(..old);
        for subject in subjects {
            if self.changes.len() >= MOST {
                self.changes.pop_front();
            }
            self.changes.push_back(Change { until: now + KEPT, at, subject: subject.clone() });
        }
        true
    }

    /// What has changed, with the time of the last change of each; from here on, nothing is kept.
    pub(super) fn bequeath(&mut self) -> Vec<(Subject, u64)> {
        self.bequeathed = true;
        let last: BTreeMap<Subject, u64> =
            self.changes.drain(..).map(|change| (change.subject, change.at)).collect();
        last.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn nets(number: u32) -> Vec<Subject> {
        let net = |place: u32| IpNet::from(std::net::IpAddr::from(place.to_be_bytes()));
        (0..number).map(|place| Subject::Lock(Who::Net(net(place)))).collect()
    }

    #[test]
    fn the_last_change_of_each_network_is_kept_for_a_while() {
        let (mut recent, now) = (Recent::default(), clock::now());
        assert!(recent.note(&nets(3), 10, now));
        assert!(recent.note(&nets(1), 60, now + Duration::from_secs(50)));
        assert!(recent.note(&nets(2), 110, now + KEPT + Duration::from_secs(1)));
        assert_eq!(recent.bequeath(), nets(2).into_iter().map(|net| (net, 110)).collect::<Vec<_>>());
        assert!(!recent.note(&nets(1), 120, now), "it is another's");
        assert!(recent.bequeath().is_empty());
    }

    #[test]
    fn there_is_a_ceiling() {
        let mut recent = Recent::default();
        let number = u32::try_from(MOST).unwrap() + 10;
        recent.note(&nets(number), 1, clock::now());
        let kept = recent.bequeath();
        assert_eq!((kept.len(), kept[0].0.clone()), (MOST, nets(11).remove(10)));
    }
}
