//! Who is told when a client is locked for what it has done: the operator's script.
//!
//! Owns that nobody waits for it, and that what cannot be told is counted. Never runs anything: the
//! datapath process has that done by one of its own (`crate::action`).

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::ipc::offender::{End, Offender, Report};
use crate::policy::lock::Who;
use crate::telemetry::{Counter, Telemetry, Trouble};

/// Something that is told of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `on-lock.script`.
    Script,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Script];

    /// One word for records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
        }
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// With a failure.
    Failed,
    /// It took too long.
    Overdue,
    /// There were too many.
    LeftOut,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Overdue, Self::LeftOut];

    /// One word for records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Overdue => "overdue",
            Self::LeftOut => "left-out",
        }
    }
}

/// The way to those who are told.
#[derive(Debug)]
pub struct Hooks {
    offenders: mpsc::Sender<Box<Offender>>,
    telemetry: Arc<Telemetry>,
}

impl Hooks {
    /// `offenders` leads to the datapath process.
    #[must_use]
    pub const fn new(offenders: mpsc::Sender<Box<Offender>>, telemetry: Arc<Telemetry>) -> Self {
        Self { offenders, telemetry }
    }

    /// A client was locked. Never waits.
    pub fn tell(&self, offender: Offender) {
        let lock = offender.lock.clone();
        if self.offenders.try_send(Box::new(offender)).is_err() {
            self.ended(Hook::Script, &lock, &End::LeftOut);
        }
    }

    /// A script has ended.
    pub fn reported(&self, report: &Report) {
        self.ended(Hook::Script, &report.lock, &report.end);
    }

    /// One line of the log for each lock at most, as that of the lock itself; trouble is summed up.
    fn ended(&self, hook: Hook, who: &Who, end: &End) {
        let (outcome, reason) = match end {
            End::Done => (Outcome::Done, ""),
            End::Failed { reason } => (Outcome::Failed, reason.as_str()),
            End::Overdue => (Outcome::Overdue, "it was ended after its time limit"),
            End::LeftOut => (Outcome::LeftOut, "too many others wait already"),
        };
        self.telemetry.count(Counter::Hook(hook, outcome));
        let (hook, outcome) = (hook.name(), outcome.name());
        tracing::info!(%who, hook, outcome, "told of a lock");
        if *end != End::Done {
            self.telemetry.trouble(Trouble::Hook, || format!("{hook} for {who}: {reason}"));
        }
    }
}
