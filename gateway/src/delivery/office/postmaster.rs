//! What the postmaster is told of sessions (`notify-classes`), and how often.

use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Office, at, double_bounce, envelope};
use crate::clock;
use crate::delivery::dsn::{self, Host, Session, Side};
use crate::delivery::incident::{Incident, Pace};
use crate::delivery::transport::Setup;
use crate::queue::{QueueId, Target, WriteError};
use crate::telemetry::Counter;

/// Where an incident was.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// What the gateway was in the session.
    pub side: Side,
    /// The name that records have for the message or the session.
    pub id: &'p str,
    /// The sender of the mail.
    pub sender: &'p str,
    /// Where the mail goes.
    pub target: &'p Target,
}

impl Office {
    /// Tells the postmaster of an incident, if he wants to hear of such, and has not heard of too many. Never of one with
    /// mail to himself, nor with a report.
    pub async fn notice(&self, incident: &Incident, place: Place<'_>) {
        let Incident { fault, peer, reason, transcript } = incident;
        let (fault, setup) = (*fault, self.setup.load_full());
        let is_report = match place.side {
            Side::Client => place.sender.is_empty(),
            // A stranger who says so may be one who has something to hide.
            Side::Server => false,
        };
        if !setup.reports.faults.contains(&fault)
            || is_report
            || place.sender.eq_ignore_ascii_case(&double_bounce(&setup.name))
        {
            return;
        }
        let most = setup.reports.notices_per_hour;
        let is_told = self.pace().admit(fault, peer, place.target, most, clock::now());
        self.telemetry.count(Counter::Notice { fault, told: is_told });
        if !is_told {
            return tracing::debug!(
                id = place.id,
                fault = fault.name(),
                peer,
                reason,
                "notice is left to the sum"
            );
        }
        let transcript = transcript.as_ref().map(|said| said.lines()).unwrap_or_default();
        let session =
            Session { side: place.side, peer, fault, reason, id: place.id, transcript: &transcript };
        let report = dsn::notice(host(&setup), &postmaster(&setup), &session, clock::wall());
        match self.post(&setup, report, place.target).await {
            Ok(id) => {
                tracing::info!(id = place.id, report = %id, fault = fault.name(), peer, "notice to the postmaster");
            }
            Err(error) => {
                // What cannot be written is told of by those who write mail.
                tracing::debug!(id = place.id, fault = fault.name(), %error, "a notice was not written");
                self.pace().not_told(fault, peer);
            }
        }
    }

    /// Tells the postmaster of what he was not told in an hour that is over.
    pub(in crate::delivery) async fn sum_up(&self) {
        let due = self.pace().due(clock::now());
        for (fault, sum) in due {
            let setup = self.setup.load_full();
            let report =
                dsn::sum(host(&setup), &postmaster(&setup), fault, sum.count, &sum.peers, clock::wall());
            let target = sum.target.clone().unwrap_or(Target::Mx);
            match self.post(&setup, report, &target).await {
                Ok(id) => {
                    tracing::info!(report = %id, fault = fault.name(), count = sum.count, "sum to the postmaster");
                }
                Err(error) => {
                    tracing::debug!(fault = fault.name(), %error, "a sum was not written");
                    self.pace().put_back(fault, sum, clock::now());
                }
            }
        }
    }

    async fn post(&self, setup: &Setup, report: dsn::Report, target: &Target) -> Result<QueueId, WriteError> {
        let envelope = envelope(&report, double_bounce(&setup.name), target);
        self.queue.accept(envelope, vec![Bytes::from(report.content)]).await
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn host(setup: &Setup) -> Host<'_> {
    Host { name: &setup.name, size_limit: setup.reports.size_limit, lifetime: setup.retry.lifetime }
}

fn postmaster(setup: &Setup) -> String {
    at(&setup.reports.postmaster, &setup.name)
}
