//! One connection to one server: sockets, TLS and time around [`smtp::client`](crate::smtp::client).
//!
//! Owns when octets move. Decides nothing: what a reply means is the client's, which server comes next and how
//! long a connection is kept is the caller's.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

mod remote;
mod stream;

pub use remote::{Remote, is_here};
use remote::{connected, is_lack, spoken};
use stream::{Moved, Stream};

use crate::clock;
use crate::smtp::client::{
    Action, Client, Delivery, DeliveryDone, Failure, FailureKind, Features, Note, Outcome, Peer, Report,
    Rules, Stage, Status, Terms, TlsFacts,
};
use crate::smtp::transcript::Transcript;

/// How long the end of a TLS session may take to be written.
const FAREWELL: Duration = Duration::from_secs(1);

/// TLS, where it may be used: [`TlsClient::config`](super::tls::TlsClient::config).
#[derive(Clone, Debug)]
pub struct Tls {
    /// The settings.
    pub config: Arc<ClientConfig>,
    /// The name that is asked for, if any.
    pub server_name: Option<String>,
    /// The connection may be kept for further mail (`connection_reuse`).
    pub reusable: bool,
}

/// A server, and how it is spoken with.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub remote: Remote,
    /// What holds for all servers.
    pub rules: Arc<Rules>,
    /// What holds for this one.
    pub terms: Terms,
    /// `None` where TLS is not used at all. Where [`Terms::tls`] wants it nevertheless, the handshake fails.
    pub tls: Option<Tls>,
    /// What the log says of it.
    pub detail: Detail,
}

/// What the log says of a connection at its usual level; the rest is for those who look at details.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// TLS handshakes that were made (`tls-loglevel`).
    pub handshakes: bool,
    /// Offers of STARTTLS that were not taken up (`tls-note-starttls-offer`).
    pub offers: bool,
    /// Whatever is odd.
    pub notes: bool,
    /// Each step (`debug-peer-list`).
    pub stages: bool,
}

/// Where the text of a message comes from.
pub trait Text: Send {
    /// The server wants it; in 7-bit lines only, when `downgrade`.
    fn begin(&mut self, downgrade: bool);

    /// The next stretch; `None` behind the last. An error ends the delivery with that report.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Report>> + Send;
}

/// No text: for probes, and for what is no delivery.
#[derive(Clone, Copy, Debug)]
pub struct NoText;

impl Text for NoText {
    fn begin(&mut self, _downgrade: bool) {}

    async fn next(&mut self) -> Result<Option<Bytes>, Report> {
        Ok(None)
    }
}

/// What there is to know of a TLS session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// `TLSv1_3`.
    pub version: String,
    /// `TLS13_AES_256_GCM_SHA384`.
    pub suite: String,
}

impl fmt::Display for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with cipher {}", self.version, self.suite)
    }
}

/// A server that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Why.
    pub failure: Failure,
    /// What was said, if that is written down.
    pub transcript: Option<Transcript>,
}

/// A connection that is ready for mail, or was.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    stream: Option<Stream>,
    tls: Option<Tls>,
    session: Option<TlsSession>,
    opened: Instant,
    deliveries: u32,
    detail: Detail,
    /// The step that was told last.
    told: Option<Stage>,
}

impl Connection {
    /// Connects, up to where mail can be sent.
    ///
    /// # Errors
    ///
    /// This server cannot be used.
    pub async fn open(target: Target) -> Result<Self, Box<Unusable>> {
        let opened = clock::now();
        let client = Client::new(target.rules, target.terms, opened);
        let mut connection = Self {
            client,
            stream: None,
            tls: target.tls,
            session: None,
            opened: opened.into(),
            deliveries: 0,
            detail: target.detail,
            told: None,
        };
        connection.connect(&target.remote).await;
        match connection.until_ready().await {
            Ok(()) => Ok(connection),
            Err(failure) => {
                let transcript = connection.transcript().cloned();
                Err(Box::new(Unusable { failure, transcript }))
            }
        }
    }

    /// Asks the server whether it still listens. To be called before a connection that has been idle is used.
    ///
    /// # Errors
    ///
    /// It does not: another connection is needed.
    pub async fn check(&mut self) -> Result<(), Failure> {
        self.client.check(clock::now());
        self.until_ready().await
    }

    /// Delivers a message; `settled` is told the place and the outcome of each recipient, once.
    pub async fn deliver<T: Text>(
        &mut self,
        delivery: Delivery,
        text: &mut T,
        mut settled: impl FnMut(usize, Outcome) + Send,
    ) -> DeliveryDone {
        self.deliveries = self.deliveries.saturating_add(1);
        self.client.deliver(delivery, clock::now());
        loop {
            match self.next(text).await {
                Some(Action::Settled { recipient, outcome }) => settled(recipient, outcome),
                Some(Action::Done(done)) => return done,
                Some(_) => {}
                None => {
                    let end = clock::now();
                    return DeliveryDone { mail: None, end, dsn: false, broken: true, reusable: false };
                }
            }
        }
    }

    /// Ends the connection politely.
    pub async fn quit(mut self) {
        self.client.quit(clock::now());
        while self.next(&mut NoText).await.is_some() {}
    }

