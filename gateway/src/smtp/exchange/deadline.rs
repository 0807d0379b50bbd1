//! Deadlines: one for each step, and one for the whole, so that dripping does not help.

use std::time::{Duration, Instant};

use super::{Exchange, Input, Phase};
use crate::outcome::SessionEnd;
use crate::smtp::question::Ruling;
use crate::smtp::refusal::Refusal;

/// How long the client may take to read the last replies of a session that has ended.
const CLOSING: Duration = Duration::from_secs(5);
/// How much longer than `timeouts.scan` and `timeouts.checks` the exchange waits for the driver.
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
    /// A message was complete.
    pub(super) verdict: Instant,
    /// The server took octets, or was first given some.
    pub(super) server_write: Instant,
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
            server_write: now,
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
    Connect,
    Greeting,
    Reply,
    Command,
    Text,
    Verdict,
    ServerWrite,
    ClientWrite,
    Takeover,
    Session,
    Delay,
    Closing,
    Ruling,
}

impl Exchange {
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
        let times = &self.rules.timeouts;
        let clocks = &self.clocks;
        let mut timers = [None; 7];
        let [phase, wait, ruling, total, delay, to_server, to_client] = &mut timers;
        *phase = match &self.phase {
            Phase::Connect if self.asked.is_some() => None,
            Phase::Connect => at(clocks.phase, times.connect.duration(), Timer::Connect),
            Phase::Greeting { .. } => at(clocks.phase, times.greeting.duration(), Timer::Greeting),
            Phase::Takeover(takeover) if !self.is_in_message() => {
                at(takeover.since, times.takeover.duration(), Timer::Takeover)
            }
            Phase::Closing(_) => at(clocks.phase, CLOSING, Timer::Closing),
            Phase::Relay | Phase::Takeover(_) | Phase::Spliced => None,
        };
        if matches!(self.phase, Phase::Closing(_)) {
            return *phase;
        }
        if matches!(self.phase, Phase::Relay | Phase::Takeover(_)) {
            *wait = match &self.input {
                Input::Text(text) => self.text_timer(text.since),
                Input::Chunk(chunk) => self.text_timer(chunk.since),
                Input::Verdict(_) => {
                    let limit = times.scan.duration().saturating_add(GRACE);
                    at(clocks.verdict, limit, Timer::Verdict)
                }
                Input::Command | Input::AuthResponse => match self.queue.since() {
                    Some(since) if self.queue.awaits_end_of_data() => {
                        at(since, times.end_of_data.duration(), Timer::Reply)
                    }
                    Some(since) => at(since, times.reply.duration(), Timer::Reply),
                    None if self.asked.is_some() => None,
                    None => at(clocks.command, times.command.duration(), Timer::Command),
                },
            };
        }
        if let Some(asked) = &self.asked {
            *ruling = at(asked.since, times.checks.duration().saturating_add(GRACE), Timer::Ruling);
        }
        *total = at(clocks.opened, times.session.duration(), Timer::Session);
        *delay = clocks.delay.map(|until| (until, Timer::Delay));
        if !self.to_server.is_empty() {
            *to_server = at(clocks.server_write, times.data_block.duration(), Timer::ServerWrite);
        }
        if !self.to_client.is_empty() {
            *to_client = at(clocks.client_write, times.command.duration(), Timer::ClientWrite);
        }
        timers.iter().flatten().min_by_key(|(at, _)| *at).copied()
    }

    fn text_timer(&self, since: Instant) -> Option<(Instant, Timer)> {
        if !self.has_room() {
            // Whoever does not read has a deadline of his own; meanwhile the client cannot send.
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
                return true;
            }
            Timer::Closing => return false,
            Timer::Connect => self.give_up(&Refusal::ConnectTimeout, SessionEnd::Connect, now),
            Timer::Greeting | Timer::Reply => {
                self.give_up(&Refusal::ServerSilent, SessionEnd::Timeout, now);
            }
            Timer::Command | Timer::Text | Timer::Takeover => {
                self.give_up(&Refusal::ClientTimeout, SessionEnd::Timeout, now);
            }
            Timer::Ruling => self.answered(Ruling::Refuse(Refusal::CheckFailed), now),
            Timer::Verdict => self.refuse_message(Refusal::ScannerFailed, now),
            Timer::ServerWrite => self.give_up(&Refusal::ServerStalled, SessionEnd::Timeout, now),
            Timer::ClientWrite => {
                // The client does not read: there is no one to tell.
                self.to_client.clear();
                self.abort_message("the client does not read");
                self.finish(SessionEnd::Timeout, now);
            }
            Timer::Session => self.give_up(&Refusal::SessionTimeout, SessionEnd::Timeout, now),
        }
        false
    }

    /// Says why, and ends the session.
    pub(super) fn give_up(&mut self, refusal: &Refusal, end: SessionEnd, now: Instant) {
        self.abort_message(&refusal.to_string());
        self.queue.clear();
        self.say(refusal, now);
        self.finish(end, now);
    }
}

fn at(since: Instant, limit: Duration, timer: Timer) -> Option<(Instant, Timer)> {
    since.checked_add(limit).map(|at| (at, timer))
}
