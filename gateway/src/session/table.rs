//! The sessions that are open, for the console and for operators.
//!
//! Owns what of a session may be seen while it runs, and the bell that ends it. Writers are the
//! sessions themselves, each on its own entry, without a lock on the byte path.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use super::direct::FlowName;
use crate::intercept::address::{ClientAddr, LocalAddr};
use crate::intercept::flow::{Flow, FlowFacts, SessionId};
use crate::ipc::client::ClientCount;
use crate::outcome::Conduct;
use crate::policy::lock::Who;
pub use crate::smtp::stage::Stage;
use crate::tls::TlsFacts;

mod ceiling;

use ceiling::Occupancy;
pub use ceiling::{Ceilings, Full};

/// What of a running session can be seen.
#[derive(Debug)]
pub struct LiveSession {
    flow: Flow,
    /// The network it is counted with.
    prefix: Option<IpNet>,
    opened: Instant,
    stage: AtomicU8,
    from_client: AtomicU64,
    from_server: AtomicU64,
    messages: AtomicU32,
    helo: Mutex<String>,
    facts: Mutex<Option<FlowFacts>>,
    tls: Mutex<Option<TlsFacts>>,
    listed: Mutex<Vec<String>>,
    auth: AtomicU8,
    ended: Notify,
    /// Its end is that of a client over its limit, not an operator's wish.
    limited: AtomicBool,
    /// The gateway's own end of the connection to the server.
    upstream: OnceLock<LocalAddr>,
    /// Whom to tell to end the flow, once there is no task to ring for.
    ender: OnceLock<mpsc::Sender<FlowName>>,
}

impl LiveSession {
    /// The flow the session carries.
    #[must_use]
    pub const fn flow(&self) -> &Flow {
        &self.flow
    }

    /// When it was accepted.
    #[must_use]
    pub const fn opened(&self) -> Instant {
        self.opened
    }

    /// Notes where the session is.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Where the session is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let index = usize::from(self.stage.load(Ordering::Relaxed));
        Stage::ALL.get(index).copied().unwrap_or(Stage::Closing)
    }

    /// Notes what the client has done about AUTH.
    pub fn set_conduct(&self, conduct: Conduct) {
        let auth = AuthState::of(conduct);
        self.auth.store(auth as u8, Ordering::Relaxed);
    }

    /// Counts octets read from the client.
    pub fn add_from_client(&self, octets: u64) {
        self.from_client.fetch_add(octets, Ordering::Relaxed);
    }

    /// Counts octets read from the server.
    pub fn add_from_server(&self, octets: u64) {
        self.from_server.fetch_add(octets, Ordering::Relaxed);
    }

    /// Octets read from the client and from the server.
    #[must_use]
    pub fn octets(&self) -> (u64, u64) {
        (self.from_client.load(Ordering::Relaxed), self.from_server.load(Ordering::Relaxed))
    }

    /// Counts a message; returns its number in the session, from 1.
    pub fn add_message(&self) -> u32 {
        self.messages.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Notes how many messages were begun while another process had the session.
    pub fn set_messages(&self, messages: u32) {
        self.messages.store(messages, Ordering::Relaxed);
    }

    /// Messages begun.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Notes the client's HELO or EHLO name.
    pub fn set_helo(&self, name: &str) {
        name.clone_into(&mut self.helo.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The client's HELO or EHLO name.
    #[must_use]
    pub fn helo(&self) -> String {
        self.helo.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what the kernel knows of the flow.
    pub fn set_facts(&self, facts: FlowFacts) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts);
    }

    /// What the kernel knows of the flow.
    #[must_use]
    pub fn facts(&self) -> Option<FlowFacts> {
        let noted = self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        noted.or_else(|| self.flow.facts.clone())
    }

    /// Notes the block lists that have the client.
    pub fn set_listed(&self, lists: Vec<String>) {
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = lists;
    }

    /// The block lists that have the client, as far as any were asked.
    #[must_use]
    pub fn listed(&self) -> Vec<String> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what the client said of itself when it began TLS.
    pub fn set_tls(&self, tls: TlsFacts) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls);
    }

    /// What the client said of itself when it began TLS.
    #[must_use]
    pub fn tls(&self) -> Option<TlsFacts> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on the session has no task: its end is asked for through `ends`.
    pub fn end_by(&self, ends: mpsc::Sender<FlowName>) {
        if self.ender.set(ends).is_err() {
            tracing::debug!(session = %self.flow.id, "handed off twice");
        }
    }

    fn end(&self) {
        match self.ender.get() {
            // A full queue is asked for again by the operator.
            Some(ends) => drop(ends.try_send((self.flow.client, self.flow.destination))),
            None => self.ended.notify_one(),
        }
    }

    /// Returns when an operator ends the session.
    pub async fn ended_by_operator(&self) {
        self.ended.notified().await;
    }

    /// Whether it was ended because its client is over a limit.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    fn view(&self, now: Instant) -> SessionView {
        let (from_client, from_server) = self.octets();
        SessionView {
            id: self.flow.id,
            client: self.flow.client.socket().to_string(),
            destination: self.flow.destination.socket().to_string(),
            stage: self.stage(),
            helo: self.helo(),
            from_client,
            from_server,
            messages: self.messages(),
            age: now.saturating_duration_since(self.opened),
            facts: self.facts(),
            tls: self.tls(),
            identity: self.flow.identity.as_ref().map(|identity| identity.as_str().to_owned()),
            auth: AuthState::ALL
                .get(usize::from(self.auth.load(Ordering::Relaxed)))
                .copied()
                .unwrap_or_default(),
        }
    }
}

