//! Where a scan is.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where a scan is; named when its deadline passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Message,
    Place,
    Connect,
    Send,
    Answer,
}

impl Step {
    const ALL: [Self; 5] = [Self::Message, Self::Place, Self::Connect, Self::Send, Self::Answer];

    pub(super) const fn doing(self) -> &'static str {
        match self {
            Self::Message => "waiting for the message",
            Self::Place => "waiting for a free place (`concurrency`)",
            Self::Connect => "connecting to the scanner",
            Self::Send => "sending the message to the scanner",
            Self::Answer => "waiting for the scanner's answer",
        }
    }
}

/// A [`Step`] shared between the parts of a scan.
#[derive(Debug, Default)]
pub(super) struct StepCell(AtomicU8);

impl StepCell {
    pub(super) fn store(&self, step: Step) {
        self.0.store(step as u8, Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> Step {
        let index = usize::from(self.0.load(Ordering::Relaxed));
        Step::ALL.get(index).copied().unwrap_or(Step::Message)
    }
}
