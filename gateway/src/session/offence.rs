//! What clients have done, and what comes of it.
//!
//! Owns that every offence that a session finds is reported in one place. Whether anybody is locked
//! for it is decided in `policy::lock`.

use std::time::Duration;

use super::Context;
use crate::intercept::flow::Flow;
use crate::ipc::offender::{Found, Offender, Scene, Told};
use crate::policy::lock::{Lock, Offence, Outcome};
use crate::smtp::refusal::Refusal;
use crate::smtp::report::Note;
use crate::telemetry::{Counter, Trouble};

/// The client of `flow` is refused: it may have offended.
pub(super) fn refused(context: &Context, flow: &Flow, refusal: &Refusal, scene: impl FnOnce() -> Scene) {
    if let Some(offence) = Offence::of(refusal) {
        report(context, flow, &offence, scene);
    }
}

/// A session of `flow` has noted something: it may be an offence.
pub(super) fn noted(context: &Context, flow: &Flow, note: Note, scene: impl FnOnce() -> Scene) {
    if let Note::Offence(cause) = note
        && let Some(offence) = Offence::noted(cause)
    {
        report(context, flow, &offence, scene);
    }
}

/// The client of `flow` has offended; `scene` is how far its dialogue had come.
pub(super) fn report(context: &Context, flow: &Flow, offence: &Offence, scene: impl FnOnce() -> Scene) {
    match context.locks.offend(flow, offence) {
        Outcome::Created(lock) => {
            context.telemetry.count(Counter::Locked(lock.cause));
            let settings = context.settings.load();
            if settings.config.on_lock.is_on() {
                let gateway = Told::new(&settings.rules.voice.name);
                let offender = offender(context, gateway, flow, offence, lock, scene());
                context.hooks.tell(&settings.config.on_lock, offender);
            }
        }
        Outcome::Full => context.telemetry.trouble(Trouble::Full, || "no room for one more lock".to_owned()),
        Outcome::Renewed(_) | Outcome::Held | Outcome::Spared => {}
    }
}

fn offender(
    context: &Context,
    gateway: Told,
    flow: &Flow,
    offence: &Offence,
    lock: Lock,
    scene: Scene,
) -> Offender {
    let duration = lock.until.map(|until| Duration::from_secs(until.saturating_sub(lock.since)));
    Offender {
        gateway,
        found: Found::of(offence),
        detail: Told::new(&lock.detail),
        lock: lock.who,
        duration,
        session: flow.id,
        client: flow.client,
        destination: flow.destination,
        listener: flow.listener,
        identity: flow.identity.clone(),
        sessions: context.table.open_of(flow),
        scene,
    }
}
