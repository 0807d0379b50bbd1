//! What is in the queue, in memory: about 150 octets a message.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;

use super::entry::Entry;
use super::envelope::QueueId;
use super::journal::Place;
use super::record::Standing;
use super::segment::SegmentId;

/// The journal may be so many times as long as what lives in it,
const SLACK: u64 = 2;
/// and longer by this, in octets.
const SPARE: u64 = 192 * 1024 * 1024;

/// What a segment holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Segment {
    /// Octets written.
    length: u64,
    /// Octets of messages that are in the queue.
    live: u64,
    /// How many these are.
    messages: u32,
    /// Whether it must stay: nobody knows what is in it.
    pinned: bool,
}

/// How many messages of each standing there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// To be delivered now, or under way.
    pub ready: usize,
    /// To be delivered later.
    pub deferred: usize,
    /// To be delivered when an operator says so.
    pub held: usize,
}

/// The messages and the segments.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// In the order of arrival, so that a page of a list costs no look at the others.
    messages: BTreeMap<QueueId, Entry>,
    segments: BTreeMap<SegmentId, Segment>,
    /// Ready messages that nobody has taken, oldest first.
    ready: BTreeSet<QueueId>,
    /// Deferred messages by time.
    due: BTreeSet<(u64, QueueId)>,
    /// Those that somebody has taken, and not given back.
    taken: HashSet<QueueId>,
    held: usize,
}

impl Index {
    /// Adds a message.
    pub(super) fn add(&mut self, id: QueueId, entry: Entry) {
        self.occupy(entry.place);
        self.file(id, entry.standing);
        self.messages.insert(id, entry);
    }

    /// Adds a segment of which there may be nothing in the queue; one that is `pinned` must stay.
    pub(super) fn add_segment(&mut self, id: SegmentId, length: u64, pinned: bool) {
        let segment = self.segments.entry(id).or_default();
        segment.length = segment.length.max(length);
        segment.pinned |= pinned;
    }

    fn occupy(&mut self, place: Place) {
        let segment = self.segments.entry(place.segment).or_default();
        segment.length = segment.length.max(place.at.saturating_add(place.length));
        segment.live = segment.live.saturating_add(place.length);
        segment.messages = segment.messages.saturating_add(1);
    }

