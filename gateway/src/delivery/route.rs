//! From answers of the DNS to servers, in the order in which they are tried (RFC 5321 section 5.1).
//!
//! Owns what answers mean for mail. Looks nothing up, and draws no random numbers of its own.

mod order;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::destination::SMTP_PORT;
use crate::smtp::client::Report;

pub use order::{Preference, Random};

/// Mail exchangers of one domain that are looked at.
const MOST_EXCHANGERS: usize = 100;

/// How a look-up ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// With records.
    Found(Vec<T>),
    /// There are none of this type, or the name does not exist.
    Nothing,
    /// With nothing that lasts: no answer in time, or SERVFAIL.
    Again(String),
    /// With an error that will last.
    Failed(String),
    /// With something that cannot be understood, or the question cannot be asked.
    Malformed(String),
}

/// A mail exchanger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exchanger {
    /// The lower, the better.
    pub preference: u16,
    /// Its host name.
    pub host: String,
}

/// A mail exchanger whose addresses were looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The lower, the better.
    pub preference: u16,
    /// Its host name.
    pub host: String,
    /// Its addresses: [`addresses`].
    pub addresses: Result<Vec<IpAddr>, Report>,
}

/// A server that may take the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, as the domain's MX record or the operator has it.
    pub host: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its preference; 0 where there are no MX records.
    pub preference: u16,
    /// None is better.
    pub best: bool,
}

/// Where a destination's mail is brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The servers, first things first.
    pub servers: Vec<Server>,
    /// This gateway is one of the destination's mail exchangers: nobody else takes its mail but
    /// its betters.
    pub self_is_mx: bool,
}

/// Why there is no route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoute {
    /// What it means for the mail.
    pub failure: Report,
    /// This gateway is the best mail exchanger, or the host itself.
    pub self_is_mx: bool,
}

impl From<Report> for NoRoute {
    fn from(failure: Report) -> Self {
        Self { failure, self_is_mx: false }
    }
}

/// What the operator says of routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePolicy {
    /// Failed MX look-ups count as domains without MX (`ignore-mx-lookup-error`).
    pub ignore_mx_lookup_error: bool,
    /// Mail exchangers without addresses may get them later (`defer-if-no-mx-address-found`).
    pub defer_if_no_mx_address_found: bool,
    /// Equal servers are tried in random order (`randomize-addresses`).
    pub randomize: bool,
    /// The family that is tried first among equal servers (`address-preference`).
    pub preference: Preference,
    /// No family fills all places up to `address_limit` (`balance-inet-protocols`).
    pub balance: bool,
    /// Servers of a destination that are tried; 0: all (`mx-address-limit`).
    pub address_limit: usize,
    /// Addresses of this gateway, its translated ones among them (`inet-interfaces`, `proxy-interfaces`).
    pub own: BTreeSet<IpAddr>,
}

impl Default for RoutePolicy {
    fn default() -> Self {
        Self {
            ignore_mx_lookup_error: false,
            defer_if_no_mx_address_found: false,
            randomize: true,
            preference: Preference::Any,
            balance: true,
            address_limit: 5,
            own: BTreeSet::new(),
        }
    }
}

/// The mail exchangers of `domain`: those of its MX records, else the domain itself.
///
/// # Errors
///
/// The domain takes no mail (RFC 7505), or nobody knows.
pub fn exchangers(
    domain: &str,
    answer: Answer<Exchanger>,
    policy: &RoutePolicy,
) -> Result<Vec<Exchanger>, Report> {
    let itself = || vec![Exchanger { preference: 0, host: domain.to_owned() }];
    let failure = match answer {
        Answer::Found(mut found) => {
            // A root label among others stands for nothing that could be looked up.
            found.retain(|exchanger| !exchanger.host.trim_end_matches('.').is_empty());
            if found.is_empty() {
                let reason = format!("Domain {domain} does not accept mail (nullMX)");
                return Err(Report::permanent(1, 0, reason));
            }
            found.sort();
            found.dedup();
            found.truncate(MOST_EXCHANGERS);
            return Ok(found);
        }
        Answer::Nothing => return Ok(itself()),
        Answer::Again(reason) => Report::transient(4, 3, not_found(domain, "MX", &reason)),
        Answer::Failed(reason) => Report::permanent(4, 3, not_found(domain, "MX", &reason)),
        Answer::Malformed(reason) => Report::permanent(4, 4, not_found(domain, "MX", &reason)),
    };
    if policy.ignore_mx_lookup_error { Ok(itself()) } else { Err(failure) }
}

