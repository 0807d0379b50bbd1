//! What all deliveries share, and what is told of mail: records, and reports to senders and postmasters.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::bounce::{self, Returned};
use super::courier::{Fate, Hearer, recipient};
use super::dkim::Signature;
use super::dsn::{self, Action, Host, Kind, Original, Reader, Told};
use super::incident::Pace;
use super::next_hop::NextHop;
use super::pool::Pool;
use super::record::Record;
use super::transport::Setup;
use super::waiting::Reasons;
use crate::clock;
use crate::config::file::delivery::NotifyClass;
use crate::dns::Resolver;
use crate::queue::{Content, Envelope, NotifyOn, Queue, QueueId, Recipient, Target, WriteError};
use crate::smtp::client::{Outcome, Protocol, Report};
use crate::smtp::fault::Fault;
use crate::telemetry::{Counter, Telemetry, Trouble};

mod backlog;
mod postmaster;
#[cfg(test)]
mod tests;

pub use backlog::Waiting;
pub use postmaster::Place;

/// Octets of a header that a report returns at most, where the body is too long to be returned.
const LONGEST_HEADER: usize = 128 * 1024;

/// Operators' questions that may wait.
const ASKED: usize = 16;

/// What is told of mail, and to whom.
#[derive(Clone, Debug)]
pub struct Reports {
    /// Octets of a message that is returned whole (`bounce-size-limit`).
    pub size_limit: usize,
    /// What the postmaster hears of (`notify-classes`).
    pub classes: Vec<NotifyClass>,
    /// The classes of sessions among these.
    pub faults: Vec<Fault>,
    /// Notices of one class in an hour (`notices-per-hour`).
    pub notices_per_hour: usize,
    /// The postmaster (`error-notice-recipient`).
    pub postmaster: String,
}

/// What all deliveries share.
#[derive(Debug)]
pub struct Office {
    /// The mail.
    pub queue: Queue,
    /// The DNS. A change counts for look-ups that begin behind it.
    pub resolver: ArcSwap<Resolver>,
    /// Where all is counted and written.
    pub telemetry: Arc<Telemetry>,
    /// Connections that are kept.
    pub(super) pool: Arc<Pool>,
    /// Where the manager is told that an operator wants destinations to be tried that are left alone.
    revive: mpsc::Sender<oneshot::Sender<()>>,
    /// Notices to the postmaster of late.
    pace: Mutex<Pace>,
    /// Why the latest deliveries failed.
    reasons: Mutex<Reasons>,
    /// What was last said of mail that waits.
    waiting: tokio::sync::Mutex<Option<Arc<Waiting>>>,
    /// Messages that are not what was taken.
    damaged: Mutex<BTreeSet<QueueId>>,
    /// What deliveries are made with. A change counts for those that begin behind it.
    pub setup: ArcSwap<Setup>,
}

/// A message of which there is something to tell.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) id: QueueId,
    pub(super) envelope: Arc<Envelope>,
}

/// What the manager is asked.
pub type Asked = mpsc::Receiver<oneshot::Sender<()>>;

impl Office {
    /// An office, and what its manager is asked.
    #[must_use]
    pub fn new(
        queue: Queue,
        resolver: Arc<Resolver>,
        telemetry: Arc<Telemetry>,
        setup: Setup,
    ) -> (Self, Asked) {
        let (revive, asked) = mpsc::channel(ASKED);
        (
            Self {
                queue,
                resolver: ArcSwap::new(resolver),
                telemetry,
                pool: Arc::default(),
                revive,
                pace: Mutex::default(),
                reasons: Mutex::default(),
                waiting: tokio::sync::Mutex::default(),
                damaged: Mutex::default(),
                setup: ArcSwap::from_pointee(setup),
            },
            asked,
        )
    }

    /// No destination is left alone any more; returns when that is so.
    pub(super) async fn revive(&self) {
        let (done, is_done) = oneshot::channel();
        if self.revive.send(done).await.is_ok() {
            // An error: the manager has left, and nobody is tried.
            is_done.await.unwrap_or_default();
        }
    }

