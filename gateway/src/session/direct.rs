//! Sessions that the kernel carries alone: no socket, no task, only their place in the table.
//!
//! Owns what is needed to write their records. The datapath process tells when they are over.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::record;
use super::table::{Ceilings, OpenSession, SessionTable, Stage};
use crate::clock;
use crate::handoff::Engine;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::flow::{Flow, SessionId};
use crate::ipc::flow::{CarriedFlow, FlowEnd, FlowReport, Traffic};
use crate::outcome::{Conduct, HandedOff, SessionEnd};
use crate::telemetry::{Counter, Telemetry};

/// Who speaks to whom, as the client sees it.
pub type FlowName = (ClientAddr, OriginalDst);

/// The sessions that the kernel carries.
#[derive(Debug)]
pub struct Direct {
    inner: Mutex<Inner>,
    ends: mpsc::Sender<FlowName>,
}

#[derive(Debug, Default)]
struct Inner {
    parked: HashMap<FlowName, Parked>,
    /// Sessions that may be handed off at any moment, and how their flows ended if that was before
    /// they were here.
    expected: HashMap<FlowName, Option<FlowReport>>,
    /// Local and remote end of connections to servers that are no sockets any more: the system
    /// would give them out again.
    taken: HashSet<(SocketAddr, SocketAddr)>,
}

#[derive(Debug)]
struct Parked {
    session: OpenSession,
    lane: &'static str,
    conduct: Conduct,
    upstream: (SocketAddr, SocketAddr),
    /// Whether an earlier proxy process had handed it off.
    taken_over: bool,
    /// What is known of its traffic since the handoff, from the client and from the server.
    from_client: Traffic,
    from_server: Traffic,
}

impl Parked {
    /// Notes how much has passed since the handoff.
    fn note(&mut self, from_client: Traffic, from_server: Traffic, telemetry: &Telemetry) {
        let client = from_client.octets.saturating_sub(self.from_client.octets);
        let server = from_server.octets.saturating_sub(self.from_server.octets);
        self.session.add_from_client(client);
        self.session.add_from_server(server);
        telemetry.add(Counter::ClientOctets, client);
        telemetry.add(Counter::ServerOctets, server);
        (self.from_client, self.from_server) = (from_client, from_server);
    }
}

impl Direct {
    /// Flows that are to be ended are told through `ends`.
    #[must_use]
    pub fn new(ends: mpsc::Sender<FlowName>) -> Self {
        Self { inner: Mutex::default(), ends }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection to a server between these ends would be taken for one that the kernel
    /// carries.
    #[must_use]
    pub fn takes(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        self.lock().taken.contains(&(local, remote))
    }

    /// Expects a session, and keeps the ends of its connection from being used, before it is known
    /// whether the kernel takes it.
    pub(super) fn expect(&self, name: FlowName, upstream: (SocketAddr, SocketAddr)) {
        let mut inner = self.lock();
        inner.taken.insert(upstream);
        inner.expected.insert(name, None);
    }

    /// The session ends with its sockets.
    pub(super) fn release(&self, name: FlowName, upstream: (SocketAddr, SocketAddr)) {
        let mut inner = self.lock();
        inner.taken.remove(&upstream);
        inner.expected.remove(&name);
    }

    /// Takes in a session that was handed off.
    pub(super) fn park(
        &self,
        session: OpenSession,
        lane: &'static str,
        conduct: Conduct,
        upstream: (SocketAddr, SocketAddr),
        telemetry: &Telemetry,
    ) {
        let name = (session.flow().client, session.flow().destination);
        session.end_by(self.ends.clone());
        let mut inner = self.lock();
        let (from_client, from_server) = (Traffic::default(), Traffic::default());
        let parked = Parked { session, lane, conduct, upstream, taken_over: false, from_client, from_server };
        inner.parked.insert(name, parked);
        let early = inner.expected.remove(&name).flatten();
        drop(inner);
        if let Some(report) = early {
            self.ended(report, telemetry);
        }
    }

    /// A flow is over.
    pub fn ended(&self, report: FlowReport, telemetry: &Telemetry) {
        let name = (report.client, report.destination);
        let mut inner = self.lock();
        if let Some(mut parked) = inner.parked.remove(&name) {
            inner.taken.remove(&parked.upstream);
            drop(inner);
            parked.note(report.from_client, report.from_server, telemetry);
            finish(&parked, end_of(report.end), telemetry);
        } else if let Some(early) = inner.expected.get_mut(&name) {
            *early = Some(report);
        } else {
            drop(inner);
            tracing::info!(
                client = %report.client,
                destination = %report.destination,
                from_client = report.from_client.octets,
                from_server = report.from_server.octets,
                end = ?report.end,
                "a flow that nobody knows is over"
            );
        }
    }

    /// A flow goes on. One that is not known was handed off by an earlier process: it gets a place.
    pub fn carried(&self, flow: &CarriedFlow, table: &Arc<SessionTable>, telemetry: &Telemetry) {
        let name = (flow.client, flow.destination);
        let mut inner = self.lock();
        if let Some(parked) = inner.parked.get_mut(&name) {
            parked.note(flow.from_client, flow.from_server, telemetry);
            return;
        }
        if inner.expected.contains_key(&name) {
            return;
        }
        let id = SessionId::next(clock::wall());
        let known = Flow::new(id, flow.client, flow.destination);
        // It is there already: no ceiling keeps it out.
        let Ok(session) = table.open(known, clock::now(), Ceilings::default()) else { return };
        session.set_stage(Stage::Splice);
        session.end_by(self.ends.clone());
        session.add_from_client(flow.from_client.octets);
        session.add_from_server(flow.from_server.octets);
        inner.taken.insert(flow.upstream);
        let parked = Parked {
            session,
            lane: "splice",
            conduct: Conduct::default(),
            upstream: flow.upstream,
            taken_over: true,
            from_client: flow.from_client,
            from_server: flow.from_server,
        };
        inner.parked.insert(name, parked);
    }

    /// The gateway stops, and the kernel goes on carrying all of them.
    pub fn leave_all(&self, telemetry: &Telemetry) {
        let parked = std::mem::take(&mut self.lock().parked);
        for parked in parked.into_values() {
            finish(&parked, SessionEnd::Kept, telemetry);
        }
    }
}

const fn end_of(end: FlowEnd) -> SessionEnd {
    match end {
        FlowEnd::Closed | FlowEnd::ClientReset => SessionEnd::Client,
        FlowEnd::ServerReset => SessionEnd::Server,
        FlowEnd::Idle => SessionEnd::Timeout,
        FlowEnd::Ended => SessionEnd::Operator,
        FlowEnd::Limit => SessionEnd::Gateway,
        FlowEnd::Locked => SessionEnd::Locked,
        FlowEnd::Shutdown => SessionEnd::Shutdown,
    }
}

fn finish(parked: &Parked, end: SessionEnd, telemetry: &Telemetry) {
    let Parked { session, lane, conduct, taken_over, from_client, from_server, .. } = parked;
    let handed_off = HandedOff {
        packets_from_client: from_client.packets,
        packets_from_server: from_server.packets,
        taken_over: *taken_over,
    };
    let record = record::session(session, lane, end, *conduct, Some(Engine::Handoff), Some(handed_off));
    telemetry.session(&record);
}
