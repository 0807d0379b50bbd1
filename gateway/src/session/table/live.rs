//! What of one running session may be seen, and the bell that ends it.
//!
//! The session writes, whoever wants to know reads: without a lock on the byte path.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use ipnet::IpNet;
use tokio::sync::{Notify, mpsc};

use super::view::{AuthState, SessionView};
use crate::intercept::address::LocalAddr;
use crate::intercept::facts::Noted;
use crate::intercept::flow::{Flow, FlowFacts};
use crate::outcome::Conduct;
use crate::session::direct::FlowName;
use crate::smtp::stage::Stage;
use crate::tls::TlsFacts;

/// What of a running session can be seen.
#[derive(Debug)]
pub struct LiveSession {
    flow: Flow,
    /// The network it is counted with.
    pub(super) prefix: Option<IpNet>,
    opened: Instant,
    stage: AtomicU8,
    from_client: AtomicU64,
    from_server: AtomicU64,
    messages: AtomicU32,
    helo: Mutex<String>,
    facts: Arc<Noted>,
    tls: Mutex<Option<TlsFacts>>,
    listed: Mutex<Vec<String>>,
    auth: AtomicU8,
    ended: Notify,
    /// Its end is that of a client over its limit, not an operator's wish.
    limited: AtomicBool,
    /// The gateway's own end of the connection to the server.
    pub(super) upstream: OnceLock<LocalAddr>,
    /// Whom to tell to end the flow, once there is no task to ring for.
    ender: OnceLock<mpsc::Sender<FlowName>>,
}

impl LiveSession {
    /// One that was accepted at `opened`, and is counted with the network `prefix`.
    pub(super) fn new(flow: Flow, prefix: Option<IpNet>, opened: Instant) -> Self {
        Self {
            flow,
            prefix,
            opened,
            stage: AtomicU8::new(Stage::Connect as u8),
            from_client: AtomicU64::new(0),
            from_server: AtomicU64::new(0),
            messages: AtomicU32::new(0),
            helo: Mutex::default(),
            facts: Arc::default(),
            tls: Mutex::default(),
            listed: Mutex::default(),
            auth: AtomicU8::new(AuthState::NotOffered as u8),
            ended: Notify::new(),
            limited: AtomicBool::new(false),
            upstream: OnceLock::new(),
            ender: OnceLock::new(),
        }
    }

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

    /// What the kernel noted of the flow, once it is known.
    pub(in crate::session) const fn noted(&self) -> &Arc<Noted> {
        &self.facts
    }

    /// What is known of that.
    #[must_use]
    pub fn facts(&self) -> Option<FlowFacts> {
        self.facts.now()
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

    /// Whether it has no task any more, because the kernel carries it.
    pub(super) fn is_carried(&self) -> bool {
        self.ender.get().is_some()
    }

    /// Ends it.
    pub(super) fn end(&self) {
        match self.ender.get() {
            // A full queue is asked for again by the operator.
            Some(ends) => drop(ends.try_send((self.flow.client, self.flow.destination))),
            None => self.ended.notify_one(),
        }
    }

    /// Ends it because its client is over a limit.
    pub(super) fn end_for_limit(&self) {
        self.limited.store(true, Ordering::Relaxed);
        self.ended.notify_one();
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

    /// The session as it is at `now`.
    pub(super) fn view(&self, now: Instant) -> SessionView {
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
            auth: AuthState::numbered(self.auth.load(Ordering::Relaxed)),
        }
    }
}
