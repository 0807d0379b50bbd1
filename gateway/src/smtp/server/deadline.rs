//! Deadlines: one for each step, and one for the whole, so that dripping does not help.

use std::time::{Duration, Instant};

use super::{Input, Phase, Server};
use crate::outcome::SessionEnd;
use crate::smtp::question::Ruling;
use crate::smtp::refusal::Refusal;

/// How long the client may take to read the last replies of a session that has ended.
const CLOSING: Duration = Duration::from_secs(5);
/// How much longer than `timeouts.scan` and `timeouts.checks` the session waits for the driver.
const GRACE: Duration = Duration::from_secs(30);

/// Since when each step lasts.
#[derive(Debug)]
pub(super) struct Clocks {
    /// The session was accepted.
    opened: Instant,
    /// The present phase began.
    phase: Instant,
    /// The client could have sent its next command.
    pub(super) command: Instant,
    /// The last octets of a text came.
    pub(super) block: Instant,
    /// A message was complete, or began to be stored.
    pub(super) verdict: Instant,
    /// The client took octets, or was first given some.
    pub(super) client_write: Instant,
    /// Until when replies are held back from a client that errs too often.
    pub(super) delay: Option<Instant>,
}

impl Clocks {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            opened: now,
            phase: now,
            command: now,
            block: now,
            verdict: now,
            client_write: now,
            delay: None,
        }
    }

    /// A new phase begins.
    pub(super) const fn enter(&mut self, now: Instant) {
        self.phase = now;
        self.command = now;
    }

    pub(super) fn close_passed(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.phase) >= CLOSING
    }
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Greeting,
    Handshake,
    Command,
    Text,
    Verdict,
    Storing,
    ClientWrite,
    Refusing,
    Session,
    Delay,
    Closing,
    Ruling,
}

impl Server {
    /// When [`Self::timeout`] is to be called, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.next_timer().map(|(at, _)| at)
    }

    /// A deadline has passed, or may have.
    pub fn timeout(&mut self, now: Instant) {
        while let Some((_, timer)) = self.next_timer().filter(|(at, _)| *at <= now) {
            if !self.expire(timer, now) {
                break;
            }
        }
        self.pump(now);
    }

    fn next_timer(&self) -> Option<(Instant, Timer)> {
        if matches!(self.phase, Phase::Closing(_)) {
            return at(self.clocks.phase, CLOSING, Timer::Closing);
        }
        if matches!(self.input, Input::Storing) {
            // Nothing else ends a session of which it is not known whether the message is taken.
            return self.step_timer();
        }
        let times = &self.rules.timeouts;
        let clocks = &self.clocks;
        let ruling = self
            .asked
            .as_ref()
            .and_then(|asked| at(asked.since, times.checks.duration().saturating_add(GRACE), Timer::Ruling));
        let unread = (!self.to_client.is_empty()).then_some(clocks.client_write);
        let timers = [
            self.step_timer(),
            ruling,
            at(clocks.opened, times.session.duration(), Timer::Session),
            clocks.delay.map(|until| (until, Timer::Delay)),
            unread.and_then(|since| at(since, times.command.duration(), Timer::ClientWrite)),
        ];
        timers.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The deadline of what the session waits for.
    fn step_timer(&self) -> Option<(Instant, Timer)> {
        let times = &self.rules.timeouts;
        let clocks = &self.clocks;
        match (&self.phase, &self.input) {
            (Phase::Arrival { greets, .. }, _) => greets.map(|greets| (greets, Timer::Greeting)),
            (Phase::Handshake, _) => at(clocks.phase, times.command.duration(), Timer::Handshake),
            (Phase::Open, Input::Text(text)) => self.text_timer(text.since),
            (Phase::Open, Input::Chunk(chunk)) => self.text_timer(chunk.since),
            (Phase::Open, Input::Verdict) => {
                at(clocks.verdict, times.scan.duration().saturating_add(GRACE), Timer::Verdict)
            }
            (Phase::Open, Input::Storing) => at(clocks.verdict, times.end_of_data.duration(), Timer::Storing),
            (Phase::Open, Input::Command) if self.asked.is_some() => None,
            (Phase::Open, Input::Command) => {
                let command = at(clocks.command, times.command.duration(), Timer::Command);
                let refusing = self.refusing.as_ref();
                let refusing = refusing
                    .and_then(|refusing| at(refusing.since, times.takeover.duration(), Timer::Refusing));
                command.into_iter().chain(refusing).min_by_key(|(at, _)| *at)
            }
            (Phase::Closing(_), _) => None,
        }
    }

    fn text_timer(&self, since: Instant) -> Option<(Instant, Timer)> {
        if !self.has_room() {
            // The client cannot send; whoever does not read has a deadline of his own.
            return None;
        }
        let times = &self.rules.timeouts;
        let block = at(self.clocks.block, times.data_block.duration(), Timer::Text);
        let whole = at(since, times.message.duration(), Timer::Text);
        block.into_iter().chain(whole).min_by_key(|(at, _)| *at)
    }

    /// Returns whether further timers are to be looked at.
    fn expire(&mut self, timer: Timer, now: Instant) -> bool {
        match timer {
            Timer::Delay => {
                self.clocks.delay = None;
                self.clocks.command = now;
                self.flush(now);
                return true;
            }
            Timer::Greeting => {
                self.greet(now);
                return true;
            }
            Timer::Closing => {}
            Timer::Ruling => self.answered(Ruling::Refuse(Refusal::CheckFailed), now),
            Timer::Verdict => self.decided(Some(Refusal::ScannerFailed), now),
            Timer::Storing => self.stored(Err(Refusal::SpoolFailed), now),
            Timer::ClientWrite => {
                // The client does not read: there is no one to tell.
                self.to_client.clear();
                self.held.clear();
                self.abort_message("the client does not read");
                self.finish(SessionEnd::Timeout, now);
            }
            Timer::Handshake | Timer::Command | Timer::Text | Timer::Refusing => {
                self.give_up(&Refusal::ClientTimeout, SessionEnd::Timeout, now);
            }
            Timer::Session => self.give_up(&Refusal::SessionTimeout, SessionEnd::Timeout, now),
        }
        false
    }
}

fn at(since: Instant, limit: Duration, timer: Timer) -> Option<(Instant, Timer)> {
    since.checked_add(limit).map(|at| (at, timer))
}
