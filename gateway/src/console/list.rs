//! A list as the console shows it: filtered, sorted, one of its rows selected.
//!
//! Owns the selection, which follows what was selected, not its row. What a row is made of stands
//! in one file for each list.

use std::cmp::Ordering;

use super::text::safe;

pub(super) mod clients;
pub(super) mod destinations;
pub(super) mod locks;
pub(super) mod queue;
pub(super) mod sessions;

/// A column that a list can be sorted by.
pub(super) trait Column: Copy + Default + PartialEq + 'static {
    /// All of them, in their order on the screen.
    const ALL: &'static [Self];

    /// Its head.
    fn head(self) -> &'static str;

    /// Whether it holds amounts. Those stand at the right, the largest first; names stand at the
    /// left, the smallest first.
    fn is_amount(self) -> bool;

    /// The column `by` places further, around the end.
    fn step(self, by: usize) -> Self {
        let place = Self::ALL.iter().position(|column| *column == self).unwrap_or_default();
        let place = place.saturating_add(by).checked_rem(Self::ALL.len()).unwrap_or_default();
        Self::ALL.get(place).copied().unwrap_or_default()
    }
}

/// What stands in one row of a list.
pub(super) trait Listed: Clone {
    /// What a row is about; no two rows have the same.
    type Key: Clone + Ord;
    /// What the list is sorted by.
    type Column: Column;

    /// What one row is, such as `session`.
    const ONE: &'static str;
    /// What all of them are, such as `open`.
    const ALL_ARE: &'static str;

    /// What the row is about.
    fn key(&self) -> Self::Key;

    /// The texts that a filter is looked for in.
    fn texts(&self) -> Vec<String>;

    /// Which of two rows comes first, from the smallest.
    fn compare(&self, other: &Self, column: Self::Column) -> Ordering;

    /// Whether an operator should look at it.
    fn is_marked(&self) -> bool {
        false
    }
}

/// Rows and how they are listed.
#[derive(Debug)]
pub(super) struct List<T: Listed> {
    /// How many there are; more than are known here when there are very many.
    pub(super) count: usize,
    pub(super) filter: String,
    pub(super) sort: T::Column,
    pub(super) reversed: bool,
    /// A list was received; until then nobody knows whether there are any.
    pub(super) known: bool,
    all: Vec<T>,
    shown: Vec<T>,
    selected: Option<T::Key>,
    /// The row of the selection, for when what was selected goes away.
    row: usize,
}

impl<T: Listed> Default for List<T> {
    fn default() -> Self {
        Self {
            count: 0,
            filter: String::new(),
            sort: T::Column::default(),
            reversed: false,
            known: false,
            all: Vec::new(),
            shown: Vec::new(),
            selected: None,
            row: 0,
        }
    }
}

impl<T: Listed> List<T> {
    /// Takes fresh rows in, of the `count` that there are.
    pub(super) fn take(&mut self, count: usize, rows: Vec<T>) {
        self.known = true;
        self.count = count;
        self.all = rows;
        self.arrange();
    }

    /// The rows that the filter lets through, in order.
    pub(super) fn shown(&self) -> &[T] {
        &self.shown
    }

    /// The selected row's place.
    pub(super) const fn row(&self) -> usize {
        self.row
    }

    /// The selected row.
    pub(super) fn selected(&self) -> Option<&T> {
        self.shown.get(self.row)
    }

    /// The row about `key`, whatever the filter.
    pub(super) fn find(&self, key: &T::Key) -> Option<&T> {
        self.all.iter().find(|row| row.key() == *key)
    }

    /// Selects the row at this place, or the last one.
    pub(super) fn select(&mut self, row: usize) {
        self.row = row.min(self.shown.len().saturating_sub(1));
        self.selected = self.selected().map(Listed::key);
    }

    /// Selects another row; a negative number is up.
    pub(super) fn move_by(&mut self, rows: isize) {
        self.select(self.row.saturating_add_signed(rows));
    }

    /// Sorts by the next or previous column.
    pub(super) fn sort_by_neighbour(&mut self, next: bool) {
        self.sort = self.sort.step(if next { 1 } else { T::Column::ALL.len().saturating_sub(1) });
        self.reversed = false;
        self.arrange();
    }

    /// Turns the order around.
    pub(super) fn reverse(&mut self) {
        self.reversed = !self.reversed;
        self.arrange();
    }

    /// Whether the largest comes first.
    pub(super) fn descends(&self) -> bool {
        self.sort.is_amount() != self.reversed
    }

    /// Filters and sorts again, after any of it changed.
    pub(super) fn arrange(&mut self) {
        let wanted = self.filter.to_ascii_lowercase();
        let mut shown: Vec<_> = self.all.iter().filter(|row| matches(*row, &wanted)).cloned().collect();
        let (sort, descends) = (self.sort, self.descends());
        shown.sort_by(|a, b| {
            let order = a.compare(b, sort);
            if descends { order.reverse() } else { order }.then_with(|| a.key().cmp(&b.key()))
        });
        self.shown = shown;
        let selected = self.selected.as_ref();
        let row = selected.and_then(|key| self.shown.iter().position(|row| row.key() == *key));
        self.select(row.unwrap_or(self.row));
    }
}

fn matches<T: Listed>(row: &T, wanted: &str) -> bool {
    wanted.is_empty() || row.texts().iter().any(|text| safe(text).to_ascii_lowercase().contains(wanted))
}
