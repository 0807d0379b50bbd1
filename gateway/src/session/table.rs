//! The sessions that are open, for the console and for operators.
//!
//! Owns the list of them, and how many each client may have. What of one session may be seen is in
//! `live`, and how operators read it in `view`.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipnet::IpNet;

use crate::intercept::address::{ClientAddr, LocalAddr};
use crate::intercept::flow::{Flow, SessionId};
use crate::ipc::client::ClientCount;
use crate::policy::lock::Who;
pub use crate::smtp::stage::Stage;

mod ceiling;
mod live;
mod view;

use ceiling::Occupancy;
pub use ceiling::{Ceilings, Full};
pub use live::LiveSession;
pub use view::{AuthState, SessionView};

/// Clients whose failed connections are remembered until they are told.
const FAILED: usize = 10_000;

/// All open sessions.
#[derive(Debug, Default)]
pub struct SessionTable {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<SessionId, Arc<LiveSession>>,
    /// The most that were open at once.
    most: usize,
    occupancy: Occupancy,
    /// Connections to servers that failed, by client, since they were last told.
    failed: HashMap<IpAddr, u32>,
    /// The gateway's own ends of connections to servers.
    upstreams: HashSet<LocalAddr>,
}

impl SessionTable {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session in, unless a ceiling is reached.
    ///
    /// # Errors
    ///
    /// [`Full`] names the ceiling.
    pub fn open(self: &Arc<Self>, flow: Flow, now: Instant, ceilings: Ceilings) -> Result<OpenSession, Full> {
        let mut inner = self.lock();
        let sessions = inner.sessions.len();
        let prefix = inner.occupancy.enter(&flow, sessions, ceilings)?;
        let live = Arc::new(LiveSession::new(flow, prefix, now));
        inner.sessions.insert(live.flow().id, Arc::clone(&live));
        inner.most = inner.most.max(inner.sessions.len());
        drop(inner);
        Ok(OpenSession { table: Arc::clone(self), live })
    }

    /// Whether a client is the gateway itself, whose connection to a server has come back to it.
    #[must_use]
    pub fn is_own(&self, client: ClientAddr) -> bool {
        let inner = self.lock();
        inner.upstreams.contains(&LocalAddr::new(client.socket()))
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// The most sessions that were open at the same time.
    #[must_use]
    pub fn most(&self) -> usize {
        self.lock().most
    }

    /// Whether no session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every open session as it is at `now`, oldest first.
    #[must_use]
    pub fn list(&self, now: Instant) -> Vec<SessionView> {
        let live: Vec<_> = self.lock().sessions.values().cloned().collect();
        let mut views: Vec<_> = live.iter().map(|session| session.view(now)).collect();
        views.sort_by_key(|view| view.id);
        views
    }

    /// How many sessions the client of `flow` has open, or its identity where it has one.
    #[must_use]
    pub fn open_of(&self, flow: &Flow) -> usize {
        self.lock().occupancy.of(flow)
    }

    /// Ends a session; false when no such session is open.
    pub fn end(&self, id: SessionId) -> bool {
        let live = self.lock().sessions.get(&id).cloned();
        live.is_some_and(|session| {
            session.end();
            true
        })
    }

    /// Ends the sessions of these clients, but for those that the kernel carries and can tell from
    /// others: the datapath process cuts them all at once.
    pub fn end_clients(&self, who: &Who) {
        let cut = who.in_kernel().is_some();
        let live: Vec<_> = {
            let inner = self.lock();
            inner.sessions.values().filter(|session| who.is(session.flow())).cloned().collect()
        };
        live.iter().filter(|session| !cut || !session.is_carried()).for_each(|session| session.end());
    }

    /// Notes that a connection to a server failed.
    pub fn connect_failed(&self, client: IpAddr) {
        let mut inner = self.lock();
        if inner.failed.len() < FAILED || inner.failed.contains_key(&client) {
            let failed = inner.failed.entry(client).or_default();
            *failed = failed.saturating_add(1);
        }
    }

    /// Open sessions and failed connections of each client that has some; failed connections are
    /// told once.
    #[must_use]
    pub fn counts(&self) -> Vec<ClientCount> {
        let mut inner = self.lock();
        let mut failed = std::mem::take(&mut inner.failed);
        let open = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut counts: Vec<_> = inner
            .occupancy
            .clients()
            .map(|(client, count)| ClientCount {
                client,
                open: open(count),
                failed: failed.remove(&client).unwrap_or(0),
            })
            .collect();
        drop(inner);
        counts.extend(failed.into_iter().map(|(client, failed)| ClientCount { client, open: 0, failed }));
        counts
    }

    /// Ends the sessions of these clients that pass unread and have sockets, because of a limit.
    pub fn end_unread(&self, clients: IpNet) {
        let inner = self.lock();
        let live: Vec<_> = inner.sessions.values().cloned().collect();
        drop(inner);
        for session in live {
            let unread = session.stage() == Stage::Splice && !session.is_carried();
            if unread && clients.contains(&session.flow().client.ip()) {
                session.end_for_limit();
            }
        }
    }

    fn close(&self, live: &LiveSession) {
        let mut inner = self.lock();
        inner.sessions.remove(&live.flow().id);
        inner.occupancy.leave(live.flow(), live.prefix);
        if let Some(upstream) = live.upstream.get() {
            inner.upstreams.remove(upstream);
        }
    }
}

/// A session's place in the table, given back when dropped.
#[derive(Debug)]
pub struct OpenSession {
    table: Arc<SessionTable>,
    live: Arc<LiveSession>,
}

impl OpenSession {
    /// Notes the gateway's own end of the connection to the server; the first one counts.
    pub(super) fn connects_from(&self, address: LocalAddr) {
        let mut inner = self.table.lock();
        if self.live.upstream.set(address).is_ok() {
            inner.upstreams.insert(address);
        }
    }
}

impl std::ops::Deref for OpenSession {
    type Target = LiveSession;

