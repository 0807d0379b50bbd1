//! All that deliveries are made with, resolved from the configuration, and how one server is spoken with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::attempt::AttemptPolicy;
use super::connection::{Remote, Target, Tls};
use super::lookup::LookupPolicy;
use super::office::Reports;
use super::rewrite::Rewriting;
use super::route::{RoutePolicy, Server};
use super::settings::Settings;
use super::tls::{TlsClient, TlsPolicy};
use crate::queue::schedule::{Limits, Retry};
use crate::smtp::client::{Discard, Peer, PixWorkarounds, Protocol, Report, Rules, Status, Terms, TlsLevel};

/// Deliveries at once (`default_process_limit` of Postfix).
pub const PLACES: u32 = 100;

/// What holds for all deliveries by one of the two protocols.
#[derive(Clone, Debug)]
pub struct Transport {
    /// How servers are spoken to.
    pub rules: Arc<Rules>,
    /// How they are found.
    pub lookup: LookupPolicy,
    /// In which order they are tried.
    pub route: RoutePolicy,
    /// How many of them.
    pub attempt: AttemptPolicy,
    /// What a destination can bear.
    pub limits: Arc<Limits>,
    /// What is done to messages on the way.
    pub rewriting: Rewriting,
    /// Certificates and sessions.
    pub tls: Arc<TlsClient>,
    /// What is demanded of servers.
    pub tls_policy: TlsPolicy,
    /// The address that is connected from, by family.
    pub source: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// Reports on success say that LMTP servers have delivered (`lmtp-assume-final`).
    pub assume_final: bool,
}

impl Transport {
    /// What the configuration says; `tls` and `tls_policy` say what is demanded of servers.
    #[must_use]
    pub fn new(settings: Settings, tls: Arc<TlsClient>, tls_policy: TlsPolicy) -> Self {
        let Settings { rules, lookup, route, attempt, limits, mime, .. } = settings;
        Self {
            rules: Arc::new(rules),
            lookup,
            route,
            attempt,
            limits: Arc::new(limits),
            rewriting: Rewriting { limits: mime, ..Rewriting::default() },
            tls,
            tls_policy,
            source: (None, None),
            assume_final: false,
        }
    }

    /// How a server of `next_hop` is spoken with.
    ///
    /// # Errors
    ///
    /// It cannot be, as the configuration stands.
    pub(super) fn target(&self, place: &Place, next_hop: &str) -> Result<Target, Report> {
        let peer = place.peer();
        let level = self.tls_policy.level;
        let tls = if level == TlsLevel::None {
            None
        } else {
            let config = self.tls.config(&self.tls_policy, &peer.name, next_hop);
            let config = config.map_err(|error| {
                Report::new(Status::transient(7, 5), format!("TLS cannot be set up for {next_hop}: {error}"))
            })?;
            Some(Tls { config, server_name: self.tls_policy.server_name.clone() })
        };
        let terms = Terms {
            next_hop: next_hop.to_owned(),
            detect_loop: place.is_smtp_port(),
            best_mx: place.is_best(),
            discard: Discard::default(),
            pix: PixWorkarounds::default(),
            tls: level,
            tls_wrapper: false,
            login: None,
            peer,
        };
        Ok(Target { remote: self.remote(place), rules: Arc::clone(&self.rules), terms, tls })
    }

    fn remote(&self, place: &Place) -> Remote {
        match place {
            Place::Socket { path, .. } => Remote::Unix(path.clone()),
            Place::Server(server) => {
                let (ipv4, ipv6) = self.source;
                let source =
                    if server.address.is_ipv4() { ipv4.map(IpAddr::from) } else { ipv6.map(IpAddr::from) };
                let address = SocketAddr::new(server.address, server.port);
                Remote::Tcp { address, source, must_bind: false, window: None }
            }
        }
    }
}

/// Where a server is, and what its destination says of it.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Behind TCP.
    Server(Server),
    /// Behind a UNIX socket of this host.
    Socket {
        /// This host.
        host: String,
        /// The socket.
        path: PathBuf,
    },
}

impl Place {
    fn peer(&self) -> Peer {
        match self {
            Self::Server(server) => Peer {
                name: server.host.clone(),
                address: server.address.to_string(),
                port: Some(server.port),
            },
            Self::Socket { host, path } => {
                Peer { name: host.clone(), address: path.display().to_string(), port: None }
            }
        }
    }

    fn is_smtp_port(&self) -> bool {
        matches!(self, Self::Server(server) if server.port == super::destination::SMTP_PORT)
    }

    const fn is_best(&self) -> bool {
        matches!(self, Self::Server(server) if server.best)
    }
}

/// What all deliveries are made with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The gateway's name.
    pub name: String,
    /// For SMTP.
    pub smtp: Transport,
    /// For LMTP.
    pub lmtp: Transport,
    /// When mail is tried again.
    pub retry: Retry,
    /// What is told of mail, and to whom.
    pub reports: Reports,
    /// Digits behind the point of delays (`delay-logging-resolution-limit`).
    pub digits: u32,
}

impl Setup {
    /// What holds for that protocol.
    #[must_use]
    pub const fn transport(&self, protocol: Protocol) -> &Transport {
        match protocol {
            Protocol::Smtp => &self.smtp,
            Protocol::Lmtp => &self.lmtp,
        }
    }
}
