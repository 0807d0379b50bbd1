//! Sessions that the kernel carries alone: no socket, no task, only their place in the table.
//!
//! Owns what is needed to write their records, and notes it where the next process finds it. The
//! datapath process tells when they are over.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

mod entry;
mod journal;
mod parked;

pub use journal::Journal;

use entry::Entry;
use parked::Parked;

use super::table::{LiveSession, OpenSession, SessionTable};
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::ipc::flow::{CarriedFlow, FlowReport};
use crate::outcome::Conduct;
use crate::telemetry::Telemetry;

/// Who speaks to whom, as the client sees it.
pub type FlowName = (ClientAddr, OriginalDst);

/// The sessions that the kernel carries.
#[derive(Debug)]
pub struct Direct {
    inner: Mutex<Inner>,
    /// Absent where there is no folder for it.
    journal: Option<Journal>,
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

impl Direct {
    /// Flows that are to be ended are told through `ends`; what the next process needs is noted in
    /// `journal`.
    #[must_use]
    pub fn new(ends: mpsc::Sender<FlowName>, journal: Option<Journal>) -> Self {
        Self { inner: Mutex::default(), journal, ends }
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
    /// whether the kernel takes it. Another process may hear of the flow before this one does.
    pub(super) fn expect(
        &self,
        session: &LiveSession,
        lane: &str,
        conduct: Conduct,
        upstream: (SocketAddr, SocketAddr),
    ) {
        if let Some(journal) = &self.journal {
            journal.note(&Entry::of(session, lane, conduct, [0; 2]));
        }
        let mut inner = self.lock();
        inner.taken.insert(upstream);
        inner.expected.insert(name_of(session), None);
    }

    /// The session ends with its sockets.
    pub(super) fn release(&self, session: &LiveSession, upstream: (SocketAddr, SocketAddr)) {
        let mut inner = self.lock();
        inner.taken.remove(&upstream);
        inner.expected.remove(&name_of(session));
    }

    /// Takes in a session that was handed off.
    pub(super) fn park(
        &self,
        session: OpenSession,
        lane: &str,
        conduct: Conduct,
        upstream: (SocketAddr, SocketAddr),
        telemetry: &Telemetry,
    ) {
        let name = name_of(&session);
        session.end_by(self.ends.clone());
        let mut parked = Parked::own(session, lane, conduct, upstream);
        if let Some(journal) = &self.journal {
            // It has gone on since it was expected.
            journal.note(&parked.entry());
        }
        let mut inner = self.lock();
        match inner.expected.remove(&name).flatten() {
            None => {
                inner.parked.insert(name, parked);
            }
            Some(report) => {
                inner.taken.remove(&upstream);
                drop(inner);
                parked.note(report.from_client, report.from_server, telemetry);
                parked.finish(report.end, telemetry);
            }
        }
    }

    /// Flows are over.
    pub fn ended(&self, reports: Vec<FlowReport>, table: &Arc<SessionTable>, telemetry: &Telemetry) {
        let mut looked = false;
        for report in reports {
            let name = (report.client, report.destination);
            let mut inner = self.lock();
            // The one before, if the same client has come again with the same port.
            let known = inner.parked.remove(&name);
            if known.is_none()
                && let Some(early) = inner.expected.get_mut(&name)
            {
                *early = Some(report);
                continue;
            }
            // One that is not known was handed off by a process that drains, and never seen to move.
            let known = known.or_else(|| self.recall(name, table, &mut looked));
            let Some(mut parked) = known else { continue };
            if let Some(upstream) = parked.upstream {
                inner.taken.remove(&upstream);
            }
            drop(inner);
            parked.note(report.from_client, report.from_server, telemetry);
            parked.finish(report.end, telemetry);
        }
    }

    /// Flows go on. Those that are not known were handed off by other processes: they get places.
    pub fn carried(&self, flows: &[CarriedFlow], table: &Arc<SessionTable>, telemetry: &Telemetry) {
        let mut looked = false;
        let mut inner = self.lock();
        for flow in flows {
            let name = (flow.client, flow.destination);
            if let Some(parked) = inner.parked.get_mut(&name) {
                parked.note(flow.from_client, flow.from_server, telemetry);
                continue;
            }
            if inner.expected.contains_key(&name) {
                continue;
            }
            let Some(mut parked) = self.recall(name, table, &mut looked) else { continue };
            parked.session.end_by(self.ends.clone());
            parked.resume(flow.from_client, flow.from_server);
            parked.upstream = Some(flow.upstream);
            inner.taken.insert(flow.upstream);
            inner.parked.insert(name, parked);
        }
    }

    /// A session that another process had handed off; `looked`: its notes were read just before.
    fn recall(&self, name: FlowName, table: &Arc<SessionTable>, looked: &mut bool) -> Option<Parked> {
        let noted = self.journal.as_ref().and_then(|journal| {
            // What was read earlier may be about the session before, if the same client has come
            // again with the same port.
            if !std::mem::replace(looked, true) {
                journal.look();
            }
            journal.recall(&name)
        });
        Parked::recall(name, noted, table)
    }

    /// Keeps what is noted for the next process short. Blocks.
    pub fn tidy(&self) {
        if let Some(journal) = &self.journal {
            let carried = self.lock().parked.len();
            journal.tidy(carried, || self.lock().parked.values().map(Parked::entry).collect());
        }
    }

    /// The gateway stops, and the kernel goes on carrying all of them: their records are the next
    /// gateway's to write.
    pub fn leave_all(&self) {
        let none = std::mem::take(&mut self.lock().parked).is_empty();
        if let Some(journal) = self.journal.as_ref().filter(|_| none) {
            journal.discard();
        }
    }
}

const fn name_of(session: &LiveSession) -> FlowName {
    (session.flow().client, session.flow().destination)
}
