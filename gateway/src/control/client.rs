//! The commands' and the console's end of the control socket.
//!
//! Owns one request at a time and what to tell the operator when it fails. Never trusts the
//! answer's length.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use nix::unistd::{Gid, Group};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

mod queue;

use super::request::{
    AskedUpgrade, Exemption, Killed, LockList, Log, NewLock, OldLock, OwnQuotas, Problem, QuotaList,
    QuotaQuery, QuotasReset, Reloaded, ResetQuotas, Sessions, Status, Stopping, Unlocked, VERSION, Version,
};
use crate::intercept::flow::SessionId;
use crate::ipc::Upgraded;
use crate::ipc::client::{ClientList, ClientSort};

/// How long an answer may take.
const TIME: Duration = Duration::from_secs(10);

/// How long the answer to a reload may take: the other process reads the file.
const RELOAD_TIME: Duration = Duration::from_secs(30);

/// How long the answer to an upgrade may take: the new process loads the kernel program and starts a
/// proxy first.
const UPGRADE_TIME: Duration = Duration::from_secs(85);

/// Octets of an answer.
const ANSWER_LENGTH: usize = 32 << 20;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no socket.
    #[error(
        "there is no control socket at {}: the gateway does not run, or its configuration names another \
         path; start it with `gateway run`, or name the socket with `--socket PATH`", .0.display()
    )]
    NoSocket(PathBuf),
    /// Nobody listens at the socket.
    #[error("nobody answers at {}: the gateway has stopped; start it with `gateway run`", .0.display())]
    NotRunning(PathBuf),
    /// The file's mode keeps the user out.
    #[error("no permission for {}: {hint}", path.display())]
    NoPermission {
        /// The socket.
        path: PathBuf,
        /// Who may.
        hint: String,
    },
    /// The connection failed.
    #[error("the control socket at {}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// The gateway did not answer in HTTP, or closed before its answer was complete.
    #[error("the answer from the control socket broke off: {0}")]
    Broken(String),
    /// The gateway did not answer in time.
    #[error("the gateway did not answer within {} seconds; its log may say why", .0.as_secs())]
    Timeout(Duration),
    /// The gateway answered in a form this release does not know.
    #[error(
        "the gateway's answer is of another version than this command ({own}): {0}; use the command of the \
         release that runs, or restart the gateway after an upgrade", own = env!("CARGO_PKG_VERSION")
    )]
    Version(String),
    /// The gateway refused.
    #[error("{0}")]
    Refused(Problem),
}

impl Error {
    /// Whether the gateway is away, rather than unwilling.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        match self {
            Self::NoSocket(_)
            | Self::NotRunning(_)
            | Self::Io { .. }
            | Self::Broken(_)
            | Self::Timeout(_) => true,
            Self::NoPermission { .. } | Self::Version(_) | Self::Refused(_) => false,
        }
    }
}

