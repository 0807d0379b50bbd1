//! Lookups in the DNS.
//!
//! Owns servers, attempts, deadlines, the cache and how many lookups run at once; the only user of
//! `hickory-resolver`. What answers mean is for others to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::file::Dns;

/// Why there are no resolvers to ask.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The system's list cannot be used.
    #[error("/etc/resolv.conf: {0}; write `dns.servers`")]
    System(NetError),
    /// The system's list is empty.
    #[error("/etc/resolv.conf names no server; write `dns.servers`")]
    NoServers,
    /// The library does not take the configuration.
    #[error("the resolver cannot be set up: {0}")]
    Library(NetError),
}

/// Why a lookup has no answer, not even that there is none.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The name is too long or holds what names cannot hold.
    #[error("not a domain name")]
    Name,
    /// The deadline has passed.
    #[error("no answer in time")]
    Deadline,
    /// No server gave an answer, or the answer was SERVFAIL, REFUSED and the like.
    #[error("{0}")]
    Failed(NetError),
}

/// What a failed lookup means for who asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It may succeed later.
    Temporary,
    /// The servers answer such questions with an error.
    Permanent,
    /// Question or answer make no sense.
    Malformed,
}

impl LookupError {
    /// What it means for who asks again. A server that does not serve the asker (REFUSED), or not in this
    /// way (NOTIMP), is as good as none, which may change.
    #[must_use]
    pub const fn trouble(&self) -> Trouble {
        match self {
            Self::Name | Self::Failed(NetError::Proto(_)) => Trouble::Malformed,
            Self::Failed(NetError::Dns(DnsError::ResponseCode(code)))
                if !matches!(code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp) =>
            {
                Trouble::Permanent
            }
            Self::Deadline | Self::Failed(_) => Trouble::Temporary,
        }
    }
}

/// How a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With records.
    Found,
    /// The name has no such record, or does not exist.
    Nothing,
    /// It failed.
    Failed,
    /// It did not end in time.
    Deadline,
}

impl Outcome {
    /// All of them, by discriminant.
    pub const ALL: [Self; 4] = [Self::Found, Self::Nothing, Self::Failed, Self::Deadline];

    /// One word for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Nothing => "nothing",
            Self::Failed => "failed",
            Self::Deadline => "deadline",
        }
    }

    /// The outcome of a lookup that gave these records.
    #[must_use]
    pub const fn of<T>(result: &Result<Vec<T>, LookupError>) -> Self {
        match result {
            Ok(records) if records.is_empty() => Self::Nothing,
            Ok(_) => Self::Found,
            Err(LookupError::Deadline) => Self::Deadline,
            Err(LookupError::Name | LookupError::Failed(_)) => Self::Failed,
        }
    }
}

/// Looks names up, and remembers the answers.
#[derive(Debug)]
pub struct Resolver {
    resolver: TokioResolver,
    /// Places for lookups that run.
    places: Semaphore,
}

