//! One delivery: some recipients of one message, brought to one next hop.
//!
//! Owns the order of look-ups, connections and transactions, and what each recipient was told last. Which server is
//! next is [`super::attempt`]'s to say; when it is tried again, and who hears of it, is for others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{Attempt, Rest, Step};
use super::connection::{self, Connection, Target, Unusable};
use super::destination::Destination;
use super::dkim::Signature;
use super::generic::Generic;
use super::incident::{Incident, Worst};
use super::letter::{Letter, Signing};
use super::lookup;
use super::next_hop::NextHop;
use super::pool::{Key, Pool, close};
use super::record::Record;
use super::route::{NoRoute, Route, Server};
use super::settings::{Settings, Visit};
use super::transport::Setup;
use crate::clock;
use crate::dns::Resolver;
use crate::queue::{Body, Envelope, QueueId, Recipient, Stored};
use crate::smtp::client::{Delivery, DeliveryDone, Encoding, FailureKind, Outcome, Report, TlsLevel};
use crate::smtp::client::{Origin, Status};
use crate::smtp::fault::Fault;

mod said;

use said::Said;

/// What is to be delivered.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    /// The message.
    pub(super) id: QueueId,
    /// Places of recipients in its envelope.
    pub(super) recipients: Vec<u32>,
    /// Where it goes.
    pub(super) next_hop: NextHop,
    /// How old the message was when the schedule got it.
    pub(super) queued: Duration,
    /// When the schedule got it.
    pub(super) scheduled: Instant,
    /// There are others to its destination, before or behind it.
    pub(super) busy: bool,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// Its place in the envelope.
    pub(super) place: u32,
    /// How the delivery ended for it.
    pub(super) outcome: Outcome,
    /// The server that said so, by name.
    pub(super) remote: Option<String>,
    /// The server reports to the sender by itself.
    pub(super) server_reports: bool,
}

/// How a delivery ended.
#[derive(Debug)]
pub(super) struct Delivered {
    /// What became of each recipient.
    pub(super) fates: Vec<Fate>,
    /// Why the destination is in trouble, if it is.
    pub(super) trouble: Option<Report>,
    /// The content is not what was taken.
    pub(super) damaged: bool,
    /// What the postmaster may want to hear of.
    pub(super) incident: Option<Incident>,
}

/// Those who hear at once what became of recipients.
pub(super) trait Hearer: Send + Sync {
    /// The server has the message for this recipient.
    fn sent(&self, place: u32);

    /// All that is to be known of a recipient.
    fn record(&self, record: &Record);

    /// What became of the signature of a message that a server has asked for.
    fn signature(&self, signature: Signature);
}

/// Delivers.
pub(super) async fn deliver(
    setup: &Setup,
    resolver: &Resolver,
    pool: &Arc<Pool>,
    errand: Errand,
    stored: &Stored,
    hearer: &dyn Hearer,
) -> Delivered {
    let left = errand.recipients.clone();
    let round = Round {
        setup,
        resolver,
        pool,
        stored,
        hearer,
        left,
        said: BTreeMap::new(),
        fates: Vec::new(),
        began: clock::now(),
        relay: None,
        damaged: false,
        worst: Worst::default(),
        errand,
    };
    Box::pin(round.run()).await
}

/// A delivery under way.
struct Round<'r> {
    setup: &'r Setup,
    resolver: &'r Resolver,
    pool: &'r Arc<Pool>,
    stored: &'r Stored,
    hearer: &'r dyn Hearer,
    errand: Errand,
    /// Recipients that no server has decided about for good.
    left: Vec<u32>,
    /// What they were told last.
    said: BTreeMap<u32, Said>,
    fates: Vec<Fate>,
    began: Instant,
    /// The last server that could be connected to.
    relay: Option<String>,
    damaged: bool,
    worst: Worst,
}

impl<'r> Round<'r> {
    async fn run(mut self) -> Delivered {
        let mut hop = self.errand.next_hop.clone();
        let mut handed_over = false;
        loop {
            let transport = self.setup.transport(hop.protocol);
            let attempt = Attempt::new(hop.destinations, hop.relay, transport.attempt.clone());
            let (attempt, rest) = self.try_all(transport, attempt).await;
            let trouble = attempt.trouble().cloned();
            let hop_name = self.errand.next_hop.to_string();
            let last = match rest {
                Rest::Nobody => None,
                Rest::Failed(report) => Some(report),
                Rest::HandOver(next) if !handed_over => match NextHop::parse(&next) {
                    Ok(next) => {
                        hop = next;
                        handed_over = true;
                        continue;
                    }
                    Err(error) => {
                        let reason = format!("`best-mx-transport` is not usable: {error}");
                        Some(Report::transient(3, 5, reason))
                    }
                },
                Rest::HandOver(_) => {
                    Some(Report::transient(3, 5, "mail loops back from `best-mx-transport`"))
                }
            };
            if let Some(report) = last {
                // A relay that refuses all mail for good is one that the operator has named wrongly.
                let is_own = report.status == Status::transient(3, 5);
                self.worst.note(is_own.then_some(Fault::Software), &hop_name, &report, None);
                self.give_up(transport, &report);
            }
            let incident = self.worst.into_incident();
            return Delivered { fates: self.fates, trouble, damaged: self.damaged, incident };
        }
    }

    /// Goes from server to server until nobody is left or no server.
    async fn try_all(&mut self, transport: &'r Settings, mut attempt: Attempt) -> (Attempt, Rest) {
        let mut next_hop = None;
        loop {
            match attempt.next(!self.left.is_empty()) {
                Step::Route(destination) => {
                    let route = match &destination {
                        Destination::Unix(_) => Ok(one_place()),
                        Destination::Domain { .. } | Destination::Host { .. } | Destination::Address(_) => {
                            self.route(transport, &destination).await
                        }
                    };
                    attempt.routed(route);
                    next_hop = Some(destination);
                }
                Step::Connect(server) => {
                    if let Some(next_hop) = &next_hop {
                        self.visit(transport, &server, next_hop, &mut attempt).await;
                    }
                }
                Step::Done(rest) => return (attempt, rest),
            }
        }
    }

    async fn route(&self, transport: &Settings, destination: &Destination) -> Result<Route, NoRoute> {
        let mut random = chance;
        lookup::route(self.resolver, destination, transport.lookup, &transport.route, &mut random).await
    }

    /// Offers a server all recipients that are left.
    async fn visit(
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

pub(super) fn recipient(envelope: &Envelope, place: u32) -> Option<&Recipient> {
    usize::try_from(place).ok().and_then(|place| envelope.recipients.get(place))
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

/// A route to the only server behind a UNIX socket, which has no address.
fn one_place() -> Route {
    let nowhere = std::net::Ipv4Addr::UNSPECIFIED.into();
    let server = Server { host: String::new(), address: nowhere, port: 0, preference: 0, best: false };
    Route { servers: vec![server], self_is_mx: false }
}

/// A number below `below`.
fn chance(below: usize) -> usize {
    let mut octets = [0; 8];
    // Without chance the order stays what it is.
    getrandom::fill(&mut octets).unwrap_or_default();
    usize::from_le_bytes(octets).checked_rem(below).unwrap_or(0)
}
