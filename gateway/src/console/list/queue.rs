//! Messages in the queue as rows of a list.

use std::cmp::Ordering;
use std::time::{Duration, SystemTime};

use super::{Column, Listed};
use crate::control::request::queue::QueueEntry;
use crate::queue::{QueueId, Standing};

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::console) enum Sort {
    Id,
    #[default]
    Age,
    Size,
    Recipients,
    Standing,
    Due,
}

impl Column for Sort {
    const ALL: &'static [Self] =
        &[Self::Id, Self::Age, Self::Size, Self::Recipients, Self::Standing, Self::Due];

    fn head(self) -> &'static str {
        match self {
            Self::Id => "ID",
            Self::Age => "AGE",
            Self::Size => "SIZE",
            Self::Recipients => "RCPTS",
            Self::Standing => "STANDING",
            Self::Due => "DUE IN",
        }
    }

    fn is_amount(self) -> bool {
        match self {
            Self::Id | Self::Standing => false,
            Self::Age | Self::Size | Self::Recipients | Self::Due => true,
        }
    }
}

/// A message, as it stood when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::console) struct Queued {
    pub(in crate::console) id: QueueId,
    pub(in crate::console) age: Duration,
    pub(in crate::console) size: u64,
    pub(in crate::console) recipients: u32,
    pub(in crate::console) standing: Standing,
    pub(in crate::console) damaged: bool,
    /// Until it is tried again; `None`: it waits for no time.
    pub(in crate::console) due: Option<Duration>,
}

impl Queued {
    /// The row of `entry`, `now`; none of one whose name is none.
    pub(in crate::console) fn new(entry: &QueueEntry, now: SystemTime) -> Option<Self> {
        let (age, due) = (entry.age(now), entry.due(now));
        let QueueEntry { size, recipients, standing, damaged, .. } = *entry;
        Some(Self { id: entry.id.parse().ok()?, age, size, recipients, standing, damaged, due })
    }

    /// How it stands, in a word.
    pub(in crate::console) const fn stands(&self) -> &'static str {
        match self.standing {
            Standing::Ready => "ready",
            Standing::Deferred(_) => "deferred",
            Standing::Held if self.damaged => "damaged",
            Standing::Held => "held",
        }
    }
}

impl Listed for Queued {
    type Key = QueueId;
    type Column = Sort;

    const ONE: &'static str = "message";
    const ALL_ARE: &'static str = "in the queue";

    fn key(&self) -> QueueId {
        self.id
    }

    fn texts(&self) -> Vec<String> {
        vec![self.id.to_string(), self.stands().to_owned()]
    }

    fn compare(&self, other: &Self, column: Sort) -> Ordering {
        match column {
            Sort::Id => self.id.cmp(&other.id),
            Sort::Age => self.age.cmp(&other.age),
            Sort::Size => self.size.cmp(&other.size),
            Sort::Recipients => self.recipients.cmp(&other.recipients),
            Sort::Standing => self.stands().cmp(other.stands()),
            Sort::Due => self.due.cmp(&other.due),
        }
    }

    /// It waits for an operator.
    fn is_marked(&self) -> bool {
        self.standing == Standing::Held
    }
}