impl Resolver {
    /// A resolver with an empty cache; only inside a runtime.
    ///
    /// # Errors
    ///
    /// When there is no server to ask.
    pub fn new(dns: &Dns) -> Result<Self, SetupError> {
        let config = if dns.servers.is_empty() {
            read_system_conf().map_err(SetupError::System)?.0
        } else {
            let servers = dns.servers.iter().map(|server| {
                let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
                    let mut connection = ConnectionConfig::new(protocol);
                    connection.port = server.port();
                    connection
                });
                NameServerConfig::new(server.ip(), true, connections.into())
            });
            ResolverConfig::from_parts(None, Vec::new(), servers.collect())
        };
        if config.name_servers().is_empty() {
            return Err(SetupError::NoServers);
        }
        let mut options = ResolverOpts::default();
        options.timeout = dns.timeout.duration();
        options.attempts = dns.attempts;
        options.cache_size = dns.cache;
        options.use_hosts_file = ResolveHosts::Never;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let builder = builder.with_options(options).with_tls_config(trusts_nobody()?);
        let resolver = builder.build().map_err(SetupError::Library)?;
        Ok(Self { resolver, places: Semaphore::new(dns.concurrency) })
    }

    /// The IPv4 addresses of `name`; none when it has none or does not exist (A, RFC 1035 section
    /// 3.4.1).
    ///
    /// # Errors
    ///
    /// When nothing is known after `deadline`.
    pub async fn ipv4(&self, name: &str, deadline: Duration) -> Result<Vec<Ipv4Addr>, LookupError> {
        let address = |data: RData| if let RData::A(address) = data { Some(address.0) } else { None };
        self.records(parse(name)?, RecordType::A, deadline, address).await
    }

    /// The IPv6 addresses of `name` (AAAA, RFC 3596 section 2.2).
    ///
    /// # Errors
    ///
    /// As [`Self::ipv4`].
    pub async fn ipv6(&self, name: &str, deadline: Duration) -> Result<Vec<Ipv6Addr>, LookupError> {
        let address = |data: RData| if let RData::AAAA(address) = data { Some(address.0) } else { None };
        self.records(parse(name)?, RecordType::AAAA, deadline, address).await
    }

    /// The texts of `name`, each with its strings joined (TXT, RFC 1035 section 3.3.14; joined as by
    /// RFC 7208 section 3.3).
    ///
    /// # Errors
    ///
    /// As [`Self::ipv4`].
    pub async fn texts(&self, name: &str, deadline: Duration) -> Result<Vec<Vec<u8>>, LookupError> {
        let text =
            |data: RData| if let RData::TXT(text) = data { Some(text.txt_data.concat()) } else { None };
        self.records(parse(name)?, RecordType::TXT, deadline, text).await
    }

    /// The hosts that take mail for `name` with their preferences, the most wanted first (MX, RFC 5321
    /// section 5.1).
    ///
    /// # Errors
    ///
    /// As [`Self::ipv4`].
    pub async fn mail_hosts(
        &self,
        name: &str,
        deadline: Duration,
    ) -> Result<Vec<(u16, String)>, LookupError> {
        let host = |data: RData| {
            if let RData::MX(mx) = data { Some((mx.preference, mx.exchange.to_ascii())) } else { None }
        };
        let mut hosts = self.records(parse(name)?, RecordType::MX, deadline, host).await?;
        hosts.sort();
        Ok(hosts)
    }

    /// The names that `address` says it has (PTR, RFC 1035 section 3.3.12).
    ///
    /// # Errors
    ///
    /// As [`Self::ipv4`].
    pub async fn names(&self, address: IpAddr, deadline: Duration) -> Result<Vec<String>, LookupError> {
        let name = |data: RData| if let RData::PTR(name) = data { Some(name.0.to_ascii()) } else { None };
        self.records(Name::from(address), RecordType::PTR, deadline, name).await
    }

    async fn records<T>(
        &self,
        mut name: Name,
        kind: RecordType,
        deadline: Duration,
        read: impl Fn(RData) -> Option<T>,
    ) -> Result<Vec<T>, LookupError> {
        // Whole as it stands: no domain of `/etc/resolv.conf` is put behind it.
        name.set_fqdn(true);
        let lookup = async {
            let _place = self.places.acquire().await;
            self.resolver.lookup(name, kind).await
        };
        match timeout(deadline, lookup).await {
            Err(_) => Err(LookupError::Deadline),
            Ok(Err(error)) if error.is_no_records_found() => Ok(Vec::new()),
            Ok(Err(error)) => Err(LookupError::Failed(error)),
            Ok(Ok(answer)) => {
                Ok(answer.answers().iter().filter_map(|record| read(record.data.clone())).collect())
            }
        }
    }
}

/// No server is asked over TLS, which the library has because `mail-auth` wants it so. Left to itself it
/// would read all certificates of the system for it.
fn trusts_nobody() -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| SetupError::Library(error.into()))?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// Longest text of a stranger that is shown: with the gateway's own words it still fits into a reply
/// line (RFC 5321 section 4.5.3.1.5).
const LONGEST_SHOWN: usize = 160;

/// What of a stranger's text may stand in a reply: without anything but printable ASCII it changes no
/// reply, log or terminal. None where nothing may.
#[must_use]
pub fn shown(text: &[u8]) -> Option<String> {
    let text = text.trim_ascii();
    let printable = text.iter().all(|octet| *octet == b' ' || octet.is_ascii_graphic());
    let shown = text.iter().take(LONGEST_SHOWN).map(|octet| char::from(*octet)).collect::<String>();
    (printable && !shown.is_empty()).then_some(shown)
}

fn parse(name: &str) -> Result<Name, LookupError> {
    Name::from_ascii(name).map_err(|_| LookupError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_is_shown_and_not_too_much_of_it() {
        assert_eq!(shown(b" See http://a.example/why "), Some("See http://a.example/why".to_owned()));
        for text in ["", "  ", "two\r\nlines", "\x1b[31mred", "caf\u{e9}", "a\0b", "a\x7fb", "\u{202e}gpj"] {
            assert_eq!(shown(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(shown(&[b'x'; 1000]), Some("x".repeat(LONGEST_SHOWN)));
    }
}
