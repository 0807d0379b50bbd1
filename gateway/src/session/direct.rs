//! Sessions that the kernel carries alone: no socket, no task, only their place in the table.
//!
//! Owns what is needed to write their records, and notes it where the next process finds it. The
//! datapath process tells when they are over.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

mod entry;
mod journal;
mod lately;
mod parked;

pub use journal::Journal;

use entry::Entry;
use lately::Lately;
use parked::Parked;

use super::table::{LiveSession, OpenSession, SessionTable};
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::ipc::flow::{CarriedFlow, FlowEnds, FlowReport, Upstream};
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
    parked: HashMap<FlowEnds, Parked>,
    /// Sessions that may be handed off at any moment, and how their flows ended if that was before
    /// they were here.
    expected: HashMap<FlowEnds, Option<FlowReport>>,
    /// Flows that are over: what was said of them before, on another way, may come behind it.
    over: Lately<FlowEnds>,
    /// Connections to servers that are no sockets any more: the system would give their ends out again.
    taken: HashSet<Upstream>,
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

    /// Whether the kernel carries no session.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().taken.is_empty()
    }

    /// Whether a connection to a server between these ends would be taken for one that the kernel
    /// carries.
    #[must_use]
    pub fn takes(&self, upstream: Upstream) -> bool {
        self.lock().taken.contains(&upstream)
    }

    /// Expects a session, and keeps the ends of its connection from being used, before it is known
    /// whether the kernel takes it. Another process may hear of the flow before this one does.
    pub(super) fn expect(&self, session: &LiveSession, lane: &str, conduct: Conduct, upstream: Upstream) {
        if let Some(journal) = &self.journal {
            journal.note(&Entry::of(session, lane, conduct, upstream, [0; 2]));
        }
        let ends = ends_of(session, upstream);
        let mut inner = self.lock();
        inner.over.forget(&ends);
        inner.taken.insert(upstream);
        inner.expected.insert(ends, None);
    }

    /// The session ends with its sockets.
    pub(super) fn release(&self, session: &LiveSession, upstream: Upstream) {
        let mut inner = self.lock();
        inner.taken.remove(&upstream);
        inner.expected.remove(&ends_of(session, upstream));
    }

    /// Takes in a session that was handed off.
    pub(super) fn park(
        &self,
        session: OpenSession,
        lane: &str,
        conduct: Conduct,
        upstream: Upstream,
        telemetry: &Telemetry,
    ) {
        let ends = ends_of(&session, upstream);
        session.end_by(self.ends.clone());
        let mut parked = Parked::own(session, lane, conduct, upstream);
        if let Some(journal) = &self.journal {
            // It has gone on since it was expected.
            journal.note(&parked.entry());
        }
        let mut inner = self.lock();
        match inner.expected.remove(&ends).flatten() {
            None => {
                inner.parked.insert(ends, parked);
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
            let mut inner = self.lock();
            if let Some(early) = inner.expected.get_mut(&report.ends) {
                *early = Some(report);
                continue;
            }
            // One that is not known was handed off by a process that drains, and never seen to move.
            let known = inner.parked.remove(&report.ends);
            let known = known.or_else(|| self.recall(report.ends, table, &mut looked));
            let Some(mut parked) = known else { continue };
            inner.over.add(report.ends);
            inner.taken.remove(&report.ends.upstream);
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
            if let Some(parked) = inner.parked.get_mut(&flow.ends) {
                parked.note(flow.from_client, flow.from_server, telemetry);
                continue;
            }
            if inner.expected.contains_key(&flow.ends) || inner.over.has(&flow.ends) {
                continue;
            }
            let Some(mut parked) = self.recall(flow.ends, table, &mut looked) else { continue };
            parked.session.end_by(self.ends.clone());
            parked.resume(flow.from_client, flow.from_server);
            inner.taken.insert(flow.ends.upstream);
            inner.parked.insert(flow.ends, parked);
        }
    }

    /// A session that another process had handed off; `looked`: its notes were read just before.
    fn recall(&self, ends: FlowEnds, table: &Arc<SessionTable>, looked: &mut bool) -> Option<Parked> {
        let noted = self.journal.as_ref().and_then(|journal| {
            // What was read earlier may be older than what was noted last.
            if !std::mem::replace(looked, true) {
                journal.look();
            }
            journal.recall(&ends)
        });
        Parked::recall(ends, noted, table)
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

const fn ends_of(session: &LiveSession, upstream: Upstream) -> FlowEnds {
    FlowEnds { client: session.flow().client, destination: session.flow().destination, upstream }
}