    fn vacate(&mut self, place: Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live = segment.live.saturating_sub(place.length);
            segment.messages = segment.messages.saturating_sub(1);
        }
    }

    fn file(&mut self, id: QueueId, standing: Standing) {
        match standing {
            // Nobody else takes it meanwhile.
            Standing::Ready | Standing::Deferred(_) if self.taken.contains(&id) => {}
            Standing::Ready => drop(self.ready.insert(id)),
            Standing::Deferred(due) => drop(self.due.insert((due, id))),
            Standing::Held => self.held = self.held.saturating_add(1),
        }
    }

    fn unfile(&mut self, id: QueueId, standing: Standing) {
        match standing {
            Standing::Ready => drop(self.ready.remove(&id)),
            Standing::Deferred(due) => drop(self.due.remove(&(due, id))),
            Standing::Held => self.held = self.held.saturating_sub(1),
        }
    }

    /// The message.
    pub(super) fn get(&self, id: QueueId) -> Option<&Entry> {
        self.messages.get(&id)
    }

    /// Takes up to `most` ready messages and deferred ones that are due at `now`, in milliseconds since 1970.
    pub(super) fn take(&mut self, now: u64, most: usize) -> Vec<QueueId> {
        // As many of both, so that neither waits for all of the other.
        let mut due: Vec<_> =
            self.due.range(..=(now, QueueId::LAST)).map(|(_, id)| *id).take(most.div_ceil(2)).collect();
        let mut taken: Vec<_> = self.ready.iter().copied().take(most.saturating_sub(due.len())).collect();
        if taken.len().saturating_add(due.len()) < most {
            due = self
                .due
                .range(..=(now, QueueId::LAST))
                .map(|(_, id)| *id)
                .take(most.saturating_sub(taken.len()))
                .collect();
        }
        for id in &due {
            if let Some(entry) = self.messages.get_mut(id)
                && let Standing::Deferred(time) = entry.standing
            {
                self.due.remove(&(time, *id));
                entry.standing = Standing::Ready;
            }
        }
        for id in &taken {
            self.ready.remove(id);
        }
        taken.append(&mut due);
        self.taken.extend(&taken);
        taken
    }

    /// Takes one message; says whether it is there and nobody has it.
    pub(super) fn claim(&mut self, id: QueueId) -> bool {
        let Some(standing) = self.messages.get(&id).map(|entry| entry.standing) else { return false };
        if !self.taken.insert(id) {
            return false;
        }
        // One that is held stays so for whoever counts.
        if standing != Standing::Held {
            self.unfile(id, standing);
        }
        true
    }

    /// Takes a message back that was claimed, with the standing that it has; says which.
    pub(super) fn unclaim(&mut self, id: QueueId) -> Option<Standing> {
        if !self.taken.remove(&id) {
            return None;
        }
        let standing = self.messages.get(&id)?.standing;
        // One that is held was never left out.
        if standing != Standing::Held {
            self.file(id, standing);
        }
        Some(standing)
    }

    /// Takes a message back that somebody had taken; says where its record is, and whether it has this standing now:
    /// one that was held meanwhile stays so.
    pub(super) fn give_back(&mut self, id: QueueId, standing: Standing) -> Option<(SegmentId, bool)> {
        if !self.taken.remove(&id) {
            return None;
        }
        let entry = self.messages.get_mut(&id)?;
        let home = entry.place.segment;
        if entry.standing == Standing::Held {
            return Some((home, false));
        }
        entry.standing = standing;
        self.file(id, standing);
        Some((home, true))
    }

    /// Notes that the sender was told; says where the message's record is.
    pub(super) fn set_warned(&mut self, id: QueueId) -> Option<SegmentId> {
        let entry = self.messages.get_mut(&id)?;
        entry.warned = true;
        Some(entry.place.segment)
    }

    /// When the next deferred message is due, in milliseconds since 1970.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Sets a message's standing; says where its record is, or that there is no such message.
    pub(super) fn set_standing(&mut self, id: QueueId, standing: Standing) -> Option<SegmentId> {
        let entry = self.messages.get_mut(&id)?;
        let (before, home) = (entry.standing, entry.place.segment);
        entry.standing = standing;
        self.unfile(id, before);
        self.file(id, standing);
        Some(home)
    }

    /// Notes that all is done for `recipients`; says where the message's record is, and whether nobody is left.
    pub(super) fn settle(&mut self, id: QueueId, recipients: &[u32]) -> Option<(SegmentId, bool)> {
        let entry = self.messages.get_mut(&id)?;
        entry.settle(recipients);
        Some((entry.place.segment, entry.is_done()))
    }

    /// Removes a message; says where its record is.
    pub(super) fn remove(&mut self, id: QueueId) -> Option<SegmentId> {
        let entry = self.messages.remove(&id)?;
        self.taken.remove(&id);
        self.unfile(id, entry.standing);
        self.vacate(entry.place);
        Some(entry.place.segment)
    }

    /// Notes that a message was written again at `place`; says whether it is still there.
    pub(super) fn moved(&mut self, id: QueueId, place: Place) -> bool {
        let Some(entry) = self.messages.get_mut(&id) else {
            self.add_segment(place.segment, place.at.saturating_add(place.length), false);
            return false;
        };
        let before = std::mem::replace(&mut entry.place, place);
        self.vacate(before);
        self.occupy(place);
        true
    }

    /// Segments older than `in_use` that hold nothing and have nothing older beside them. They are
    /// forgotten here, and may be removed in this order.
    pub(super) fn take_dead(&mut self, in_use: SegmentId) -> Vec<SegmentId> {
        let dead = |(id, segment): &(&SegmentId, &Segment)| {
            **id < in_use && segment.messages == 0 && !segment.pinned
        };
        let dead: Vec<_> = self.segments.iter().take_while(dead).map(|(id, _)| *id).collect();
        for id in &dead {
            self.segments.remove(id);
        }
        dead
    }

    /// Messages of the oldest segment, if the journal has become too long for what lives in it.
    pub(super) fn to_move(&self, in_use: SegmentId, most: usize) -> Vec<QueueId> {
        let (mut length, mut live) = (0u64, 0u64);
        for segment in self.segments.values() {
            length = length.saturating_add(segment.length);
            live = live.saturating_add(segment.live);
        }
        let Some((oldest, _)) = self.segments.iter().find(|(_, segment)| segment.messages > 0) else {
            return Vec::new();
        };
        if *oldest >= in_use || length <= live.saturating_mul(SLACK).saturating_add(SPARE) {
            return Vec::new();
        }
        let there = |(_, entry): &(&QueueId, &Entry)| entry.place.segment == *oldest;
        self.messages.iter().filter(there).map(|(id, _)| *id).take(most).collect()
    }

    /// How many there are.
    pub(super) fn counts(&self) -> Counts {
        let deferred = self.due.len();
        let ready = self.messages.len().saturating_sub(deferred).saturating_sub(self.held);
        Counts { ready, deferred, held: self.held }
    }

    /// The messages behind `after` in the order of arrival, at most `most`.
    pub(super) fn list(&self, after: Option<QueueId>, most: usize) -> Vec<(QueueId, Entry)> {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.messages.range(behind).take(most).map(|(id, entry)| (*id, entry.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u32) -> SegmentId {
        SegmentId { generation: 1, number }
    }

    fn entry(number: u32, at: u64, standing: Standing) -> Entry {
        let place = Place { segment: segment(number), at, length: 100 };
        Entry { place, arrived: 0, size: 50, recipients: 2, settled: Vec::new(), standing, warned: false }
    }

    fn id(count: u32) -> QueueId {
        QueueId::new(1, count)
    }

    #[test]
    fn what_is_due_and_what_is_new_share_the_places() {
        let mut index = Index::default();
        for count in 0..10 {
            index.add(id(count), entry(1, 0, Standing::Ready));
            index.add(id(100 + count), entry(1, 0, Standing::Deferred(1_000)));
        }
        index.add(id(200), entry(1, 0, Standing::Held));
        assert_eq!(index.take(999, 4), [id(0), id(1), id(2), id(3)], "nothing is due");
        assert_eq!(index.take(1_000, 4), [id(4), id(5), id(100), id(101)]);
        assert_eq!(index.take(1_000, 100).len(), 12);
        assert_eq!(index.take(1_000, 100), []);
        assert_eq!(index.counts(), Counts { ready: 20, deferred: 0, held: 1 });
        assert!(index.give_back(id(4), Standing::Deferred(5_000)).is_some());
        assert_eq!((index.next_due(), index.counts().deferred), (Some(5_000), 1));
        index.set_standing(id(200), Standing::Ready);
        assert_eq!(index.take(0, 100), [id(200)]);
    }

    #[test]
    fn what_somebody_has_taken_nobody_else_takes() {
        let mut index = Index::default();
        index.add(id(1), entry(1, 0, Standing::Ready));
        assert_eq!(index.give_back(id(1), Standing::Ready), None, "nobody has taken it");
        assert_eq!(index.take(0, 9), [id(1)]);
        for standing in [Standing::Deferred(0), Standing::Held, Standing::Ready] {
            index.set_standing(id(1), standing);
            assert_eq!(index.take(9, 9), [], "{standing:?}");
        }
        assert_eq!(index.give_back(id(1), Standing::Deferred(7)), Some((segment(1), true)));
        assert_eq!((index.take(6, 9), index.take(7, 9)), (vec![], vec![id(1)]));
        // An operator's word counts more than that of a failed delivery.
        index.set_standing(id(1), Standing::Held);
        assert_eq!(index.give_back(id(1), Standing::Deferred(8)), Some((segment(1), false)));
        assert_eq!(index.counts(), Counts { ready: 0, deferred: 0, held: 1 });
        index.set_standing(id(1), Standing::Ready);
        assert_eq!(index.take(9, 9), [id(1)]);
        assert!(!index.claim(id(1)));
        index.give_back(id(1), Standing::Deferred(10));
        assert!(index.claim(id(1)) && !index.claim(id(1)));
        assert_eq!((index.take(99, 9), index.next_due()), (vec![], None));
        index.remove(id(1));
        assert_eq!(index.give_back(id(1), Standing::Ready), None);
        assert!(!index.claim(id(1)));
    }

    #[test]
    fn pages_are_in_the_order_of_arrival_whatever_came_and_went() {
        let mut index = Index::default();
        for count in [7, 3, 9, 1, 5] {
            index.add(id(count), entry(1, 0, Standing::Ready));
        }
        let page = |index: &Index, after: Option<QueueId>, most| -> Vec<QueueId> {
            index.list(after, most).into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(page(&index, None, 2), [id(1), id(3)]);
        index.remove(id(3));
        assert_eq!(page(&index, Some(id(3)), 2), [id(5), id(7)], "behind one that is gone");
        assert_eq!(page(&index, Some(id(7)), 9), [id(9)]);
        assert_eq!(page(&index, Some(QueueId::LAST), 9), []);
    }

    #[test]
    fn a_message_ends_with_its_last_recipient() {
        let mut index = Index::default();
        index.add(id(1), entry(1, 0, Standing::Ready));
        assert_eq!(index.settle(id(1), &[1, 1, 7]), Some((segment(1), false)));
        assert_eq!(index.settle(id(1), &[0]), Some((segment(1), true)));
        assert_eq!(index.remove(id(1)), Some(segment(1)));
        assert_eq!(index.settle(id(1), &[0]), None);
        assert_eq!(index.take(0, 9), []);
    }

    #[test]
    fn segments_die_in_their_order() {
        let mut index = Index::default();
        for number in 1..=4 {
            index.add(id(number), entry(number, 0, Standing::Ready));
        }
        index.remove(id(2));
        index.remove(id(3));
        assert_eq!(index.take_dead(segment(4)), [], "what is said of the first may be in the others");
        index.remove(id(1));
        assert_eq!(index.take_dead(segment(4)), [segment(1), segment(2), segment(3)]);
        index.remove(id(4));
        assert_eq!(index.take_dead(segment(4)), [], "it is being written");
        index.add_segment(segment(0), 9, true);
        assert_eq!(index.take_dead(segment(5)), [], "nobody knows what is in an older one");
    }

    #[test]
    fn the_oldest_segment_is_emptied_when_the_journal_is_long() {
        let mut index = Index::default();
        index.add(id(1), entry(1, 0, Standing::Deferred(1)));
        index.add(id(2), entry(2, 0, Standing::Ready));
        index.add_segment(segment(1), SPARE, false);
        assert_eq!(index.to_move(segment(2), 9), []);
        index.add_segment(segment(2), 1_000, false);
        assert_eq!(index.to_move(segment(1), 9), [], "it is being written");
        assert_eq!(index.to_move(segment(2), 9), [id(1)]);
        assert!(index.moved(id(1), Place { segment: segment(3), at: 0, length: 100 }));
        assert_eq!(index.take_dead(segment(3)), [segment(1)]);
    }
}
