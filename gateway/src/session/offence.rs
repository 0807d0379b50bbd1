//! What clients have done, and what comes of it.
//!
//! Owns that every offence that a session finds is reported in one place. Whether anybody is locked
//! for it is decided in `policy::lock`.

use super::Context;
use crate::intercept::flow::Flow;
use crate::policy::lock::{Offence, Outcome};
use crate::smtp::refusal::Refusal;
use crate::telemetry::{Counter, Trouble};

/// The client of `flow` is refused: it may have offended.
pub(super) fn refused(context: &Context, flow: &Flow, refusal: &Refusal) {
    if let Some(offence) = Offence::of(refusal) {
        report(context, flow, &offence);
    }
}

/// The client of `flow` has offended.
pub(super) fn report(context: &Context, flow: &Flow, offence: &Offence) {
    match context.locks.offend(flow, offence) {
        Outcome::Created(lock) => context.telemetry.count(Counter::Locked(lock.cause)),
        Outcome::Full => context.telemetry.trouble(Trouble::Full, || "no room for one more lock".to_owned()),
        Outcome::Renewed(_) | Outcome::Held | Outcome::Spared => {}
    }
}
