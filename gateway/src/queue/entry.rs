//! What is known of a message without reading it.

use super::envelope::{Envelope, QueueId};
use super::journal::Place;
use super::record::Standing;
use super::segment::SegmentId;

/// A message that is in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where its record and content are.
    pub(super) place: Place,
    /// When it was taken, in milliseconds since 1970.
    pub(super) arrived: u64,
    /// Octets of its content.
    pub(super) size: u64,
    /// How many recipients it has.
    pub(super) recipients: u32,
    /// Places of those for whom all is done, in order.
    pub(super) settled: Vec<u32>,
    /// Whether it may be delivered.
    pub(super) standing: Standing,
    /// Whether its sender was told that it takes long.
    pub(super) warned: bool,
}

impl Entry {
    /// A new message, whose content has `size` octets; its place comes when it is written.
    pub(super) fn new(envelope: &Envelope, size: u64) -> Self {
        let nowhere = Place { segment: SegmentId { generation: 0, number: 0 }, at: 0, length: 0 };
        Self {
            place: nowhere,
            arrived: envelope.arrived,
            size,
            recipients: u32::try_from(envelope.recipients.len()).unwrap_or(u32::MAX),
            settled: Vec::new(),
            standing: Standing::Ready,
            warned: false,
        }
    }

    /// Notes that all is done for `recipients`.
    pub(super) fn settle(&mut self, recipients: &[u32]) {
        for recipient in recipients.iter().filter(|recipient| **recipient < self.recipients) {
            if let Err(place) = self.settled.binary_search(recipient) {
                self.settled.insert(place, *recipient);
            }
        }
    }

    /// Whether nobody is left.
    pub(super) fn is_done(&self) -> bool {
        self.settled.len() >= usize::try_from(self.recipients).unwrap_or(usize::MAX)
    }
}

/// What a list says of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub id: QueueId,
    /// When it was taken, in milliseconds since 1970.
    pub arrived: u64,
    /// Octets of its content.
    pub size: u64,
    /// How many recipients are left.
    pub recipients: u32,
    /// Whether it may be delivered.
    pub standing: Standing,
}

impl Summary {
    pub(super) fn new(id: QueueId, entry: &Entry) -> Self {
        let settled = u32::try_from(entry.settled.len()).unwrap_or(u32::MAX);
        Self {
            id,
            arrived: entry.arrived,
            size: entry.size,
            recipients: entry.recipients.saturating_sub(settled),
            standing: entry.standing,
        }
    }
}
