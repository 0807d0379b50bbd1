//! Sessions that the kernel carries alone: no socket, no task, only their place in the table.
//!
//! Owns what is needed to write their records. The datapath process tells when they are over.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::record;
use super::table::OpenSession;
use crate::handoff::Engine;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::ipc::flow::{FlowEnd, FlowReport, Traffic};
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
        inner.parked.insert(name, Parked { session, lane, conduct, upstream });
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
        if let Some(parked) = inner.parked.remove(&name) {
            inner.taken.remove(&parked.upstream);
            drop(inner);
            finish(&parked, &report, None, telemetry);
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
                "a session that an earlier proxy process left to the kernel is over"
            );
        }
    }

    /// The gateway stops: all of them are over.
    pub fn end_all(&self, telemetry: &Telemetry) {
        let parked = std::mem::take(&mut self.lock().parked);
        for ((client, destination), parked) in parked {
            let report = FlowReport {
                client,
                destination,
                from_client: Traffic::default(),
                from_server: Traffic::default(),
                end: FlowEnd::Ended,
            };
            finish(&parked, &report, Some(SessionEnd::Shutdown), telemetry);
        }
    }
}

fn finish(parked: &Parked, report: &FlowReport, end: Option<SessionEnd>, telemetry: &Telemetry) {
    let Parked { session, lane, conduct, .. } = parked;
    session.add_from_client(report.from_client.octets);
    session.add_from_server(report.from_server.octets);
    telemetry.add(Counter::ClientOctets, report.from_client.octets);
    telemetry.add(Counter::ServerOctets, report.from_server.octets);
    let end = end.unwrap_or(match report.end {
        FlowEnd::Closed | FlowEnd::ClientReset => SessionEnd::Client,
        FlowEnd::ServerReset => SessionEnd::Server,
        FlowEnd::Idle => SessionEnd::Timeout,
        FlowEnd::Ended => SessionEnd::Operator,
        FlowEnd::Limit => SessionEnd::Gateway,
        FlowEnd::Locked => SessionEnd::Locked,
    });
    let handed_off = HandedOff {
        packets_from_client: report.from_client.packets,
        packets_from_server: report.from_server.packets,
    };
    let record = record::session(session, lane, end, *conduct, Some(Engine::Handoff), Some(handed_off));
    telemetry.session(&record);
}
