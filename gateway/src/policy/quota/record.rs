//! What one client has used.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Counter, Demand, Entry, Quota};

/// An amount in one window.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    /// What is kept elsewhere, together with what other processes have put there.
    known: u64,
    /// What was added here since.
    unsaved: u64,
}

impl Amount {
    const fn sum(self) -> u64 {
        self.known.saturating_add(self.unsaved)
    }
}

/// What was used in one window.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    amounts: [Amount; Quota::ALL.len()],
    /// By server; empty as long as nobody limits them.
    destinations: BTreeMap<IpAddr, Amount>,
}

impl Window {
    fn new(start: u64) -> Self {
        Self { start, ..Self::default() }
    }

    fn amount(&mut self, counter: Counter) -> Option<&mut Amount> {
        match counter {
            Counter::Quota(quota) => self.amounts.get_mut(quota as usize),
            Counter::Destination(server) => Some(self.destinations.entry(server).or_default()),
        }
    }

    fn sum(&self, quota: Quota) -> u64 {
        self.amounts.get(quota as usize).map_or(0, |amount| amount.sum())
    }
}

/// What one client has used in this window and the one before.
#[derive(Debug)]
pub(super) struct Record {
    current: Window,
    previous: Window,
    /// Demands that were refused.
    pub(super) refused: u64,
    /// The window in which one was refused last.
    refused_in: Option<u64>,
    /// When it was made, in resets of the table.
    pub(super) epoch: u64,
}

impl Record {
    pub(super) fn new(start: u64, epoch: u64) -> Self {
        let (current, previous) = (Window::new(start), Window::default());
        Self { current, previous, refused: 0, refused_in: None, epoch }
    }

    /// Begins the window at `start`, if another one was the present one.
    pub(super) fn roll(&mut self, start: u64, period: u64) {
        if start == self.current.start || start.saturating_add(period) == self.current.start {
            // A clock that goes back a little begins no window again.
            return;
        }
        let follows = start == self.current.start.saturating_add(period);
        let before = std::mem::replace(&mut self.current, Window::new(start));
        self.previous = if follows { before } else { Window::default() };
    }

    pub(super) fn add(&mut self, counter: Counter, amount: u64) {
        if let Some(before) = self.current.amount(counter) {
            before.unsaved = before.unsaved.saturating_add(amount);
        }
    }

    /// What is kept of `entry` is `total`, and `added` was added here.
    pub(super) fn learn(&mut self, entry: &Entry, added: u64, total: u64) {
        let window = if entry.start == self.current.start {
            &mut self.current
        } else if entry.start.saturating_add(entry.period) == self.current.start {
            self.previous.start = entry.start;
            &mut self.previous
        } else {
            return;
        };
        if let Some(amount) = window.amount(entry.counter) {
            *amount = Amount { known: total, unsaved: amount.unsaved.saturating_sub(added) };
        }
    }

    /// Notes a refusal; says whether it is the first one in this window.
    pub(super) fn refuse(&mut self, start: u64) -> bool {
        self.refused = self.refused.saturating_add(1);
        self.refused_in.replace(start) != Some(start)
    }

    /// Whether a demand would go beyond `limit`.
    pub(super) fn exceeds(&self, quota: Quota, limit: u64, demand: Demand, period: u64, now: u64) -> bool {
        let used = self.used(quota, period, now);
        match (quota, demand) {
            (Quota::Destinations, Demand::Session { server }) => {
                if self.current.destinations.contains_key(&server) {
                    return false;
                }
                // A server of the window before moves to this one.
                let before = self.only_before().filter(|known| **known != server).count();
                let current = length(self.current.destinations.len()).saturating_add(1);
                self.weighted(length(before), period, now).saturating_add(current) > limit
            }
            (Quota::Bytes, Demand::Message { size }) => used >= limit || used.saturating_add(size) > limit,
            _ => used >= limit,
        }
    }

    /// What counts of a quota at `now`.
    pub(super) fn used(&self, quota: Quota, period: u64, now: u64) -> u64 {
        let (before, current) = if quota == Quota::Destinations {
            (length(self.only_before().count()), length(self.current.destinations.len()))
        } else {
            (self.previous.sum(quota), self.current.sum(quota))
        };
        self.weighted(before, period, now).saturating_add(current)
    }

    /// The servers of the window before that are none of this one.
    fn only_before(&self) -> impl Iterator<Item = &IpAddr> {
        let servers = self.previous.destinations.keys();
        servers.filter(|server| !self.current.destinations.contains_key(server))
    }

    /// The part of the window before that still counts, rounded up.
    fn weighted(&self, amount: u64, period: u64, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.current.start);
        let left = u128::from(period.saturating_sub(elapsed));
        let weighted = u128::from(amount).saturating_mul(left).div_ceil(u128::from(period.max(1)));
        u64::try_from(weighted).unwrap_or(u64::MAX)
    }

    /// The servers that count at `now`.
    pub(super) fn destinations(&self, period: u64, now: u64) -> Vec<IpAddr> {
        let before = self.previous.destinations.keys().filter(|_| self.weighted(1, period, now) != 0);
        let mut all: Vec<_> = self.current.destinations.keys().chain(before).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
