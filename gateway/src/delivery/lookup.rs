//! Destinations looked up: the only module of this half that asks the DNS.
//!
//! Owns which questions are asked, and how many at once. What answers mean is said in [`super::route`].

use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::destination::Destination;
use super::route::{self, Answer, Exchanger, NoRoute, Random, Resolved, Route, RoutePolicy};
use crate::dns::{LookupError, Resolver, Trouble};
use crate::smtp::client::Report;

/// Mail exchangers of one domain that are looked up at the same time.
const AT_ONCE: usize = 8;

/// How names are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupPolicy {
    /// Mail exchangers are looked up (`disable-dns-lookups`).
    pub mx: bool,
    /// Hosts are looked up in the DNS (`disable-dns-lookups`, `host-lookup`).
    pub dns: bool,
    /// Hosts that the DNS does not have are looked for as the system does it (`host-lookup`).
    pub native: bool,
    /// IPv4 addresses are used (`inet-protocols`).
    pub ipv4: bool,
    /// IPv6 addresses are used (`inet-protocols`).
    pub ipv6: bool,
    /// How long one look-up may take.
    pub deadline: Duration,
}

impl Default for LookupPolicy {
    fn default() -> Self {
        Self { mx: true, dns: true, native: false, ipv4: true, ipv6: true, deadline: Duration::from_secs(30) }
    }
}

/// Where the mail of a destination is brought; a UNIX socket has no route.
///
/// # Errors
///
/// Nowhere, for this reason.
pub async fn route(
    resolver: &Resolver,
    destination: &Destination,
    lookup: LookupPolicy,
    policy: &RoutePolicy,
    random: &mut Random<'_>,
) -> Result<Route, NoRoute> {
    match destination {
        Destination::Domain { domain, port } if lookup.mx => {
            let answer = answer(resolver.mail_hosts(domain, lookup.deadline).await);
            let answer = match answer {
                Answer::Found(found) => Answer::Found(found.into_iter().map(exchanger).collect()),
                Answer::Nothing => Answer::Nothing,
                Answer::Again(reason) => Answer::Again(reason),
                Answer::Failed(reason) => Answer::Failed(reason),
                Answer::Malformed(reason) => Answer::Malformed(reason),
            };
            let exchangers = route::exchangers(domain, answer, policy)?;
            let resolved = exchangers.into_iter().map(|Exchanger { preference, host }| async move {
                let addresses = addresses(resolver, &host, lookup).await;
                Resolved { preference, host, addresses }
            });
            let resolved = stream::iter(resolved).buffered(AT_ONCE).collect().await;
            route::to_domain(domain, *port, resolved, policy, random)
        }
        Destination::Domain { domain: host, port } | Destination::Host { host, port } => {
            route::to_host(host, *port, addresses(resolver, host, lookup).await, policy, random)
        }
        Destination::Address(address) => {
            let ip = address.ip();
            let enabled = if ip.is_ipv4() { lookup.ipv4 } else { lookup.ipv6 };
            let addresses = if enabled { Ok(vec![ip]) } else { route::addresses("", None, None) };
            route::to_host(&ip.to_string(), address.port(), addresses, policy, random)
        }
        Destination::Unix(path) => {
            let reason = format!("{} is a UNIX socket, which SMTP does not use", path.display());
            Err(Report::transient(3, 5, reason).into())
        }
    }
}

fn exchanger((preference, host): (u16, String)) -> Exchanger {
    // The root, which means that no mail is taken, is a name of its own.
    let host = host.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(&host).to_ascii_lowercase();
    Exchanger { preference, host }
}

async fn addresses(resolver: &Resolver, host: &str, lookup: LookupPolicy) -> Result<Vec<IpAddr>, Report> {
    // An MX record may name an address, though it should not: there is nothing to look up.
    if let Ok(address) = host.parse::<IpAddr>() {
        let enabled = if address.is_ipv4() { lookup.ipv4 } else { lookup.ipv6 };
        return if enabled { Ok(vec![address]) } else { route::addresses(host, None, None) };
    }
    let mut found = Err(Report::transient(3, 5, "no way to look hosts up is enabled"));
    if lookup.dns {
        let ipv4 = async {
            if lookup.ipv4 { Some(answer(resolver.ipv4(host, lookup.deadline).await)) } else { None }
        };
        let ipv6 = async {
            if lookup.ipv6 { Some(answer(resolver.ipv6(host, lookup.deadline).await)) } else { None }
        };
        let (ipv4, ipv6) = tokio::join!(ipv4, ipv6);
        found = route::addresses(host, ipv4, ipv6);
    }
    match found {
        Err(failure) if lookup.native => {
            let system = native(host, lookup).await;
            // What may come back is not forgotten because another source does not know it.
            system.map_err(|other| if lookup.dns { failure.or_temporary(other) } else { other })
        }
        found => found,
    }
}

/// Asks the system (getaddrinfo(3)): `/etc/hosts` and whatever nsswitch.conf(5) names.
async fn native(host: &str, lookup: LookupPolicy) -> Result<Vec<IpAddr>, Report> {
    let asked = tokio::time::timeout(lookup.deadline, tokio::net::lookup_host((host, 0))).await;
    let reason = match asked {
        Ok(Ok(found)) => {
            let usable = |ip: &IpAddr| if ip.is_ipv4() { lookup.ipv4 } else { lookup.ipv6 };
            let mut found: Vec<_> = found.map(|address| address.ip()).filter(usable).collect();
            found.dedup();
            if !found.is_empty() {
                return Ok(found);
            }
            "no usable address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    let text = format!("unable to look up host {host}: {reason}");
    // The library has no other way to tell that a name is unknown; everything else may pass.
    let unknown = ["not known", "No address associated", "no usable address"];
    Err(if unknown.iter().any(|word| reason.contains(word)) {
        Report::permanent(4, 4, text)
    } else {
        Report::transient(4, 4, text)
    })
}

fn answer<T>(result: Result<Vec<T>, LookupError>) -> Answer<T> {
    match result {
        Ok(found) if found.is_empty() => Answer::Nothing,
        Ok(found) => Answer::Found(found),
        Err(error) => {
            let reason = error.to_string();
            match error.trouble() {
                Trouble::Temporary => Answer::Again(reason),
                Trouble::Permanent => Answer::Failed(reason),
                Trouble::Malformed => Answer::Malformed(reason),
            }
        }
    }
}
