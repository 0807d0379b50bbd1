//! Locks as rows of a list.

use std::cmp::Ordering;

use super::{Column, Listed};
use crate::control::request::LockView;
use crate::policy::lock::Who;

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::console) enum Sort {
    Who,
    Cause,
    Action,
    Since,
    Left,
    #[default]
    Hits,
}

impl Column for Sort {
    const ALL: &'static [Self] = &[Self::Who, Self::Cause, Self::Action, Self::Since, Self::Left, Self::Hits];

    fn head(self) -> &'static str {
        match self {
            Self::Who => "WHO",
            Self::Cause => "CAUSE",
            Self::Action => "ACTION",
            Self::Since => "SINCE",
            Self::Left => "LEFT",
            Self::Hits => "HITS",
        }
    }

    fn is_amount(self) -> bool {
        match self {
            Self::Who | Self::Cause | Self::Action => false,
            Self::Since | Self::Left | Self::Hits => true,
        }
    }
}

impl Listed for LockView {
    type Key = Who;
    type Column = Sort;

    const ONE: &'static str = "lock";
    const ALL_ARE: &'static str = "held";

    fn key(&self) -> Who {
        self.who.clone()
    }

    fn texts(&self) -> Vec<String> {
        vec![
            self.who.to_string(),
            self.cause.name().to_owned(),
            self.action.name().to_owned(),
            self.detail.clone(),
        ]
    }

    fn compare(&self, other: &Self, column: Sort) -> Ordering {
        // One for ever has the most left.
        let left = |lock: &Self| lock.left.unwrap_or(u64::MAX);
        match column {
            Sort::Who => self.who.cmp(&other.who),
            Sort::Cause => self.cause.name().cmp(other.cause.name()),
            Sort::Action => self.action.name().cmp(other.action.name()),
            Sort::Since => self.age.cmp(&other.age),
            Sort::Left => left(self).cmp(&left(other)),
            Sort::Hits => self.hits.cmp(&other.hits),
        }
    }
}
