//! What waits in the queue, by destination and age, and why (after qshape(1) of Postfix).
//!
//! Pure, and bounded: of many messages and destinations the reasons of the latest are known, and the largest are listed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::queue::QueueId;

/// Ages below which messages are counted together; the last column has those that are older.
pub const AGES: [Duration; 5] = [
    Duration::from_secs(5 * 60),
    Duration::from_secs(20 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(5 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

/// Destinations that are listed.
const LISTED: usize = 500;
/// Destinations that are counted apart from the rest.
const COUNTED: usize = 20_000;
/// Messages, and destinations, of which the reason is known.
const KNOWN: usize = 20_000;
/// Octets of a reason that are kept.
const LONGEST: usize = 300;

/// The messages that wait for one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The next hop, as `gateway queue flush` takes it; empty: all those that are not listed.
    pub destination: String,
    /// Messages, those on hold among them.
    pub messages: u64,
    /// Their recipients there that are left.
    pub recipients: u64,
    /// Messages by age: younger than each of [`AGES`], and older.
    pub ages: [u64; AGES.len() + 1],
    /// Messages that wait for an operator.
    pub held: u64,
    /// Why the last attempt failed, if one of this process did.
    pub reason: Option<String>,
    /// How many seconds ago that was.
    pub since: Option<u64>,
}

impl Destination {
    fn count(&mut self, age: Duration, recipients: u64, held: bool) {
        self.messages = self.messages.saturating_add(1);
        self.recipients = self.recipients.saturating_add(recipients);
        self.held = self.held.saturating_add(u64::from(held));
        let column = AGES.iter().take_while(|most| age >= **most).count();
        if let Some(messages) = self.ages.get_mut(column) {
            *messages = messages.saturating_add(1);
        }
    }
}

/// Counts messages by destination.
#[derive(Debug, Default)]
pub(super) struct Shape {
    by_destination: BTreeMap<String, Destination>,
    others: Destination,
}

impl Shape {
    /// A message of that age has so many recipients there.
    pub(super) fn count(&mut self, destination: String, age: Duration, recipients: u64, held: bool) {
        let room = self.by_destination.len() < COUNTED || self.by_destination.contains_key(&destination);
        let row = if room { self.by_destination.entry(destination).or_default() } else { &mut self.others };
        row.count(age, recipients, held);
    }

    /// The destinations, most messages first, with their reasons; what there is no room for stands last, as one.
    pub(super) fn finish(self, reasons: &Reasons, now: Instant) -> Vec<Destination> {
        let Self { by_destination, mut others } = self;
        let mut rows: Vec<_> = by_destination.into_iter().collect();
        rows.sort_by(|(a, left), (b, right)| right.messages.cmp(&left.messages).then_with(|| a.cmp(b)));
        let rest = rows.split_off(rows.len().min(LISTED));
        for (_, row) in rest {
            others.messages = others.messages.saturating_add(row.messages);
            others.recipients = others.recipients.saturating_add(row.recipients);
            others.held = others.held.saturating_add(row.held);
            for (sum, messages) in others.ages.iter_mut().zip(row.ages) {
                *sum = sum.saturating_add(messages);
            }
        }
        let named = rows.into_iter().map(|(destination, row)| {
            let why = reasons.of_destination(&destination);
            let since = why.map(|why| now.saturating_duration_since(why.at).as_secs());
            Destination { destination, since, reason: why.map(|why| why.text.to_string()), ..row }
        });
        let others = Some(others).filter(|others| others.messages > 0);
        named.chain(others).collect()
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub(super) struct Why {
    pub(super) text: Arc<str>,
    pub(super) at: Instant,
}

/// Why the latest attempts failed.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    by_destination: Lately<String>,
    by_message: Lately<QueueId>,
}

impl Reasons {
    /// An attempt with a message failed at that destination.
    pub(super) fn note(&mut self, id: QueueId, destination: String, reason: &str, now: Instant) {
        let text = reason.get(..reason.floor_char_boundary(LONGEST)).unwrap_or(reason);
        let why = Why { text: text.into(), at: now };
        self.by_destination.put(destination, why.clone());
        self.by_message.put(id, why);
    }

    fn of_destination(&self, destination: &str) -> Option<&Why> {
        self.by_destination.known.get(destination).map(|(_, why)| why)
    }

    /// Why the last attempt with a message failed.
    pub(super) fn of_message(&self, id: QueueId) -> Option<&Why> {
        self.by_message.known.get(&id).map(|(_, why)| why)
    }
}

/// The latest reasons; older ones are forgotten.
#[derive(Debug)]
struct Lately<K> {
    known: HashMap<K, (u64, Why)>,
    /// In the order in which they were noted; some were noted anew since.
    order: VecDeque<(u64, K)>,
    noted: u64,
}

impl<K> Default for Lately<K> {
    fn default() -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), noted: 0 }
    }
}

