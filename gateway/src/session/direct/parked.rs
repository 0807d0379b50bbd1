//! One session that the kernel carries alone.

use std::sync::Arc;

use super::entry::Entry;
use crate::clock;
use crate::handoff::Engine;
use crate::intercept::flow::{Flow, SessionId};
use crate::ipc::flow::{FlowEnd, FlowEnds, Traffic, Upstream};
use crate::outcome::{Conduct, HandedOff, SessionEnd};
use crate::session::record;
use crate::session::table::{Ceilings, OpenSession, SessionTable, Stage};
use crate::telemetry::{Counter, Telemetry};

/// What is needed to write its record.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) session: OpenSession,
    lane: String,
    conduct: Conduct,
    /// Local and remote end of what was the connection to the server.
    upstream: Upstream,
    /// Whether an earlier proxy process had handed it off.
    taken_over: bool,
    /// What is known of its traffic since the handoff, from the client and from the server.
    from_client: Traffic,
    from_server: Traffic,
}

impl Parked {
    /// One that this process has handed off.
    pub(super) fn own(session: OpenSession, lane: &str, conduct: Conduct, upstream: Upstream) -> Self {
        let (from_client, from_server) = (Traffic::default(), Traffic::default());
        let lane = lane.to_owned();
        Self { session, lane, conduct, upstream, taken_over: false, from_client, from_server }
    }

    /// One that another process had handed off, by what that one noted, if it did.
    pub(super) fn recall(ends: FlowEnds, noted: Option<Entry>, table: &Arc<SessionTable>) -> Option<Self> {
        let FlowEnds { client, destination, upstream } = ends;
        let id = noted.as_ref().map_or_else(|| SessionId::next(clock::wall()), |entry| entry.session);
        let now = clock::now();
        // As far as this machine's other clock goes back.
        let opened = noted.as_ref().and_then(|entry| now.checked_sub(entry.age())).unwrap_or(now);
        // It is there already: no ceiling keeps it out.
        let session = table.open(Flow::new(id, client, destination), opened, Ceilings::default()).ok()?;
        session.set_stage(Stage::Splice);
        let (mut lane, mut conduct) = ("splice".to_owned(), Conduct::default());
        if let Some(entry) = noted {
            session.set_helo(&entry.helo);
            session.set_messages(entry.messages);
            session.add_from_client(entry.from_client);
            session.add_from_server(entry.from_server);
            session.noted().set(entry.facts);
            if let Some(tls) = entry.tls {
                session.set_tls(tls);
            }
            (lane, conduct) = (entry.lane, entry.conduct);
        }
        let (from_client, from_server) = (Traffic::default(), Traffic::default());
        Some(Self { session, lane, conduct, upstream, taken_over: true, from_client, from_server })
    }

    /// Takes in what has passed while other processes counted.
    pub(super) fn resume(&mut self, from_client: Traffic, from_server: Traffic) {
        self.session.add_from_client(from_client.octets);
        self.session.add_from_server(from_server.octets);
        (self.from_client, self.from_server) = (from_client, from_server);
    }

    /// Notes how much has passed since the handoff.
    pub(super) fn note(&mut self, from_client: Traffic, from_server: Traffic, telemetry: &Telemetry) {
        let client = from_client.octets.saturating_sub(self.from_client.octets);
        let server = from_server.octets.saturating_sub(self.from_server.octets);
        self.session.add_from_client(client);
        self.session.add_from_server(server);
        telemetry.add(Counter::ClientOctets, client);
        telemetry.add(Counter::ServerOctets, server);
        (self.from_client, self.from_server) = (from_client, from_server);
    }

    /// What the next process needs to know.
    pub(super) fn entry(&self) -> Entry {
        let carried = [self.from_client.octets, self.from_server.octets];
        Entry::of(&self.session, &self.lane, self.conduct, self.upstream, carried)
    }

    /// Writes the record.
    pub(super) fn finish(&self, end: FlowEnd, telemetry: &Telemetry) {
        let handed_off = HandedOff {
            packets_from_client: self.from_client.packets,
            packets_from_server: self.from_server.packets,
            taken_over: self.taken_over,
            end,
        };
        let (engine, end) = (Some(Engine::Handoff), end_of(end));
        let record = record::session(&self.session, &self.lane, end, self.conduct, engine, Some(handed_off));
        telemetry.session(&record);
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
