//! Which segments of this process somebody still needs, whatever the index says of them.
//!
//! A message is on the disk before whoever brought it has heard so, and only then does the index have it. A segment
//! that is removed in between takes with it mail that somebody is told was taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::segment::SegmentId;

/// As long as it is there, or a clone of it, nobody removes the segment.
#[derive(Clone, Debug)]
pub(super) struct Use {
    _count: Arc<()>,
}

/// The segments that were begun, until nobody uses them any more; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    begun: Arc<Mutex<BTreeMap<SegmentId, Weak<()>>>>,
}

impl Uses {
    /// Notes a segment that is begun.
    pub(super) fn begin(&self, id: SegmentId) -> Use {
        let count = Arc::default();
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.insert(id, Arc::downgrade(&count));
        Use { _count: count }
    }

    /// The oldest segment in use, and those that are not used any more, each of which is told once.
    pub(super) fn take_over(&self) -> (Option<SegmentId>, Vec<SegmentId>) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let over = begun.extract_if(.., |_, used| used.strong_count() == 0).map(|(id, _)| id).collect();
        (begun.first_key_value().map(|(id, _)| *id), over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_used_until_the_last_has_let_go() {
        let uses = Uses::default();
        let id = |number| SegmentId { generation: 1, number };
        assert_eq!(uses.take_over(), (None, vec![]));
        let (first, second) = (uses.begin(id(1)), uses.begin(id(2)));
        let message = first.clone();
        drop(first);
        assert_eq!(uses.take_over(), (Some(id(1)), vec![]));
        drop(second);
        assert_eq!(uses.take_over(), (Some(id(1)), vec![id(2)]));
        drop(message);
        assert_eq!(uses.take_over(), (None, vec![id(1)]));
        assert_eq!(uses.take_over(), (None, vec![]), "each is told once");
    }
}
