//! One delivery: some recipients of one message, brought to one next hop.
//!
//! Owns the order of look-ups and of visits to servers, and what each recipient was told last. Which server is
//! next is [`super::attempt`]'s to say; when it is tried again, and who hears of it, is for others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{Attempt, Rest, Step};
use super::destination::Destination;
use super::dkim::Signature;
use super::incident::{Incident, Worst};
use super::lookup;
use super::next_hop::NextHop;
use super::pool::Pool;
use super::record::Record;
use super::route::{NoRoute, Route, Server};
use super::settings::Settings;
use super::transport::Setup;
use crate::clock;
use crate::dns::Resolver;
use crate::queue::{Envelope, QueueId, Recipient, Stored};
use crate::smtp::client::{Outcome, Report, Status};
use crate::smtp::fault::Fault;

mod said;
mod visit;

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
}

pub(super) fn recipient(envelope: &Envelope, place: u32) -> Option<&Recipient> {
    usize::try_from(place).ok().and_then(|place| envelope.recipients.get(place))
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
