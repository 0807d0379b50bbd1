//! TLS sessions that may be resumed, and for how long (`session-cache-timeout`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;

use crate::clock;

/// The library's store, which forgets what is too old.
#[derive(Debug)]
pub(super) struct Sessions {
    store: ClientSessionMemoryCache,
    most: usize,
    lifetime: Duration,
    /// When the latest session with each server was stored.
    stored: Mutex<HashMap<ServerName<'static>, Instant>>,
}

impl Sessions {
    pub(super) fn new(most: usize, lifetime: Duration) -> Self {
        Self { store: ClientSessionMemoryCache::new(most), most, lifetime, stored: Mutex::default() }
    }

    fn note(&self, server: &ServerName<'static>) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if stored.len() >= self.most {
            let now = clock::now();
            stored.retain(|_, at| now.saturating_duration_since(*at) < self.lifetime);
            // What is forgotten here is not resumed.
            if stored.len() >= self.most {
                stored.clear();
            }
        }
        stored.insert(server.clone(), clock::now());
    }

    fn is_fresh(&self, server: &ServerName<'static>) -> bool {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.get(server).is_some_and(|at| clock::now().saturating_duration_since(*at) < self.lifetime)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.store.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.store.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.note(&server);
        self.store.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let found = self.store.tls12_session(server)?;
        if self.is_fresh(&server.to_owned()) {
            return Some(found);
        }
        self.store.remove_tls12_session(&server.to_owned());
        None
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.store.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.note(&server);
        self.store.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if self.is_fresh(server) {
            return self.store.take_tls13_ticket(server);
        }
        while self.store.take_tls13_ticket(server).is_some() {}
        None
    }
}
