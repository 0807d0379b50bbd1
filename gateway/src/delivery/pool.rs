//! Connections that are kept for the next delivery to the same server.
//!
//! Owns how many there are, and how long. With whom a connection may be shared is in its key: server, what holds for
//! all of them, TLS settings and user, so that no mail goes where its own delivery would not have brought it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::connection::{Connection, Remote, Target};
use super::settings::Reuse;
use crate::clock;
use crate::smtp::client::TlsLevel;

#[cfg(test)]
mod tests;

/// Idle connections, of all servers.
const MOST: usize = 1_000;
/// How late an idle connection may be closed.
const TICK: Duration = Duration::from_millis(250);
/// A server that has closed a connection says so at once; one that takes longer to be found out is silent.
const SILENCE: Duration = Duration::from_secs(1);

/// What is the same only as itself: settings are made once, and shared. A connection that is kept holds its own, so that
/// no other has their address meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Same(usize);

impl Same {
    fn new<T>(settings: &Arc<T>) -> Self {
        Self(Arc::as_ptr(settings).addr())
    }
}

/// With whom a connection may be shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    remote: Remote,
    /// The name that replies are reported with.
    host: String,
    /// New ones are made by each reload.
    rules: Same,
    level: TlsLevel,
    /// All that was demanded of the server: [`TlsClient::config`](super::tls::TlsClient::config) makes one for each demand.
    tls: Option<Same>,
    server_name: Option<String>,
    login: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Credentials {
    username: String,
    password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Key {
    pub(super) fn new(target: &Target) -> Self {
        let login = target.terms.login.as_ref();
        Self {
            remote: target.remote.clone(),
            host: target.terms.peer.name.clone(),
            rules: Same::new(&target.rules),
            level: target.terms.tls,
            tls: target.tls.as_ref().map(|tls| Same::new(&tls.config)),
            server_name: target.tls.as_ref().and_then(|tls| tls.server_name.clone()),
            login: login.map(|login| Credentials {
                username: login.username.clone(),
                password: login.password.clone(),
            }),
        }
    }
}

/// Idle connections.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    by_server: HashMap<Key, Vec<Kept>>,
    count: usize,
    /// Somebody closes those whose time is over.
    is_swept: bool,
}

#[derive(Debug)]
struct Kept {
    connection: Connection,
    until: Instant,
}

impl Idle {
    /// The one that was used last, which is the likeliest to be still there.
    fn take(&mut self, key: &Key) -> Option<Connection> {
        let kept = self.by_server.get_mut(key)?;
        let last = kept.pop();
        if kept.is_empty() {
            self.by_server.remove(key);
        }
        let Kept { connection, .. } = last?;
        self.count = self.count.saturating_sub(1);
        Some(connection)
    }

    fn take_all(&mut self, key: &Key) -> Vec<Connection> {
        let all = self.by_server.remove(key).unwrap_or_default();
        self.count = self.count.saturating_sub(all.len());
        all.into_iter().map(|kept| kept.connection).collect()
    }

    fn take_over(&mut self, now: Instant) -> Vec<Connection> {
        let mut over = Vec::new();
        self.by_server.retain(|_, kept| {
            over.extend(kept.extract_if(.., |kept| kept.until <= now).map(|kept| kept.connection));
            !kept.is_empty()
        });
        self.count = self.count.saturating_sub(over.len());
        over
    }
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that may be used once more, and whose server still listens. Others are closed: where the one that was
    /// used last is silent, so are those that have been idle for longer, and nobody waits for each of them.
    pub(super) async fn take(&self, key: &Key, reuse: &Reuse) -> Option<Connection> {
        loop {
            let mut connection = self.idle().take(key)?;
            let asked = clock::now();
            if may_go_on(&connection, reuse) && connection.check().await.is_ok() {
                return Some(connection);
            }
            close(connection);
            if clock::now().saturating_duration_since(asked) >= SILENCE {
                let silent = self.idle().take_all(key);
                silent.into_iter().for_each(close);
                return None;
            }
        }
    }

    /// Keeps a connection for a while, if it may be used once more.
    pub(super) fn put(self: &Arc<Self>, key: Key, connection: Connection, reuse: &Reuse) {
        let until = clock::now().checked_add(reuse.idle).filter(|_| may_go_on(&connection, reuse));
        let mut all = self.idle();
        let Some(until) = until.filter(|_| all.count < MOST) else {
            drop(all);
            return close(connection);
        };
        all.count = all.count.saturating_add(1);
        all.by_server.entry(key).or_default().push(Kept { connection, until });
        if !std::mem::replace(&mut all.is_swept, true) {
            tokio::spawn(Arc::clone(self).sweep());
        }
    }

    /// Closes connections whose time is over, until there are none.
    async fn sweep(self: Arc<Self>) {
        loop {
            sleep(TICK).await;
            let (over, is_empty) = {
                let mut all = self.idle();
                let over = all.take_over(clock::now());
                all.is_swept = all.count > 0;
                (over, all.count == 0)
            };
            over.into_iter().for_each(close);
            if is_empty {
                return;
            }
        }
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        let all = {
            let mut all = self.idle();
            all.count = 0;
            std::mem::take(&mut all.by_server)
        };
        all.into_values().flatten().for_each(|kept| close(kept.connection));
    }
}

/// Neither too old nor used too often.
fn may_go_on(connection: &Connection, reuse: &Reuse) -> bool {
    let lived = clock::now().saturating_duration_since(connection.opened().into_std());
    let uses = connection.deliveries();
    lived < reuse.age && (reuse.count == 0 || uses < reuse.count)
}

/// Says good-bye, for which nobody waits.
pub(super) fn close(connection: Connection) {
    drop(tokio::spawn(Box::pin(connection.quit())));
}