impl<K: Clone + Eq + Hash> Lately<K> {
    fn put(&mut self, key: K, why: Why) {
        self.noted = self.noted.saturating_add(1);
        self.known.insert(key.clone(), (self.noted, why));
        self.order.push_back((self.noted, key));
        while self.known.len() > KNOWN || self.order.len() > KNOWN.saturating_mul(2) {
            let Some((noted, key)) = self.order.pop_front() else { return };
            if self.known.get(&key).is_some_and(|(last, _)| *last == noted) {
                self.known.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn id(text: &str) -> QueueId {
        text.parse().unwrap()
    }

    #[test]
    fn messages_are_counted_by_destination_and_age() {
        let (mut shape, mut reasons, now) = (Shape::default(), Reasons::default(), clock::now());
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        for (destination, age, recipients, held) in [
            ("b.test", minutes(0), 1, false),
            ("b.test", minutes(5), 2, false),
            ("b.test", minutes(60 * 24), 3, true),
            ("a.test", minutes(59), 1, false),
        ] {
            shape.count(destination.to_owned(), age, recipients, held);
        }
        reasons.note(id("0PHFJ40000001"), "b.test".to_owned(), "connection refused", now);
        reasons.note(id("0PHFJ40000002"), "b.test".to_owned(), "timed out", now);
        let rows = shape.finish(&reasons, now + Duration::from_secs(90));
        let expected = [
            Destination {
                destination: "b.test".to_owned(),
                messages: 3,
                recipients: 6,
                ages: [1, 1, 0, 0, 0, 1],
                held: 1,
                reason: Some("timed out".to_owned()),
                since: Some(90),
            },
            Destination {
                destination: "a.test".to_owned(),
                messages: 1,
                recipients: 1,
                ages: [0, 0, 1, 0, 0, 0],
                ..Destination::default()
            },
        ];
        assert_eq!(rows, expected);
        let why = |text| reasons.of_message(id(text)).map(|why| why.text.to_string());
        assert_eq!(why("0PHFJ40000001").as_deref(), Some("connection refused"));
        assert_eq!(why("0PHFJ40000003"), None);
    }

    #[test]
    fn of_too_many_destinations_the_rest_is_one() {
        let (mut shape, now) = (Shape::default(), clock::now());
        shape.count("much.test".to_owned(), Duration::ZERO, 1, false);
        for number in 0..COUNTED + 10 {
            shape.count(format!("{number}.test"), Duration::ZERO, 1, false);
        }
        shape.count("much.test".to_owned(), Duration::ZERO, 1, false);
        let rows = shape.finish(&Reasons::default(), now);
        assert_eq!(rows.len(), LISTED + 1);
        assert_eq!(rows.first().map(|row| (row.destination.as_str(), row.messages)), Some(("much.test", 2)));
        assert_eq!(rows.last().unwrap().destination, "");
        assert_eq!(rows.iter().map(|row| row.messages).sum::<u64>(), (COUNTED + 12) as u64);
    }

    #[test]
    fn the_latest_reasons_are_known() {
        let (mut lately, now) = (Lately::default(), clock::now());
        for number in 0..KNOWN * 3 {
            lately.put(number, Why { text: "x".into(), at: now });
            // This one is noted again and again.
            lately.put(usize::MAX, Why { text: "y".into(), at: now });
            assert!(lately.known.len() <= KNOWN && lately.order.len() <= KNOWN * 2);
        }
        assert!(lately.known.contains_key(&usize::MAX) && lately.known.contains_key(&(KNOWN * 3 - 1)));
        assert!(!lately.known.contains_key(&0));
    }
}