/// The addresses of `host`; a family that was not asked for is `None`.
///
/// # Errors
///
/// It has none. While one family may have some later, that is not for good.
pub fn addresses(
    host: &str,
    ipv4: Option<Answer<Ipv4Addr>>,
    ipv6: Option<Answer<Ipv6Addr>>,
) -> Result<Vec<IpAddr>, Report> {
    let ipv4 = ipv4.map(|answer| one_family(host, "A", answer));
    let ipv6 = ipv6.map(|answer| one_family(host, "AAAA", answer));
    match (ipv4, ipv6) {
        (None, None) => Err(Report::transient(4, 4, "no address family is enabled")),
        (Some(one), None) | (None, Some(one)) => one,
        (Some(Ok(mut ipv4)), Some(Ok(ipv6))) => {
            ipv4.extend(ipv6);
            Ok(ipv4)
        }
        (Some(Ok(found)), Some(Err(_))) | (Some(Err(_)), Some(Ok(found))) => Ok(found),
        (Some(Err(ipv4)), Some(Err(ipv6))) => Err(ipv4.or_temporary(ipv6)),
    }
}

fn one_family<A: Into<IpAddr>>(host: &str, kind: &str, answer: Answer<A>) -> Result<Vec<IpAddr>, Report> {
    match answer {
        Answer::Found(found) if !found.is_empty() => Ok(found.into_iter().map(Into::into).collect()),
        Answer::Found(_) | Answer::Nothing => {
            Err(Report::permanent(4, 4, not_found(host, kind, "Host not found")))
        }
        Answer::Again(reason) => Err(Report::transient(4, 3, not_found(host, kind, &reason))),
        Answer::Failed(reason) => Err(Report::permanent(4, 3, not_found(host, kind, &reason))),
        Answer::Malformed(reason) => Err(Report::permanent(4, 4, not_found(host, kind, &reason))),
    }
}

fn not_found(name: &str, kind: &str, reason: &str) -> String {
    format!("Host or domain name not found. Name service error for name={name} type={kind}: {reason}")
}

/// The route to a domain whose mail exchangers are `hosts`.
///
/// # Errors
///
/// None of them has an address, or this gateway is the best of them.
pub fn to_domain(
    domain: &str,
    port: u16,
    hosts: Vec<Resolved>,
    policy: &RoutePolicy,
    random: &mut Random<'_>,
) -> Result<Route, NoRoute> {
    let listed = hosts.iter().map(|host| host.preference).min();
    let mut failure: Option<Report> = None;
    let mut servers = Vec::new();
    for Resolved { preference, host, addresses } in hosts {
        match addresses {
            Ok(addresses) => servers.extend(addresses.into_iter().map(|address| Server {
                host: host.clone(),
                address,
                port,
                preference,
                best: Some(preference) == listed,
            })),
            Err(new) => failure = Some(failure.map_or(new.clone(), |before| before.or_temporary(new))),
        }
    }
    if servers.is_empty() {
        let failure = failure.unwrap_or_else(|| {
            Report::permanent(4, 4, format!("no MX host for {domain} has a valid address record"))
        });
        let defer = policy.defer_if_no_mx_address_found;
        return Err(if defer { failure.softened() } else { failure }.into());
    }
    let resolvable = servers.iter().map(|server| server.preference).min();
    let own = servers.iter().filter(|server| is_own(server, policy)).map(|server| server.preference).min();
    if let Some(own) = own {
        servers.retain(|server| server.preference < own);
        if servers.is_empty() {
            // With its betters unresolvable, to bounce would be to believe a failed look-up.
            let failure = if resolvable == listed {
                loops_back(domain)
            } else {
                Report::transient(4, 4, format!("unable to find primary relay for {domain}"))
            };
            return Err(NoRoute { failure, self_is_mx: true });
        }
    }
    order::sort(&mut servers, policy, random);
    order::limit(&mut servers, policy);
    Ok(Route { servers, self_is_mx: own.is_some() })
}

/// The route to a host with these addresses.
///
/// # Errors
///
/// It has none, or it is this gateway.
pub fn to_host(
    host: &str,
    port: u16,
    addresses: Result<Vec<IpAddr>, Report>,
    policy: &RoutePolicy,
    random: &mut Random<'_>,
) -> Result<Route, NoRoute> {
    let server = |address| Server { host: host.to_owned(), address, port, preference: 0, best: true };
    let mut servers: Vec<_> = addresses?.into_iter().map(server).collect();
    if servers.iter().any(|server| is_own(server, policy)) {
        return Err(NoRoute { failure: loops_back(host), self_is_mx: true });
    }
    order::sort(&mut servers, policy, random);
    order::limit(&mut servers, policy);
    Ok(Route { servers, self_is_mx: false })
}

fn loops_back(name: &str) -> Report {
    Report::permanent(4, 6, format!("mail for {name} loops back to myself"))
}

/// Whether mail would come back here: on another port than SMTP's, another program listens.
fn is_own(server: &Server, policy: &RoutePolicy) -> bool {
    let address = server.address.to_canonical();
    // Who connects to the unspecified address reaches his own host.
    server.port == SMTP_PORT && (address.is_unspecified() || policy.own.contains(&address))
}
