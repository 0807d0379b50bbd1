//! What holds for one server of one next hop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::Settings;
use crate::config::file::delivery::PixWorkaround;
use crate::delivery::connection::{Remote, Target, Tls};
use crate::delivery::destination::{Destination, SMTP_PORT};
use crate::delivery::password::{Passwords, Refusal, RefusedPasswords};
use crate::delivery::route::Server;
use crate::delivery::source::{Pools, Source, Wanted};
use crate::delivery::tls::{TlsPolicies, TlsPolicy};
use crate::smtp::client::sasl::Login;
use crate::smtp::client::{Discard, Peer, PixWorkarounds, Protocol, Report, Status, Terms, TlsLevel};
use crate::table::Maps;

/// A server that mail may be brought to.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'v> {
    /// The next hop that it serves.
    pub next_hop: &'v Destination,
    /// The server; `None` behind a UNIX socket.
    pub server: Option<&'v Server>,
    /// The sender of the mail, as it is told to the server.
    pub sender: &'v str,
    /// Octets that nobody can foretell.
    pub random: [u8; 18],
    /// The time.
    pub now: Instant,
    /// Whether this machine has an address.
    pub is_here: fn(IpAddr) -> bool,
}

/// What tables and keys say of servers.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) discard: Discard,
    pub(super) discard_maps: Maps,
    pub(super) pix: PixWorkarounds,
    pub(super) pix_maps: Maps,
    pub(super) policies: TlsPolicies,
    /// `None`: AUTH is not used.
    pub(super) passwords: Option<Passwords>,
    pub(super) refused: RefusedPasswords,
    /// The addresses that are connected from, by family.
    pub(super) source: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// What comes before them.
    pub(super) pools: Pools,
    pub(super) window: Option<u32>,
    /// The port in place of the protocol's own.
    pub(super) port: Option<u16>,
}

impl Settings {
    /// How a server is spoken with.
    ///
    /// # Errors
    ///
    /// It cannot be, as the configuration stands, or it has refused the gateway's password already.
    pub fn target(&self, visit: Visit<'_>) -> Result<Target, Report> {
        let Visit { next_hop, server, .. } = visit;
        let source = self.pooled(visit)?;
        let peer = self.peer(next_hop, server);
        // Nobody but this host is behind its sockets.
        let name = if server.is_some() { next_hop.name() } else { self.rules.hostname.clone() };
        let policy =
            self.policy(next_hop, &peer.name, &name).map_err(|reason| Report::new(TLS_TROUBLE, reason))?;
        let tls = if policy.level == TlsLevel::None {
            None
        } else {
            let config = self.tls.config(&policy, &peer.name, &name).map_err(|error| {
                Report::new(TLS_TROUBLE, format!("TLS cannot be set up for {next_hop}: {error}"))
            })?;
            Some(Tls { config, server_name: policy.server_name.clone(), reusable: policy.reusable })
        };
        let login = self.login(visit, &peer)?;
        let terms = Terms {
            next_hop: next_hop.to_string(),
            detect_loop: self.rules.protocol == Protocol::Smtp && peer.port == Some(SMTP_PORT),
            best_mx: server.is_some_and(|server| server.best),
            discard: self.discard(&peer),
            pix: self.pix(&peer),
            tls: policy.level,
            tls_wrapper: false,
            login,
            peer,
        };
        let detail = self.detail.of(next_hop, &terms.peer);
        Ok(Target {
            remote: self.remote(next_hop, server, source),
            rules: Arc::clone(source.map_or(&self.rules, |source| &source.rules)),
            terms,
            tls,
            detail,
        })
    }

    /// A server has refused a login with 535, and said so.
    pub fn password_refused(&self, host: &str, login: &Login, report: &Report, now: Instant) {
        let text = report.diagnostic.clone().unwrap_or_else(|| report.reason.clone());
        self.servers.refused.note(host, login, Refusal { status: report.status, text }, now);
    }