    /// The server.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.client.terms().peer
    }

    /// What the server can do.
    #[must_use]
    pub const fn features(&self) -> &Features {
        self.client.features()
    }

    /// What was said, if that is written down.
    #[must_use]
    pub const fn transcript(&self) -> Option<&Transcript> {
        self.client.transcript()
    }

    /// The TLS session, if there is one.
    #[must_use]
    pub const fn tls(&self) -> Option<&TlsSession> {
        self.session.as_ref()
    }

    /// When connecting began (`connection-reuse-time-limit`).
    #[must_use]
    pub const fn opened(&self) -> Instant {
        self.opened
    }

    /// How many deliveries were made or begun (`conn_use`).
    #[must_use]
    pub const fn deliveries(&self) -> u32 {
        self.deliveries
    }

    async fn connect(&mut self, remote: &Remote) {
        let deadline = self.client.deadline().map(Instant::from_std);
        let connected = match deadline {
            Some(deadline) => timeout_at(deadline, connected(remote)).await,
            None => Ok(connected(remote).await),
        };
        match connected {
            Ok(Ok(stream)) => {
                self.stream = Some(stream);
                self.client.connected(clock::now());
            }
            Ok(Err(error)) if is_lack(&error) => self.client.connect_lacking(&spoken(&error), clock::now()),
            Ok(Err(error)) => self.client.connect_failed(&spoken(&error), clock::now()),
            Err(_) => self.client.timeout(clock::now()),
        }
    }

    async fn until_ready(&mut self) -> Result<(), Failure> {
        let mut failed = None;
        loop {
            match self.next(&mut NoText).await {
                Some(Action::Ready) => return Ok(()),
                Some(Action::Failed(failure)) => failed = Some(failure),
                Some(_) => {}
                None => return Err(failed.unwrap_or_else(|| self.gone())),
            }
        }
    }

    /// The connection had ended before it was used.
    fn gone(&self) -> Failure {
        let reason = format!("lost connection with {} while it was idle", self.peer().host());
        Failure { report: Report::new(Status::transient(4, 2), reason), kind: FailureKind::Broken }
    }

    /// The next thing that concerns the caller; `None` when the connection has ended and nothing is left to say.
    async fn next<T: Text>(&mut self, text: &mut T) -> Option<Action> {
        loop {
            self.tell_stage();
            match self.client.poll_action() {
                Some(Action::StartTls) => self.start_tls().await,
                Some(Action::Content { downgrade }) => text.begin(downgrade),
                Some(Action::Note(note)) => self.tell(&note),
                Some(Action::Close) => self.close().await,
                Some(action) => return Some(action),
                None if self.client.wants_content() => self.feed(text).await,
                None if self.stream.is_none() => return None,
                None => self.exchange().await,
            }
        }
    }

    async fn feed<T: Text>(&mut self, text: &mut T) {
        match text.next().await {
            Ok(Some(octets)) => self.client.content(&octets, clock::now()),
            Ok(None) => self.client.content_ended(clock::now()),
            Err(report) => self.client.content_failed(report, clock::now()),
        }
    }

    /// Moves octets, in whichever direction can move first.
    async fn exchange(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let deadline = self.client.deadline().map(Instant::from_std);
        let moved = stream.move_octets(self.client.output());
        let moved = match deadline {
            Some(deadline) => timeout_at(deadline, moved).await,
            None => Ok(moved.await),
        };
        let now = clock::now();
        match moved {
            Ok(Moved::Out(octets)) => self.client.sent(octets, now),
            Ok(Moved::In) => {
                stream.take_received(self.client.buffer());
                self.client.received(now);
            }
            Ok(Moved::Ended) => self.client.ended(now),
            Err(_) => self.client.timeout(now),
        }
    }

    async fn start_tls(&mut self) {
        let Some((stream, tls)) = self.stream.take().zip(self.tls.as_ref()) else {
            return self.client.tls_failed("TLS is not set up", clock::now());
        };
        let name = match &tls.server_name {
            Some(name) => ServerName::try_from(name.clone()).map_err(io::Error::other),
            // It is the key of sessions that may be resumed, and goes nowhere.
            None => Ok(server_key(self.peer())),
        };
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let handshake = async { Stream::secured(connector, name?, stream).await };
        let deadline = self.client.deadline().map(Instant::from_std);
        let secured = match deadline {
            Some(deadline) => timeout_at(deadline, handshake).await,
            None => Ok(handshake.await),
        };
        match secured {
            Ok(Ok((stream, session))) => {
                if self.detail.handshakes {
                    let server = self.peer();
                    tracing::info!(%server, %session, level = ?self.client.terms().tls, "TLS connection established");
                }
                self.stream = Some(stream);
                self.session = Some(session);
                // At these levels the handshake fails when the certificate is not what was demanded.
                let matched = self.client.terms().tls.needs_match();
                self.client.tls_done(TlsFacts { matched }, clock::now());
            }
            Ok(Err(error)) => self.client.tls_failed(&spoken(&error), clock::now()),
            Err(_) => self.client.timeout(clock::now()),
        }
    }

    async fn close(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            // Nobody waits for it.
            timeout(FAREWELL, stream.shutdown()).await.map(drop).unwrap_or_default();
        }
    }

    fn tell(&self, note: &Note) {
        let server = self.peer();
        if self.detail.notes || (self.detail.offers && *note == Note::StartTlsOffered) {
            tracing::info!(%server, ?note, "note on a delivery");
        } else {
            tracing::debug!(%server, ?note, "note on a delivery");
        }
    }

    fn tell_stage(&mut self) {
        let stage = self.client.stage();
        if self.detail.stages && self.told.replace(stage) != Some(stage) {
            let server = self.peer();
            tracing::info!(%server, ?stage, "step of a delivery");
        }
    }
}

/// A name for a server that is asked for none.
fn server_key(peer: &Peer) -> ServerName<'static> {
    let address = peer.address.parse::<IpAddr>().ok().map(ServerName::from);
    address.or_else(|| ServerName::try_from(peer.name.clone()).ok()).unwrap_or_else(|| {
        // Servers behind UNIX sockets whose name is none in the DNS.
        ServerName::from(IpAddr::from([127, 0, 0, 1]))
    })
}