/// A session as operators see it at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// The session's name.
    pub id: SessionId,
    /// Client address and port.
    pub client: String,
    /// Original destination and port.
    pub destination: String,
    /// Where it is.
    pub stage: Stage,
    /// The client's HELO or EHLO name; bytes from the network.
    pub helo: String,
    /// Octets from the client.
    pub from_client: u64,
    /// Octets from the server.
    pub from_server: u64,
    /// Messages begun.
    pub messages: u32,
    /// Time since it was accepted.
    pub age: Duration,
    /// What the kernel noted of its first packet.
    pub facts: Option<FlowFacts>,
    /// What the client said of itself when it began TLS; the name is bytes from the network.
    pub tls: Option<TlsFacts>,
    /// Who it is behind an address that many share.
    #[serde(default)]
    pub identity: Option<String>,
    /// How far it has come with AUTH.
    #[serde(default)]
    pub auth: AuthState,
}

/// How far a client has come with AUTH (RFC 4954).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum AuthState {
    /// The server has not offered it.
    #[default]
    NotOffered,
    /// The server offers it.
    Offered,
    /// The server has accepted it.
    Accepted,
}

impl AuthState {
    const ALL: [Self; 3] = [Self::NotOffered, Self::Offered, Self::Accepted];

    const fn of(conduct: Conduct) -> Self {
        match (conduct.authenticated, conduct.auth_offered) {
            (true, _) => Self::Accepted,
            (false, true) => Self::Offered,
            (false, false) => Self::NotOffered,
        }
    }
}

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
    /// Takes a session in, unless a ceiling is reached.
    ///
    /// # Errors
    ///
    /// [`Full`] names the ceiling.
    pub fn open(self: &Arc<Self>, flow: Flow, now: Instant, ceilings: Ceilings) -> Result<OpenSession, Full> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let sessions = inner.sessions.len();
        let prefix = inner.occupancy.enter(&flow, sessions, ceilings)?;
        let live = Arc::new(LiveSession {
            opened: now,
            stage: AtomicU8::new(Stage::Connect as u8),
            from_client: AtomicU64::new(0),
            from_server: AtomicU64::new(0),
            messages: AtomicU32::new(0),
            helo: Mutex::default(),
            facts: Mutex::default(),
            tls: Mutex::default(),
            listed: Mutex::default(),
            auth: AtomicU8::new(AuthState::NotOffered as u8),
            ended: Notify::new(),
            limited: AtomicBool::new(false),
            upstream: OnceLock::new(),
            ender: OnceLock::new(),
            prefix,
            flow,
        });
        inner.sessions.insert(live.flow.id, Arc::clone(&live));
        inner.most = inner.most.max(inner.sessions.len());
        drop(inner);
        Ok(OpenSession { table: Arc::clone(self), live })
    }

    /// Whether a client is the gateway itself, whose connection to a server has come back to it.
    #[must_use]
    pub fn is_own(&self, client: ClientAddr) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.upstreams.contains(&LocalAddr::new(client.socket()))
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).sessions.len()
    }

    /// The most sessions that were open at the same time.
    #[must_use]
    pub fn most(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).most
    }

    /// Whether no session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every open session as it is at `now`, oldest first.
    #[must_use]
    pub fn list(&self, now: Instant) -> Vec<SessionView> {
        let live: Vec<_> =
            self.inner.lock().unwrap_or_else(PoisonError::into_inner).sessions.values().cloned().collect();
        let mut views: Vec<_> = live.iter().map(|session| session.view(now)).collect();
        views.sort_by_key(|view| view.id);
        views
    }

    /// How many sessions the client of `flow` has open, or its identity where it has one.
    #[must_use]
    pub fn open_of(&self, flow: &Flow) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).occupancy.of(flow)
    }

    /// Ends a session; false when no such session is open.
    pub fn end(&self, id: SessionId) -> bool {
        let live = self.inner.lock().unwrap_or_else(PoisonError::into_inner).sessions.get(&id).cloned();
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
            let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.sessions.values().filter(|session| who.is(&session.flow)).cloned().collect()
        };
        live.iter().filter(|session| !cut || session.ender.get().is_none()).for_each(|session| session.end());
    }

    /// Notes that a connection to a server failed.
    pub fn connect_failed(&self, client: IpAddr) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.failed.len() < FAILED || inner.failed.contains_key(&client) {
            let failed = inner.failed.entry(client).or_default();
            *failed = failed.saturating_add(1);
        }
    }

    /// Open sessions and failed connections of each client that has some; failed connections are
    /// told once.
    #[must_use]
    pub fn counts(&self) -> Vec<ClientCount> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
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
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let live: Vec<_> = inner.sessions.values().cloned().collect();
        drop(inner);
        for session in live {
            let unread = session.stage() == Stage::Splice && session.ender.get().is_none();
            if unread && clients.contains(&session.flow.client.ip()) {
                session.limited.store(true, Ordering::Relaxed);
                session.ended.notify_one();
            }
        }
    }

    fn close(&self, live: &LiveSession) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.sessions.remove(&live.flow.id);
        inner.occupancy.leave(&live.flow, live.prefix);
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
        let mut inner = self.table.inner.lock().unwrap_or_else(PoisonError::into_inner);
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
