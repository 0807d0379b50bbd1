//! What the record of a session needs that was handed off, as one process leaves it to the next.

use std::io;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::intercept::flow::{FlowFacts, SessionId};
use crate::ipc::flow::{FlowEnds, Upstream};
use crate::outcome::Conduct;
use crate::session::table::LiveSession;
use crate::tls::TlsFacts;

/// What the record of a session needs that was handed off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) ends: FlowEnds,
    pub(super) session: SessionId,
    /// When it was accepted: milliseconds since 1970.
    pub(super) opened: u64,
    pub(super) lane: String,
    pub(super) helo: String,
    pub(super) messages: u32,
    /// Octets before the handoff.
    pub(super) from_client: u64,
    pub(super) from_server: u64,
    pub(super) conduct: Conduct,
    pub(super) facts: Option<FlowFacts>,
    pub(super) tls: Option<TlsFacts>,
}

impl Entry {
    /// What is known of a session, of which the kernel has carried so many octets from either side.
    pub(super) fn of(
        session: &LiveSession,
        lane: &str,
        conduct: Conduct,
        upstream: Upstream,
        carried: [u64; 2],
    ) -> Self {
        let (from_client, from_server) = session.octets();
        let [client_carried, server_carried] = carried;
        let flow = session.flow();
        let age = clock::now().saturating_duration_since(session.opened());
        Self {
            ends: FlowEnds { client: flow.client, destination: flow.destination, upstream },
            session: flow.id,
            opened: milliseconds(clock::wall().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)),
            lane: lane.to_owned(),
            helo: session.helo(),
            messages: session.messages(),
            from_client: from_client.saturating_sub(client_carried),
            from_server: from_server.saturating_sub(server_carried),
            conduct,
            facts: session.facts(),
            tls: session.tls(),
        }
    }

    /// How long ago it was accepted.
    pub(super) fn age(&self) -> Duration {
        Duration::from_millis(milliseconds(clock::wall()).saturating_sub(self.opened))
    }

    /// As it stands in a file.
    pub(super) fn line(&self) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// Since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
