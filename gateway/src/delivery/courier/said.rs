//! What recipients were told last, and how that becomes their fate and their record.

use std::time::{Duration, Instant};

use super::{Fate, Round, recipient};
use crate::clock;
use crate::delivery::record::{Delays, Ending, Record};
use crate::delivery::settings::Settings;
use crate::queue::Recipient;
use crate::smtp::client::{Outcome, Report};

/// What a server said of a recipient.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) outcome: Outcome,
    pub(super) remote: Option<String>,
    pub(super) server_reports: bool,
    pub(super) relay: Option<String>,
    pub(super) connection_use: u32,
    /// When the transaction began, and when it ended.
    pub(super) mail: Option<Instant>,
    pub(super) end: Instant,
}

impl Round<'_> {
    /// No server is left for those whom nobody took: what they were told last counts, or else this.
    pub(super) fn give_up(&mut self, transport: &Settings, report: &Report) {
        self.give_up_at(transport, report, None);
    }

    /// The same at a server of this name: its word is the last.
    pub(super) fn give_up_at(&mut self, transport: &Settings, report: &Report, remote: Option<String>) {
        for place in std::mem::take(&mut self.left) {
            let said = self.said.remove(&place).filter(|_| remote.is_none()).unwrap_or_else(|| Said {
                outcome: transport.rules.outcome(report.clone()),
                remote: remote.clone(),
                server_reports: false,
                relay: self.relay.clone(),
                connection_use: 1,
                mail: None,
                end: clock::now(),
            });
            self.settle(place, said);
        }
    }

    /// It is decided what becomes of a recipient.
    pub(super) fn settle(&mut self, place: u32, said: Said) {
        self.hearer.record(&self.record(place, &said));
        let Said { outcome, remote, server_reports, .. } = said;
        self.fates.push(Fate { place, outcome, remote, server_reports });
    }

    fn record(&self, place: u32, said: &Said) -> Record {
        let recipient = recipient(&self.stored.envelope, place);
        let protocol = self.errand.next_hop.protocol;
        let generic = &self.setup.transport(protocol).rewriting.generic;
        let address = recipient.map_or("", |recipient| recipient.address.as_str());
        let (ending, report) = match &said.outcome {
            Outcome::Sent(report) => (Ending::Sent, report),
            Outcome::Deferred(report) => (Ending::Deferred, report),
            Outcome::Bounced(report) => (Ending::Bounced, report),
        };
        Record {
            to: generic.map(address).unwrap_or_else(|| address.to_owned()),
            original_to: recipient.map(original_address).unwrap_or_default(),
            relay: said.relay.clone(),
            connection_use: said.connection_use,
            delays: Delays {
                queued: self.errand.queued,
                scheduled: self.began.saturating_duration_since(self.errand.scheduled),
                connecting: said.mail.unwrap_or(said.end).saturating_duration_since(self.began),
                transmitting: said
                    .mail
                    .map_or(Duration::ZERO, |mail| said.end.saturating_duration_since(mail)),
            },
            digits: self.setup.digits,
            status: report.status,
            ending,
            reason: report.reason.clone(),
        }
    }
}

/// The address that the sender wrote, where `ORCPT` tells it.
fn original_address(recipient: &Recipient) -> String {
    let original = recipient.original();
    original.split_once(';').map_or(original.as_str(), |(_, address)| address).to_owned()
}
