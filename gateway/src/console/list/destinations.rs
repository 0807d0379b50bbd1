//! Destinations that mail waits for as rows of a list.

use std::cmp::Ordering;

use super::{Column, Listed};
use crate::delivery::waiting::Destination;

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::console) enum Sort {
    Destination,
    #[default]
    Messages,
    Recipients,
    Held,
    Old,
}

impl Column for Sort {
    const ALL: &'static [Self] =
        &[Self::Destination, Self::Messages, Self::Recipients, Self::Held, Self::Old];

    fn head(self) -> &'static str {
        match self {
            Self::Destination => "DESTINATION",
            Self::Messages => "MSGS",
            Self::Recipients => "RCPTS",
            Self::Held => "HELD",
            Self::Old => ">1d",
        }
    }

    fn is_amount(self) -> bool {
        self != Self::Destination
    }
}

impl Listed for Destination {
    type Key = String;
    type Column = Sort;

    const ONE: &'static str = "destination";
    const ALL_ARE: &'static str = "waited for";

    fn key(&self) -> String {
        self.destination.clone()
    }

    fn texts(&self) -> Vec<String> {
        vec![self.destination.clone(), self.reason.clone().unwrap_or_default()]
    }

    fn compare(&self, other: &Self, column: Sort) -> Ordering {
        let old = |row: &Self| row.ages.last().copied().unwrap_or_default();
        match column {
            Sort::Destination => self.destination.cmp(&other.destination),
            Sort::Messages => self.messages.cmp(&other.messages),
            Sort::Recipients => self.recipients.cmp(&other.recipients),
            Sort::Held => self.held.cmp(&other.held),
            Sort::Old => old(self).cmp(&old(other)),
        }
    }

    /// Mail for it waits for an operator.
    fn is_marked(&self) -> bool {
        self.held > 0
    }
}
