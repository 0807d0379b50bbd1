//! One destination: what is waiting for it, and whether it may have a delivery.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::window::Window;
use super::{Job, Limits, REMEMBERED, Showed};

/// Where the schedule has filed a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    Turn(u64),
    Paused(Instant),
    Idle(Instant),
}

/// Where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// It has all deliveries that it may have.
    Nothing,
    /// It may have one more.
    Turn,
    /// It may have one at that time.
    Pause(Instant),
    /// It has no mail, and is to be forgotten at that time.
    Rest(Instant),
}

/// A destination.
#[derive(Debug)]
pub(super) struct Destination<R> {
    limits: Arc<Limits>,
    /// Deliveries that it may have of all places.
    share: u32,
    window: Window,
    /// Until when it is left alone, and why.
    dead: Option<(Instant, R)>,
    /// When its next delivery may begin.
    not_before: Option<Instant>,
    /// Deliveries under way.
    pub(super) busy: u32,
    /// When one ended last.
    pub(super) last_end: Option<Instant>,
    pub(super) waiting: VecDeque<Job>,
    pub(super) place: Place,
}

impl<R> Destination<R> {
    pub(super) fn new(limits: Arc<Limits>, share: u32) -> Self {
        Self {
            window: Window::new(&limits.concurrency),
            limits,
            share,
            dead: None,
            not_before: None,
            busy: 0,
            last_end: None,
            waiting: VecDeque::new(),
            place: Place::Nowhere,
        }
    }

    /// Why it is left alone at `now`, if it is. When that time is over it begins anew.
    pub(super) fn trouble(&mut self, now: Instant) -> Option<&R> {
        if self.dead.as_ref().is_some_and(|(until, _)| *until <= now) {
            self.revive();
        }
        self.dead.as_ref().map(|(_, reason)| reason)
    }

    /// It is not left alone any more; how much it can bear is anybody's guess.
    pub(super) fn revive(&mut self) {
        if self.dead.take().is_some() {
            self.window.begin_anew(self.busy, &self.limits.concurrency);
        }
    }

    /// How many deliveries it may have at once.
    fn most(&self) -> u32 {
        if self.limits.rate_delay.is_zero() { self.window.size().min(self.share) } else { 1 }
    }

    /// Begins a delivery of the first message, which goes to the end with the recipients that are left.
    pub(super) fn begin(&mut self) -> Option<Job> {
        let mut job = self.waiting.pop_front()?;
        let most = if self.limits.recipients == 0 { usize::MAX } else { self.limits.recipients };
        if job.recipients.len() > most {
            let left = job.recipients.split_off(most);
            self.waiting.push_back(Job { message: job.message, recipients: left });
        }
        self.busy = self.busy.saturating_add(1);
        Some(job)
    }

    /// Ends one; returns what is given up if it is left alone from now on.
    pub(super) fn end(&mut self, showed: Showed<R>, now: Instant) -> Vec<Job> {
        let mut dropped = Vec::new();
        match showed {
            Showed::Health => {
                self.revive();
                self.window.success(self.busy, &self.limits.concurrency);
            }
            Showed::Trouble(reason) if self.dead.is_none() => {
                if self.window.failure(&self.limits.concurrency) {
                    self.dead = now.checked_add(self.limits.dead).map(|until| (until, reason));
                    dropped.extend(self.waiting.drain(..));
                }
            }
            // It was known already.
            Showed::Trouble(_) => {}
        }
        self.busy = self.busy.saturating_sub(1);
        self.last_end = Some(now);
        if !self.limits.rate_delay.is_zero() {
            self.not_before = now.checked_add(self.limits.rate_delay);
        }
        dropped
    }

    pub(super) fn wants(&self, now: Instant) -> Wants {
        if self.waiting.is_empty() {
            return if self.busy == 0 { Wants::Rest(self.forgotten_at(now)) } else { Wants::Nothing };
        }
        if self.dead.is_some() || self.busy >= self.most() {
            return Wants::Nothing;
        }
        match self.not_before {
            Some(at) if at > now => Wants::Pause(at),
            _ => Wants::Turn,
        }
    }

    /// When nothing that is known of it counts any more.
    fn forgotten_at(&self, now: Instant) -> Instant {
        let rested = self.last_end.unwrap_or(now).checked_add(REMEMBERED).unwrap_or(now);
        let revived = self.dead.as_ref().map_or(now, |(until, _)| *until);
        rested.max(revived).max(self.not_before.unwrap_or(now))
    }
}
