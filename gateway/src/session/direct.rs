//! Sessions that the kernel carries alone: no socket, no task, only their place in the table.
//!
//! Owns what is needed to write their records. The datapath process tells when they are over.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::record;
use super::table::OpenSession;
use crate::clock;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::ipc::flow::{FlowEnd, FlowReport, Traffic};
use crate::outcome::{HandedOff, SessionEnd};
use crate::telemetry::{Counter, Telemetry};

/// Reports of flows that are over before their session is here.
const EARLY: usize = 1024;

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
    early: HashMap<FlowName, FlowReport>,
    /// Local and remote end of connections to servers that are no sockets any more: the system
    /// would give them out again.
    taken: HashSet<(SocketAddr, SocketAddr)>,
}

#[derive(Debug)]
struct Parked {
    session: OpenSession,
    authenticated: bool,
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

    /// Keeps these ends from being used, before it is known whether the kernel takes them.
    pub(super) fn reserve(&self, upstream: (SocketAddr, SocketAddr)) {
        self.lock().taken.insert(upstream);
    }

    pub(super) fn release(&self, upstream: (SocketAddr, SocketAddr)) {
        self.lock().taken.remove(&upstream);
    }

    /// Takes in a session that was handed off.
    pub(super) fn park(
        &self,
        session: OpenSession,
        authenticated: bool,
        upstream: (SocketAddr, SocketAddr),
        telemetry: &Telemetry,
    ) {
        let name = (session.flow().client, session.flow().destination);
        session.end_by(self.ends.clone());
        let mut inner = self.lock();
        inner.parked.insert(name, Parked { session, authenticated, upstream });
        let early = inner.early.remove(&name);
        drop(inner);
        if let Some(report) = early {
            self.ended(report, telemetry);
        }
    }

    /// A flow is over.
    pub fn ended(&self, report: FlowReport, telemetry: &Telemetry) {
        let name = (report.client, report.destination);
        let mut inner = self.lock();
        let Some(parked) = inner.parked.remove(&name) else {
            if inner.early.len() < EARLY {
                inner.early.insert(name, report);
            }
            return;
        };
        inner.taken.remove(&parked.upstream);
        drop(inner);
        finish(&parked, &report, None, telemetry);
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
    let Parked { session, authenticated, .. } = parked;
    session.add_from_client(report.from_client.octets);
    session.add_from_server(report.from_server.octets);
    telemetry.add(Counter::ClientOctets, report.from_client.octets);
    telemetry.add(Counter::ServerOctets, report.from_server.octets);
    let end = end.unwrap_or(match report.end {
        FlowEnd::Closed | FlowEnd::ClientReset => SessionEnd::Client,
        FlowEnd::ServerReset => SessionEnd::Server,
        FlowEnd::Idle => SessionEnd::Timeout,
        FlowEnd::Ended => SessionEnd::Operator,
    });
    let handed_off = HandedOff {
        packets_from_client: report.from_client.packets,
        packets_from_server: report.from_server.packets,
    };
    let record = record::session(session, "splice", end, *authenticated, Some(handed_off), clock::now());
    telemetry.session(&record);
}
