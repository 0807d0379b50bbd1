//! What the tasks of the manager do, each for one message.

use std::sync::Arc;
use std::time::Duration;

use crate::delivery::courier::{self, Delivered, Errand, Fate, recipient};
use crate::delivery::dsn::Side;
use crate::delivery::incident::{Incident, damaged, unreadable};
use crate::delivery::office::{Ear, Office, Place, Sent, Subject, awaiting_report};
use crate::delivery::record::{Delays, Ending, Record};
use crate::queue::{Envelope, QueueId, ReadError, Standing, Stored, Target};
use crate::smtp::client::{Outcome, Protocol, Report, Status};

/// What a task ends with.
#[derive(Debug)]
pub(super) enum Event {
    /// A message was read.
    Read(Box<Result<Stored, ReadError>>),
    /// A delivery has ended.
    Delivered(Failed),
    /// What has nothing to say.
    Other,
}

/// Whom a delivery did not reach.
#[derive(Debug)]
pub(super) struct Failed {
    /// What they were told.
    pub(super) fates: Vec<Fate>,
    /// Why the destination is in trouble, if it is.
    pub(super) trouble: Option<Report>,
}

/// Makes a delivery, and settles those that a server has taken.
pub(super) async fn carry_out(office: Arc<Office>, subject: Subject, errand: Errand, sent: Sent) -> Event {
    // An operator may have deleted or held it since it was scheduled.
    let nothing = Event::Delivered(Failed { fates: Vec::new(), trouble: None });
    if office.queue.find(subject.id).is_none_or(|found| found.standing == Standing::Held) {
        return nothing;
    }
    let stored = match office.queue.read(subject.id).await {
        Ok(stored) => stored,
        Err(ReadError::Gone) => return nothing,
        Err(ReadError::Damaged) => {
            hold_damaged(&office, subject.id);
            tell(&office, &subject, &damaged(subject.id)).await;
            return nothing;
        }
        Err(ReadError::Io(error)) => {
            let report = Report::transient(3, 0, format!("the queue cannot be read: {error}"));
            tell(&office, &subject, &unreadable(&report)).await;
            let fates = super::fates(&errand.recipients, &report);
            return Event::Delivered(Failed { fates, trouble: None });
        }
    };
    let setup = office.setup.load_full();
    let protocol = errand.next_hop.protocol;
    let ear = Ear { office: &office, subject: &subject, sent: &sent };
    let resolver = office.resolver.load_full();
    let delivered = courier::deliver(&setup, &resolver, &office.pool, errand, &stored, &ear).await;
    let Delivered { fates, trouble, damaged: is_damaged, mut incident } = delivered;
    if is_damaged {
        hold_damaged(&office, subject.id);
        incident = Some(damaged(subject.id));
    }
    let waiting = awaiting_report(&subject.envelope, &fates);
    if !waiting.is_empty() {
        office.tell_success(&subject, waiting, protocol).await;
    }
    if fates.iter().any(|fate| matches!(fate.outcome, Outcome::Sent(_))) {
        // Not before the disk knows is there room for the next delivery: whoever is killed sends no more
        // than what was under way again.
        office.queue.settled().await;
    }
    if let Some(incident) = &incident {
        tell(&office, &subject, incident).await;
    }
    Event::Delivered(Failed { fates, trouble })
}

/// Ends a delivery that failed for an error of the gateway's own: whom a server has taken is not tried again, and his sender
/// hears of it if he asked for that; all others are.
pub(super) async fn clear_up(office: Arc<Office>, subject: Subject, lost: Lost) -> Event {
    let Lost { recipients, sent, protocol } = lost;
    let (sent, left): (Vec<u32>, Vec<u32>) = recipients.into_iter().partition(|place| sent.has(*place));
    let taken = Report::new(Status::SENT, "the server has taken it");
    let fate =
        |place| Fate { place, outcome: Outcome::Sent(taken.clone()), remote: None, server_reports: false };
    let waiting = awaiting_report(&subject.envelope, &sent.into_iter().map(fate).collect::<Vec<_>>());
    if !waiting.is_empty() {
        office.tell_success(&subject, waiting, protocol).await;
    }
    let report = Report::transient(3, 0, "the delivery failed for an error of the gateway's own");
    Event::Delivered(Failed { fates: super::fates(&left, &report), trouble: None })
}

/// What is left of a delivery that failed for an error of the gateway's own.
#[derive(Debug)]
pub(super) struct Lost {
    /// Places of its recipients.
    pub(super) recipients: Vec<u32>,
    /// Those whom a server has taken.
    pub(super) sent: Sent,
    /// The protocol that was spoken.
    pub(super) protocol: Protocol,
}

/// Tells the postmaster of an incident with a message.
async fn tell(office: &Office, subject: &Subject, incident: &Incident) {
    let Envelope { sender, target, .. } = &*subject.envelope;
    let id = subject.id.to_string();
    office.notice(incident, Place { side: Side::Client, id: &id, sender, target }).await;
}

/// Tells the postmaster of a message that is damaged in the queue, so that nothing more is known of it.
pub(super) async fn tell_damaged(office: Arc<Office>, id: QueueId) -> Event {
    let place = Place { side: Side::Client, id: &id.to_string(), sender: "unknown", target: &Target::Mx };
    office.notice(&damaged(id), place).await;
    Event::Other
}

/// Keeps a message that is not what was taken for the operator to look at.
pub(super) fn hold_damaged(office: &Office, id: QueueId) {
    tracing::error!(%id, "a message in the queue is damaged and is held; `gateway queue show` tells of it");
    office.queue.set_standing(id, Standing::Held);
    office.found_damaged(id);
}

/// Writes the record of a recipient to whom no delivery was begun.
pub(super) fn record_unsent(office: &Office, subject: &Subject, fate: &Fate, queued: Duration) {
    let (ending, report) = match &fate.outcome {
        Outcome::Sent(report) => (Ending::Sent, report),
        Outcome::Deferred(report) => (Ending::Deferred, report),
        Outcome::Bounced(report) => (Ending::Bounced, report),
    };
    let to = recipient(&subject.envelope, fate.place).map_or("", |recipient| &recipient.address).to_owned();
    office.telemetry.delivery(
        subject.id,
        &Record {
            original_to: to.clone(),
            to,
            relay: None,
            connection_use: 1,
            delays: Delays { queued, ..Delays::default() },
            digits: office.setup.load().digits,
            status: report.status,
            ending,
            reason: report.reason.clone(),
        },
    );
}