    fn peer(&self, next_hop: &Destination, server: Option<&Server>) -> Peer {
        match server {
            Some(server) => Peer {
                name: server.host.clone(),
                address: server.address.to_string(),
                port: Some(self.port(server.port)),
            },
            None => Peer { name: self.rules.hostname.clone(), address: next_hop.name(), port: None },
        }
    }

    fn port(&self, port: u16) -> u16 {
        self.servers.port.filter(|_| port == super::own_port(self.rules.protocol)).unwrap_or(port)
    }

    /// The address of a pool, where there is one for this mail.
    fn pooled(&self, visit: Visit<'_>) -> Result<Option<&Source>, Report> {
        let Some(server) = visit.server else { return Ok(None) };
        let destination = visit.next_hop.name();
        let wanted = Wanted { sender: visit.sender, destination: &destination, server: server.address };
        self.servers.pools.choose(wanted, visit.is_here)
    }

    fn remote(&self, next_hop: &Destination, server: Option<&Server>, pooled: Option<&Source>) -> Remote {
        let Some(server) = server else { return Remote::Unix(next_hop.name().into()) };
        let (ipv4, ipv6) = self.servers.source;
        let own = if server.address.is_ipv4() { ipv4.map(IpAddr::from) } else { ipv6.map(IpAddr::from) };
        let address = SocketAddr::new(server.address, self.port(server.port));
        let source = pooled.map(|source| source.address).or(own);
        Remote::Tcp { address, source, must_bind: pooled.is_some(), window: self.servers.window }
    }

    /// Addresses of pools.
    pub fn pooled_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.servers.pools.addresses()
    }

    fn policy(&self, next_hop: &Destination, host: &str, name: &str) -> Result<TlsPolicy, String> {
        let keys = next_hop.table_keys(self.rules.protocol);
        let found = self.servers.policies.find(&keys, host, name);
        let mut policy = found.map_err(|error| format!("{next_hop}: {error}"))?;
        // Who listens on a socket of this host may read memory as well.
        if matches!(next_hop, Destination::Unix(_)) && policy.level == TlsLevel::May {
            policy.level = TlsLevel::None;
        }
        Ok(policy)
    }

    fn login(&self, visit: Visit<'_>, peer: &Peer) -> Result<Option<Login>, Report> {
        let Some(passwords) = &self.servers.passwords else { return Ok(None) };
        let keys = visit.next_hop.table_keys(self.rules.protocol);
        let login = passwords.login(visit.sender, &peer.name, &keys, visit.random);
        let Some(login) = login else { return Ok(None) };
        let Some(Refusal { status, text }) = self.servers.refused.find(&peer.name, &login, visit.now) else {
            return Ok(Some(login));
        };
        let reason = format!("SASL [CACHED] authentication failed; server {} said: {text}", peer.host());
        let report = Report { diagnostic: Some(text), ..Report::new(status, reason) };
        Err(if self.rules.auth_soft_bounce { report.softened() } else { report })
    }

    fn discard(&self, peer: &Peer) -> Discard {
        match self.servers.discard_maps.text(&peer.address) {
            Some(words) => Discard::new(words.split([',', ' ', '\t']).filter(|word| !word.is_empty())),
            None => self.servers.discard.clone(),
        }
    }

    fn pix(&self, peer: &Peer) -> PixWorkarounds {
        match self.servers.pix_maps.text(&peer.address) {
            Some(words) => {
                let has = |workaround: PixWorkaround| {
                    words.split([',', ' ', '\t']).any(|word| word.eq_ignore_ascii_case(workaround.name()))
                };
                workarounds(has)
            }
            None => self.servers.pix,
        }
    }
}

pub(super) fn workarounds(has: impl Fn(PixWorkaround) -> bool) -> PixWorkarounds {
    PixWorkarounds {
        disable_esmtp: has(PixWorkaround::DisableEsmtp),
        delay_dotcrlf: has(PixWorkaround::DelayDotCrlf),
    }
}

/// Mail waits until the operator has put it right (RFC 3463: cryptographic failure).
const TLS_TROUBLE: Status = Status::transient(7, 5);