/// A client of one control socket. Each request is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the socket at `path`; nothing is connected yet.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What runs there.
    ///
    /// # Errors
    ///
    /// [`Error`] says what the operator can do.
    pub async fn version(&self) -> Result<Version, Error> {
        self.ask(Method::GET, "/v1/version", TIME).await
    }

    /// How the gateway is.
    ///
    /// # Errors
    ///
    /// [`Error`] says what the operator can do.
    pub async fn status(&self) -> Result<Status, Error> {
        self.ask(Method::GET, "/v1/status", TIME).await
    }

    /// The open sessions.
    ///
    /// # Errors
    ///
    /// [`Error`] says what the operator can do.
    pub async fn sessions(&self) -> Result<Sessions, Error> {
        self.ask(Method::GET, "/v1/sessions", TIME).await
    }

    /// The clients that the kernel counts, the first `most` in this order.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where nothing is counted.
    pub async fn clients(&self, sort: ClientSort, most: usize) -> Result<ClientList, Error> {
        let path = format!("/v1/clients?sort={}&most={most}", sort.name());
        self.ask(Method::GET, &path, TIME).await
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it is not open or the user may not.
    pub async fn kill(&self, id: SessionId) -> Result<Killed, Error> {
        self.ask(Method::POST, &format!("/v1/sessions/{id}/kill"), TIME).await
    }

    /// The locks.
    ///
    /// # Errors
    ///
    /// [`Error`] says what the operator can do.
    pub async fn locks(&self) -> Result<LockList, Error> {
        self.ask(Method::GET, "/v1/locks", TIME).await
    }

    /// Sets a lock.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when its network is exempt or the user may not.
    pub async fn lock(&self, lock: &NewLock) -> Result<LockList, Error> {
        self.tell("/v1/locks", lock, TIME).await
    }

    /// Removes a lock, or all.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none or the user may not.
    pub async fn unlock(&self, lock: &OldLock) -> Result<Unlocked, Error> {
        self.tell("/v1/locks/remove", lock, TIME).await
    }

    /// Exempts a network from locks, or takes that back.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there are too many, when there is none, or when the user may not.
    pub async fn exempt(&self, exemption: Exemption) -> Result<LockList, Error> {
        self.tell("/v1/locks/exempt", &exemption, TIME).await
    }

    /// How clients stand with their quotas.
    ///
    /// # Errors
    ///
    /// [`Error`] says what the operator can do.
    pub async fn quotas(&self, of: &QuotaQuery) -> Result<QuotaList, Error> {
        let address = of.client.map(|client| format!("client={client}"));
        // An identity has no octets that would need more than this.
        let encode = |text: &str| text.replace('%', "%25").replace('+', "%2B");
        let identity = of.identity.as_deref().map(|identity| format!("identity={}", encode(identity)));
        let query: Vec<_> = address.into_iter().chain(identity).collect();
        self.ask(Method::GET, &format!("/v1/quotas?{}", query.join("&")), TIME).await
    }

    /// Gives a client limits of its own, or the configured ones again.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when nothing is limited or the user may not.
    pub async fn set_quotas(&self, own: &OwnQuotas) -> Result<QuotaList, Error> {
        self.tell("/v1/quotas/set", own, TIME).await
    }

    /// Forgets what a client has used, or what all have.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the client is not known or the user may not.
    pub async fn reset_quotas(&self, of: &ResetQuotas) -> Result<QuotasReset, Error> {
        self.tell("/v1/quotas/reset", of, TIME).await
    }

    /// The lines of the log behind number `since`.
    ///
    /// # Errors
    ///
    /// [`Error`] says what the operator can do.
    pub async fn log(&self, since: u64) -> Result<Log, Error> {
        self.ask(Method::GET, &format!("/v1/log?since={since}"), TIME).await
    }

    /// Has the configuration read again.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with all problems of the file, or when the user may not.
    pub async fn reload(&self) -> Result<Reloaded, Error> {
        self.ask(Method::POST, "/v1/reload", RELOAD_TIME).await
    }

    /// Has another process take over, started from `binary` or from where the gateway was started.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] says why none did, or that the user may not.
    pub async fn upgrade(&self, binary: Option<PathBuf>) -> Result<Upgraded, Error> {
        self.tell("/v1/upgrade", &AskedUpgrade { binary }, UPGRADE_TIME).await
    }

    async fn tell<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        time: Duration,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Broken(error.to_string()))?;
        self.ask_with(Method::POST, path, body.into(), time).await
    }

    /// Has the gateway stop; `drop_flows`: flows that the kernel carries end with it.
    ///
    /// # Errors
    ///
    /// As [`Self::status`], or when the user may not.
    pub async fn stop(&self, drop_flows: bool) -> Result<Stopping, Error> {
        let path = if drop_flows { "/v1/stop/drop-flows" } else { "/v1/stop/keep-flows" };
        self.ask(Method::POST, path, TIME).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, time: Duration) -> Result<T, Error> {
        self.ask_with(method, path, Bytes::new(), time).await
    }

    async fn ask_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        time: Duration,
    ) -> Result<T, Error> {
        let body = self.answer(method, path, body, time).await?;
        serde_json::from_slice(&body).map_err(|error| Error::Version(error.to_string()))
    }

    /// An answer that is no JSON.
    async fn octets(&self, path: &str, time: Duration) -> Result<Vec<u8>, Error> {
        self.answer(Method::GET, path, Bytes::new(), time).await.map(Into::into)
    }

    async fn answer(&self, method: Method, path: &str, body: Bytes, time: Duration) -> Result<Bytes, Error> {
        let answer = tokio::time::timeout(time, self.exchange(method, path, body));
        let (status, body) = answer.await.map_err(|_| Error::Timeout(time))??;
        if status.is_success() {
            return Ok(body);
        }
        let problem = serde_json::from_slice(&body).map_err(|_| {
            Error::Broken(format!("status {status}, and no explanation in version {VERSION}"))
        })?;
        Err(Error::Refused(problem))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), Error> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| self.explain(error))?;
        let broken = |error: hyper::Error| Error::Broken(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "gateway")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Error::Broken(error.to_string()))?;
        // The connection is driven beside the request, and dropped with it.
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LENGTH).collect().await;
            Ok((status, body.map_err(|error| Error::Broken(error.to_string()))?.to_bytes()))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection's own end says less than the request's.
            _ = connection => answer.await,
        }
    }

    fn explain(&self, error: io::Error) -> Error {
        let path = self.path.clone();
        let kind = error.kind();
        if kind == io::ErrorKind::NotFound {
            Error::NoSocket(path)
        } else if kind == io::ErrorKind::ConnectionRefused {
            Error::NotRunning(path)
        } else if kind == io::ErrorKind::PermissionDenied {
            Error::NoPermission { hint: who_may(&path), path }
        } else {
            Error::Io { path, error }
        }
    }
}

/// Who may connect to the socket, as far as its file tells.
fn who_may(path: &Path) -> String {
    let group = path.metadata().ok().filter(|file| file.gid() != 0);
    let group = group.and_then(|file| Group::from_gid(Gid::from_raw(file.gid())).ok().flatten());
    match group {
        Some(group) => format!("run it as root, or as a member of the group `{}`", group.name),
        None => "run it as root, or let `control.group` in the configuration name a group that you belong to"
            .to_owned(),
    }
}