    /// Tells the sender what became of recipients, or whoever is to hear of it in his place. `action` says what was done.
    /// Where only a copy for the postmaster cannot be written, that is the end of it: the sender was told, and is not told twice.
    ///
    /// # Errors
    ///
    /// Nobody was told.
    pub(super) async fn tell(
        &self,
        subject: &Subject,
        kind: Kind,
        fates: &[Fate],
        action: impl Fn(&Fate) -> Action,
    ) -> Result<(), WriteError> {
        if fates.is_empty() {
            return Ok(());
        }
        let setup = self.setup.load_full();
        let double = double_bounce(&setup.name);
        let classes = &setup.reports.classes;
        let postmaster = at(&setup.reports.postmaster, &setup.name);
        let copy = Reader::Postmaster(&postmaster);
        let readers = match kind {
            Kind::Failure => match bounce::returned(&subject.envelope.sender, &double, classes) {
                Returned::ToSender { postmaster: false } => vec![Reader::Sender],
                Returned::ToSender { postmaster: true } => vec![Reader::Sender, copy],
                Returned::ToPostmaster => vec![copy],
                Returned::Nowhere => {
                    tracing::info!(id = %subject.id, "a report that nobody takes is thrown away");
                    Vec::new()
                }
            },
            Kind::Delay { .. } if classes.contains(&NotifyClass::Delay) => vec![Reader::Sender, copy],
            Kind::Delay { .. } | Kind::Success => vec![Reader::Sender],
        };
        if readers.is_empty() {
            return Ok(());
        }
        let (content, whole) = self.returned(subject.id, setup.reports.size_limit).await;
        let host =
            Host { name: &setup.name, size_limit: setup.reports.size_limit, lifetime: setup.retry.lifetime };
        let id = subject.id.to_string();
        let told: Vec<_> =
            fates.iter().filter_map(|fate| told(&subject.envelope, fate, action(fate))).collect();
        let mut is_told = false;
        for reader in readers {
            let original = Original { id: &id, envelope: &subject.envelope, content: &content, whole };
            let Some(report) = dsn::compose(host, reader, kind, original, &told, clock::wall()) else {
                continue;
            };
            let sender = if reader == Reader::Sender { String::new() } else { double.clone() };
            let envelope = envelope(&report, sender, &subject.envelope.target);
            let notice = match self.queue.accept(envelope, vec![Bytes::from(report.content)]).await {
                Ok(notice) => notice,
                Err(error) if is_told => {
                    let what = || format!("the postmaster's copy of a report was not written: {error}");
                    self.telemetry.trouble(Trouble::Queue, what);
                    continue;
                }
                Err(error) => return Err(error),
            };
            is_told = true;
            self.telemetry.count(Counter::DeliveryReport(kind));
            tracing::info!(id = %subject.id, report = %notice, kind = kind.name(), "report on a message");
        }
        Ok(())
    }

    /// What a report returns of a message, and whether it is all of it. Of one that cannot be read: nothing.
    async fn returned(&self, id: QueueId, size_limit: usize) -> (Vec<u8>, bool) {
        let Ok(stored) = self.queue.read(id).await else { return (Vec::new(), false) };
        let content: Content = stored.content;
        let length = usize::try_from(content.len()).unwrap_or(usize::MAX);
        let most = if length <= size_limit { length } else { LONGEST_HEADER };
        let mut octets = Vec::with_capacity(most.min(length));
        let mut reader = content.reader();
        while octets.len() < most {
            match reader.next().await {
                Ok(Some(piece)) => octets.extend_from_slice(&piece),
                Ok(None) => break,
                Err(_) => return (octets, false),
            }
        }
        (octets, length <= size_limit)
    }