    fn deref(&self) -> &LiveSession {
        &self.live
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.table.close(&self.live);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::clock;
    use crate::intercept::address::OriginalDst;
    use crate::intercept::identity::Identity;

    fn flow(client: &str) -> Flow {
        Flow::new(
            SessionId::next(clock::wall()),
            ClientAddr::new(client.parse().unwrap()),
            OriginalDst::new("198.51.100.1:25".parse().unwrap()),
        )
    }

    #[test]
    fn ceilings_hold_and_a_closed_session_gives_its_place_back() {
        let table = Arc::new(SessionTable::default());
        let now = clock::now();
        let ceilings = Ceilings { sessions: 2, per_client: 1, ..Ceilings::default() };
        let first = table.open(flow("192.0.2.1:1"), now, ceilings).unwrap();
        assert_eq!(table.open(flow("192.0.2.1:2"), now, ceilings).unwrap_err(), Full::Client);
        let _second = table.open(flow("192.0.2.2:1"), now, ceilings).unwrap();
        assert_eq!(table.open(flow("192.0.2.3:1"), now, ceilings).unwrap_err(), Full::Gateway);
        drop(first);
        assert_eq!(table.len(), 1);
        assert!(table.open(flow("192.0.2.1:3"), now, ceilings).is_ok());
    }

    #[test]
    fn an_identity_has_a_ceiling_of_its_own_behind_each_address() {
        let table = Arc::new(SessionTable::default());
        let ceilings = Ceilings { per_identity: 1, ..Ceilings::default() };
        let open = |client: &str, who: &[u8]| {
            let flow = Flow { identity: Identity::new(who), ..flow(client) };
            table.open(flow, clock::now(), ceilings)
        };
        let first = open("192.0.2.1:1", b"10.0.0.1").unwrap();
        assert_eq!(open("192.0.2.1:2", b"10.0.0.1").unwrap_err(), Full::Identity);
        let _others = [
            open("192.0.2.1:3", b"10.0.0.2").unwrap(),
            open("192.0.2.2:1", b"10.0.0.1").unwrap(),
            open("192.0.2.1:4", b"").unwrap(),
            open("192.0.2.1:5", b"").unwrap(),
        ];
        drop(first);
        assert!(open("192.0.2.1:6", b"10.0.0.1").is_ok());
    }

    #[test]
    fn a_network_has_a_ceiling_that_its_addresses_share() {
        let table = Arc::new(SessionTable::default());
        let ceilings = |bits| Ceilings { per_prefix: 1, prefixes: (24, bits), ..Ceilings::default() };
        let open = |client: &str, bits| table.open(flow(client), clock::now(), ceilings(bits));
        let first = open("[2001:db8:1:2::1]:1", 64).unwrap();
        assert_eq!(open("[2001:db8:1:2:ffff::9]:1", 64).unwrap_err(), Full::Prefix);
        let _others = [open("[2001:db8:1:3::1]:1", 64).unwrap(), open("192.0.2.1:1", 64).unwrap()];
        assert_eq!(open("192.0.2.200:1", 64).unwrap_err(), Full::Prefix);
        // Given back as it was counted, whatever networks are since.
        let again = table.open(flow("192.0.2.1:2"), clock::now(), Ceilings::default()).unwrap();
        drop((first, again));
        assert!(open("[2001:db8:1:2::1]:1", 64).is_ok());
        assert_eq!(open("192.0.2.1:3", 64).unwrap_err(), Full::Prefix);
    }

    #[test]
    fn the_gateway_knows_its_own_connections_for_as_long_as_they_last() {
        let table = Arc::new(SessionTable::default());
        let session = table.open(flow("192.0.2.1:1"), clock::now(), Ceilings::default()).unwrap();
        let own: SocketAddr = "198.51.100.9:40000".parse().unwrap();
        session.connects_from(LocalAddr::new(own));
        assert!(table.is_own(ClientAddr::new(own)));
        assert!(!table.is_own(ClientAddr::new("198.51.100.9:40001".parse().unwrap())));
        drop(session);
        assert!(!table.is_own(ClientAddr::new(own)));
    }

    #[test]
    fn ending_a_session_that_is_not_open_says_so() {
        let table = Arc::new(SessionTable::default());
        assert!(!table.end(SessionId::next(clock::wall())));
    }
}
