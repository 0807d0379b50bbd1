//! One server: how it is spoken with, over which connection, and what it says of each recipient.

use std::sync::Arc;

use super::said::Said;
use super::{Round, recipient};
use crate::clock;
use crate::delivery::attempt::Attempt;
use crate::delivery::connection::{self, Connection, Target, Unusable};
use crate::delivery::destination::Destination;
use crate::delivery::generic::Generic;
use crate::delivery::letter::{Letter, Signing};
use crate::delivery::pool::{Key, close};
use crate::delivery::route::Server;
use crate::delivery::settings::{Settings, Visit};
use crate::queue::{Body, Envelope, QueueId, Recipient};
use crate::smtp::client::Origin;
use crate::smtp::client::{Delivery, DeliveryDone, Encoding, FailureKind, Outcome, Report, TlsLevel};
use crate::smtp::fault::Fault;

impl<'r> Round<'r> {
    /// Offers a server all recipients that are left.
    pub(super) async fn visit(
        &mut self,
        transport: &'r Settings,
        server: &Server,
        next_hop: &Destination,
        attempt: &mut Attempt,
    ) {
        let target = match self.target(transport, server, next_hop) {
            Ok(target) => target,
            Err(report) => {
                // A refused password that is remembered was told of.
                let fault = report.diagnostic.is_none().then_some(Fault::Software);
                self.worst.note(fault, &next_hop.to_string(), &report, None);
                return attempt.not_connected(report);
            }
        };
        let host = target.terms.peer.name.clone();
        let login = target.terms.login.clone();
        let keeps = target.tls.as_ref().is_none_or(|tls| tls.reusable) && self.is_kept(transport, next_hop);
        let key = Key::new(&target);
        if let Some(connection) = self.pool.take(&key, &transport.reuse).await {
            let keep = Some(key).filter(|_| keeps);
            let failure = self.transact(transport, connection, host.clone(), keep).await;
            // Servers take so much mail over a connection and no more: the word of a kept one is not the last.
            if failure.is_none() || self.left.is_empty() {
                return attempt.session_over(failure);
            }
        }
        match open(target).await {
            Ok((connection, key)) => {
                let keep = Some(key).filter(|_| keeps);
                let failure = self.transact(transport, connection, host, keep).await;
                attempt.session_over(failure);
            }
            Err((unusable, peer)) => {
                let Unusable { failure, transcript } = *unusable;
                self.worst.note(failure.fault(), &peer, &failure.report, transcript.as_ref());
                if failure.kind != FailureKind::Connect {
                    self.relay = Some(peer);
                }
                let report = failure.report;
                if let (FailureKind::Auth { credentials: true }, Some(login)) = (failure.kind, &login) {
                    transport.password_refused(&host, login, &report, clock::now());
                }
                if !report.elsewhere {
                    self.give_up_at(transport, &report, Some(host));
                } else {
                    tracing::debug!(id = %self.errand.id, reason = report.reason, "a server is passed over");
                }
                attempt.not_connected(report);
            }
        }
    }

    /// Whether a connection to a server of `next_hop` is worth keeping.
    fn is_kept(&self, transport: &Settings, next_hop: &Destination) -> bool {
        let reuse = &transport.reuse;
        (reuse.on_demand && self.errand.busy) || reuse.destinations.contains(&next_hop.name())
    }

    /// How the server is spoken with.
    fn target(
        &self,
        transport: &Settings,
        server: &Server,
        next_hop: &Destination,
    ) -> Result<Target, Report> {
        let mut random = [0; 18];
        getrandom::fill(&mut random)
            .map_err(|error| Report::transient(3, 0, format!("no random numbers: {error}")))?;
        let sender = self.stored.envelope.sender.as_str();
        // Behind a socket there is but one, without an address.
        let server = if matches!(next_hop, Destination::Unix(_)) { None } else { Some(server) };
        let is_here = connection::is_here;
        transport.target(Visit { next_hop, server, sender, random, now: clock::now(), is_here })
    }