    /// Tells those who asked for it that their mail was delivered; then all is done for these recipients. One who is
    /// not told does not get his mail twice for it.
    pub(super) async fn tell_success(&self, subject: &Subject, fates: Vec<Fate>, protocol: Protocol) {
        let setup = self.setup.load_full();
        let assume_final = setup.transport(protocol).assume_final;
        let action = |fate: &Fate| {
            let notify = recipient(&subject.envelope, fate.place).and_then(|recipient| recipient.notify);
            bounce::success(notify, fate.server_reports, protocol, assume_final)
        };
        let (told, _): (Vec<_>, Vec<_>) = fates.iter().cloned().partition(|fate| action(fate).is_some());
        let result =
            self.tell(subject, Kind::Success, &told, |fate| action(fate).unwrap_or(Action::Relayed)).await;
        if let Err(error) = result {
            self.telemetry
                .trouble(Trouble::Queue, || format!("a report on success was not written: {error}"));
        }
        let places: Vec<_> = fates.iter().map(|fate| fate.place).collect();
        self.queue.settle(subject.id, &places);
    }
}

/// Whether nobody has to hear of a success before the recipient is done with.
fn is_done(envelope: &Envelope, place: u32) -> bool {
    let notify = recipient(envelope, place).and_then(|recipient| recipient.notify);
    !notify.is_some_and(|notify| notify.success)
}

/// Recipients of one delivery whom a server has taken, also for whoever outlives the delivery; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    places: Arc<Mutex<BTreeSet<u32>>>,
}

impl Sent {
    pub(super) fn add(&self, place: u32) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(place);
    }

    pub(super) fn has(&self, place: u32) -> bool {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).contains(&place)
    }
}

/// Hears of one delivery.
#[derive(Debug)]
pub(super) struct Ear<'o> {
    pub(super) office: &'o Office,
    pub(super) subject: &'o Subject,
    pub(super) sent: &'o Sent,
}

impl Hearer for Ear<'_> {
    fn sent(&self, place: u32) {
        self.sent.add(place);
        if is_done(&self.subject.envelope, place) {
            self.office.queue.settle(self.subject.id, &[place]);
        }
    }

    fn record(&self, record: &Record) {
        self.office.telemetry.delivery(self.subject.id, record);
    }

    fn signature(&self, signature: Signature) {
        self.office.telemetry.count(Counter::Signature(signature));
    }
}

/// Recipients that a server has taken and of which their sender wants to hear.
pub(super) fn awaiting_report(envelope: &Envelope, fates: &[Fate]) -> Vec<Fate> {
    let sent = |fate: &&Fate| matches!(fate.outcome, Outcome::Sent(_)) && !is_done(envelope, fate.place);
    fates.iter().filter(sent).cloned().collect()
}

fn told<'m>(envelope: &'m Envelope, fate: &'m Fate, action: Action) -> Option<Told<'m>> {
    let (Outcome::Sent(report) | Outcome::Deferred(report) | Outcome::Bounced(report)) = &fate.outcome;
    let Report { status, reason, diagnostic, .. } = report;
    Some(Told {
        recipient: recipient(envelope, fate.place)?,
        action,
        status: *status,
        remote: fate.remote.as_deref(),
        diagnostic: diagnostic.as_deref(),
        reason,
    })
}

/// The envelope of a report: no report goes out on it but to the postmaster.
fn envelope(report: &dsn::Report, sender: String, target: &Target) -> Envelope {
    let recipient = Recipient { notify: Some(NotifyOn::NEVER), ..Recipient::new(&report.recipient) };
    Envelope {
        arrived: clock::wall_millis(),
        sender,
        recipients: vec![recipient],
        target: way_back(target),
        sign: true,
        body: report.body,
        smtputf8: report.smtputf8,
        ..Envelope::default()
    }
}

/// Where reports on mail with this target go: through the same relay, unless it has nothing but mailboxes; else to
/// the mail exchangers of the sender's domain.
fn way_back(target: &Target) -> Target {
    match target {
        Target::Relay(text) if NextHop::parse(text).is_ok_and(|hop| hop.protocol == Protocol::Smtp) => {
            target.clone()
        }
        Target::Relay(_) | Target::Original(_) | Target::Mx => Target::Mx,
    }
}

/// The sender of what the postmaster is told.
fn double_bounce(name: &str) -> String {
    at("double-bounce", name)
}

fn at(address: &str, name: &str) -> String {
    if address.contains('@') { address.to_owned() } else { format!("{address}@{name}") }
}
