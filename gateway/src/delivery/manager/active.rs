//! A message that is being delivered: to which next hops its recipients go, and what became of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::delivery::courier::Fate;
use crate::delivery::next_hop::NextHop;
use crate::delivery::transport::Setup;
use crate::queue::Envelope;
use crate::smtp::client::Outcome;

/// Recipients that share deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The destination, as the schedule knows it.
    pub(super) destination: String,
    /// Where it is.
    pub(super) next_hop: NextHop,
    /// Places of the recipients.
    pub(super) recipients: VecDeque<u32>,
}

/// Divides the recipients that are left by where they go. Where a delivery may have one recipient only, each
/// is a destination of its own (Postfix's queue manager). Also those who can go nowhere.
pub(super) fn groups(envelope: &Envelope, settled: &[u32], setup: &Setup) -> (Vec<Group>, Vec<Fate>) {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut lost = Vec::new();
    let places =
        (0u32..).zip(&envelope.recipients).filter(|(place, _)| settled.binary_search(place).is_err());
    for (place, recipient) in places {
        let next_hop = match NextHop::of(&envelope.target, &recipient.address, &setup.name) {
            Ok(next_hop) => next_hop,
            Err(report) => {
                let outcome = setup.smtp.rules.outcome(report);
                lost.push(Fate { place, outcome, remote: None, server_reports: false });
                continue;
            }
        };
        let alone = setup.transport(next_hop.protocol).limits.recipients == 1;
        let destination =
            if alone { format!("{next_hop} {}", recipient.address) } else { next_hop.to_string() };
        let group = groups.entry(destination).or_insert_with_key(|destination| Group {
            destination: destination.clone(),
            next_hop,
            recipients: VecDeque::new(),
        });
        group.recipients.push_back(place);
    }
    (groups.into_values().collect(), lost)
}

/// A message that is being delivered.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) envelope: Arc<Envelope>,
    /// Its sender was told that it takes long.
    pub(super) warned: bool,
    /// Where its recipients go, by destination.
    pub(super) next_hops: BTreeMap<Arc<str>, NextHop>,
    /// How old it was when the schedule got it, and when that was.
    pub(super) queued: Duration,
    pub(super) scheduled: Instant,
    /// Recipients about whom nothing is said yet.
    pub(super) open: usize,
    /// What became of those that no server has taken.
    pub(super) failed: Vec<Fate>,
}

impl Active {
    /// Notes that nothing more is to be heard of `count` recipients, some of which failed; says whether that were all.
    pub(super) fn close(&mut self, count: usize, fates: Vec<Fate>) -> bool {
        self.open = self.open.saturating_sub(count);
        self.failed.extend(fates.into_iter().filter(|fate| !matches!(fate.outcome, Outcome::Sent(_))));
        self.open == 0
    }
}