    /// Delivers over a connection; returns why it broke, if it did.
    async fn transact(
        &mut self,
        transport: &'r Settings,
        mut connection: Connection,
        host: String,
        keep: Option<Key>,
    ) -> Option<Report> {
        let places = std::mem::take(&mut self.left);
        let delivery = delivery(
            self.errand.id,
            &self.stored.envelope,
            &places,
            &transport.rewriting.generic,
            self.stored.content.len(),
        );
        let (content, signing) = (self.stored.content.clone(), self.signing(transport));
        let mut letter = Letter::new(self.errand.id, content, &transport.rewriting, signing);
        let mut outcomes: Vec<Option<Outcome>> = vec![None; places.len()];
        let hearer = self.hearer;
        let done = connection
            .deliver(delivery, &mut letter, |number, outcome| {
                if let (Outcome::Sent(_), Some(place)) = (&outcome, places.get(number)) {
                    hearer.sent(*place);
                }
                if let Some(slot) = outcomes.get_mut(number) {
                    *slot = Some(outcome);
                }
            })
            .await;
        self.damaged |= letter.is_damaged();
        if let Some(signature) = letter.signature() {
            hearer.signature(signature);
        }
        let relay = Some(connection.peer().to_string());
        self.relay.clone_from(&relay);
        let connection_use = connection.deliveries();
        for report in outcomes.iter().flatten().filter_map(report_of) {
            self.worst.note(report.fault(), &connection.peer().to_string(), report, connection.transcript());
        }
        let DeliveryDone { mail, end, dsn, broken, reusable } = done;
        match keep.filter(|_| reusable) {
            Some(key) => self.pool.put(key, connection, &transport.reuse),
            None => close(connection),
        }
        let mut last = None;
        for (place, outcome) in places.into_iter().zip(outcomes) {
            let outcome = outcome.unwrap_or_else(|| {
                Outcome::Deferred(Report::transient(
                    3,
                    0,
                    "the delivery ended without a word of this recipient",
                ))
            });
            let elsewhere = is_elsewhere(&outcome);
            last = report_of(&outcome).cloned().or(last);
            let said = Said {
                outcome,
                remote: Some(host.clone()),
                server_reports: dsn,
                relay: relay.clone(),
                connection_use,
                mail,
                end,
            };
            if elsewhere {
                self.left.push(place);
                self.said.insert(place, said);
            } else {
                self.settle(place, said);
            }
        }
        broken.then_some(last).flatten()
    }

    /// How the message is signed, if it is.
    fn signing(&self, transport: &Settings) -> Option<Signing> {
        let signers = &self.setup.signers;
        let envelope = &self.stored.envelope;
        (envelope.sign && !signers.is_empty()).then(|| Signing {
            signers: Arc::clone(signers),
            client: envelope.submitter.as_ref().map(|submitter| submitter.address.ip()),
            line_length: transport.rules.line_length,
        })
    }
}

/// Connects. Where TLS is only wanted and its handshake fails, once more without it, but never with a password.
async fn open(target: Target) -> Result<(Connection, Key), (Box<Unusable>, String)> {
    let peer = target.terms.peer.to_string();
    let mut clear = target.clone();
    let key = Key::new(&target);
    match Connection::open(target).await {
        Err(unusable)
            if unusable.failure.kind == FailureKind::Handshake
                && clear.terms.tls == TlsLevel::May
                && clear.terms.login.is_none() =>
        {
            clear.terms.tls = TlsLevel::None;
            clear.tls = None;
            let key = Key::new(&clear);
            let opened = Connection::open(clear).await;
            opened.map(|connection| (connection, key)).map_err(|unusable| (unusable, peer))
        }
        opened => opened.map(|connection| (connection, key)).map_err(|unusable| (unusable, peer)),
    }
}

/// What the client is told of a message.
fn delivery(id: QueueId, envelope: &Envelope, places: &[u32], generic: &Generic, size: u64) -> Delivery {
    let mapped = |address: &str| generic.map(address).unwrap_or_else(|| address.to_owned());
    let recipients = places.iter().filter_map(|place| recipient(envelope, *place));
    let recipients = recipients.map(|recipient| Recipient {
        address: mapped(&recipient.address),
        original: Some(recipient.original()),
        notify: recipient.notify,
    });
    Delivery {
        sender: mapped(&envelope.sender),
        recipients: recipients.collect(),
        size,
        encoding: match envelope.body {
            // Not everybody says what he sends.
            Body::SevenBit => Encoding::Unknown,
            Body::EightBitMime | Body::BinaryMime => Encoding::EightBit,
        },
        smtputf8: envelope.smtputf8,
        envelope_id: envelope.envid.clone(),
        ret: envelope.ret,
        origin: envelope.submitter.as_ref().map(|submitter| Origin {
            name: submitter.name.clone(),
            address: Some(submitter.address.ip()),
            port: Some(submitter.address.port()),
            protocol: Some(submitter.protocol.clone()),
            hello: Some(submitter.helo.clone()),
            ident: Some(id.to_string()),
            local: Some(false),
        }),
        age: envelope.age(clock::wall()),
        probe: false,
    }
}

/// Another server may be asked for this recipient.
fn is_elsewhere(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Sent(_) => false,
        Outcome::Deferred(report) | Outcome::Bounced(report) => report.elsewhere,
    }
}

/// Why it failed, if it did.
fn report_of(outcome: &Outcome) -> Option<&Report> {
    match outcome {
        Outcome::Sent(_) => None,
        Outcome::Deferred(report) | Outcome::Bounced(report) => Some(report),
    }
}
