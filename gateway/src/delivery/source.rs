//! Addresses that connections to servers come from, with their names.
//!
//! Owns which pool is for a mail, and which of its addresses is next. Pure: whether this machine has an address is an
//! argument.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ring::digest::{SHA256, digest};

use super::destination::host_name;
use crate::config::file::delivery::{DomainPattern, SourceChoice, SourcePool};
use crate::smtp::client::{Report, Rules, Status};

/// The operator's pools.
#[derive(Debug, Default)]
pub struct Pools {
    list: Vec<Pool>,
}

#[derive(Debug)]
struct Pool {
    senders: Vec<DomainPattern>,
    destinations: Vec<DomainPattern>,
    choose: SourceChoice,
    sources: Vec<Source>,
    /// For those that come one after the other.
    next: AtomicUsize,
}

/// An address, and how servers are spoken to from there.
#[derive(Clone, Debug)]
pub struct Source {
    /// The address.
    pub address: IpAddr,
    /// The rules of all servers, with its name in EHLO.
    pub rules: Arc<Rules>,
}

/// A connection that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'w> {
    /// The envelope's sender; empty for reports.
    pub sender: &'w str,
    /// The next hop's name.
    pub destination: &'w str,
    /// The server's address.
    pub server: IpAddr,
}

impl Pools {
    /// The pools of a section, for servers that are spoken to by `rules`.
    #[must_use]
    pub fn new(section: &[SourcePool], rules: &Rules) -> Self {
        let pools = section.iter().map(|pool| Pool {
            senders: pool.senders.clone(),
            destinations: pool.destinations.clone(),
            choose: pool.choose,
            sources: pool
                .addresses
                .iter()
                .map(|source| Source {
                    address: source.address,
                    rules: Arc::new(Rules { hello: source.helo_name.clone(), ..rules.clone() }),
                })
                .collect(),
            next: AtomicUsize::new(0),
        });
        Self { list: pools.collect() }
    }

    /// The address that a connection comes from; `None`: no pool is for it.
    ///
    /// # Errors
    ///
    /// The pool has none that can be used.
    pub fn choose(&self, wanted: Wanted<'_>, is_here: fn(IpAddr) -> bool) -> Result<Option<&Source>, Report> {
        let domain = wanted.sender.rsplit_once('@').and_then(|(_, domain)| host_name(domain).ok());
        let Some(pool) = self.list.iter().find(|pool| pool.is_for(domain.as_deref(), wanted.destination))
        else {
            return Ok(None);
        };
        let candidates = pool.candidates(domain.as_deref().unwrap_or_default(), wanted.server);
        if candidates.is_empty() {
            let family = if wanted.server.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(none(format!(
                "no address of {family} is in the pool of `delivery.sources` for this mail"
            )));
        }
        if let Some(source) = candidates.iter().find(|source| is_here(source.address)) {
            return Ok(Some(source));
        }
        let addresses: Vec<_> = candidates.iter().map(|source| source.address.to_string()).collect();
        Err(none(format!(
            "this machine has none of the source addresses for this mail: {}",
            addresses.join(", ")
        )))
    }

    /// All addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.list.iter().flat_map(|pool| pool.sources.iter().map(|source| source.address))
    }
}

/// Another server may be of another family; an operator has to see to it otherwise (RFC 3463: system incorrectly configured).
fn none(reason: String) -> Report {
    Report { elsewhere: true, ..Report::new(Status::transient(3, 5), reason) }
}

impl Pool {
    fn is_for(&self, sender: Option<&str>, destination: &str) -> bool {
        let any = |patterns: &[DomainPattern]| patterns.is_empty() || patterns.contains(&DomainPattern::Any);
        let named =
            |patterns: &[DomainPattern], domain: &str| patterns.iter().any(|pattern| pattern.names(domain));
        (any(&self.senders) || sender.is_some_and(|sender| named(&self.senders, sender)))
            && (any(&self.destinations) || named(&self.destinations, &destination.to_ascii_lowercase()))
    }

    /// The addresses of the server's family, the one to take first.
    fn candidates(&self, sender: &str, server: IpAddr) -> Vec<&Source> {
        let family = |source: &&Source| source.address.is_ipv4() == server.is_ipv4();
        let mut sources: Vec<_> = self.sources.iter().filter(family).collect();
        match self.choose {
            // An address that comes or goes moves no domain but its own.
            SourceChoice::SenderDomain => {
                sources.sort_by_cached_key(|source| {
                    let text = format!("{sender} {}", source.address);
                    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
                });
            }
            SourceChoice::RoundRobin => {
                let turn = self.next.fetch_add(1, Ordering::Relaxed);
                let first = turn.checked_rem(sources.len()).unwrap_or(0);
                sources.rotate_left(first);
            }
        }
        sources
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config;
    use crate::smtp::client::Protocol;

    fn pools(entries: &str) -> Pools {
        let base = "origin: fixed\nfixed-server: 192.0.2.1:25\ndelivery:\n  sources:\n";
        let section = config::parse(&format!("{base}{entries}"), "test").unwrap().delivery.sources;
        Pools::new(&section, &Rules::new(Protocol::Smtp, "gw.test"))
    }

    /// The address and the name in EHLO, or why there is none.
    fn chosen(pools: &Pools, sender: &str, destination: &str, server: &str) -> String {
        let wanted = Wanted { sender, destination, server: server.parse().unwrap() };
        match pools.choose(wanted, |address| !address.to_string().ends_with('9')) {
            Ok(Some(source)) => format!("{} {}", source.address, source.rules.hello),
            Ok(None) => "none".to_owned(),
            Err(report) => format!("{} {}", report.status, report.reason),
        }
    }

    #[test]
    fn the_first_pool_for_sender_and_destination_counts() {
        let pools = pools(
            "  - {senders: [a.test, .a.test], destinations: [x.test], addresses: [{address: 192.0.2.1, helo-name: ax}]}\n\
             \x20 - {senders: [a.test], addresses: [{address: 192.0.2.2, helo-name: a}, {address: '2001:db8::2', helo-name: a6}]}\n\
             \x20 - {destinations: [y.test], addresses: [{address: 192.0.2.3, helo-name: y}]}\n\
             \x20 - {senders: [b.test], addresses: [{address: 192.0.2.9, helo-name: b}]}\n",
        );
        for (sender, destination, server, expected) in [
            ("s@A.test", "X.test", "198.51.100.1", "192.0.2.1 ax"),
            ("s@www.a.test", "x.test", "198.51.100.1", "192.0.2.1 ax"),
            ("s@a.test", "y.test", "198.51.100.1", "192.0.2.2 a"),
            ("s@a.test", "y.test", "2001:db8::1", "2001:db8::2 a6"),
            ("s@c.test", "y.test", "198.51.100.1", "192.0.2.3 y"),
            ("", "y.test", "198.51.100.1", "192.0.2.3 y"),
            ("", "z.test", "198.51.100.1", "none"),
            (
                "s@a.test",
                "x.test",
                "2001:db8::1",
                "4.3.5 no address of IPv6 is in the pool of `delivery.sources` for this mail",
            ),
            (
                "s@b.test",
                "z.test",
                "198.51.100.1",
                "4.3.5 this machine has none of the source addresses for this mail: 192.0.2.9",
            ),
        ] {
            assert_eq!(
                chosen(&pools, sender, destination, server),
                expected,
                "{sender} {destination} {server}"
            );
        }
    }

    #[test]
    fn a_domain_stays_with_its_address_and_turns_go_round() {
        let entries = |addresses: &[u8], choose: &str| {
            let list: Vec<_> = addresses
                .iter()
                .map(|last| format!("{{address: 192.0.2.{last}, helo-name: h{last}}}"))
                .collect();
            pools(&format!("  - {{choose: {choose}, addresses: [{}]}}\n", list.join(", ")))
        };
        let (four, three) =
            (entries(&[1, 2, 3, 4], "sender-domain"), entries(&[1, 2, 3, 9], "sender-domain"));
        let mut uses: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..400 {
            let sender = format!("s@d{number}.test");
            let of = |pools| chosen(pools, &sender, "x.test", "198.51.100.1");
            let first = of(&four);
            assert_eq!(first, of(&four));
            if !first.ends_with("h4") {
                // Another in the place of the fourth, which this machine does not have.
                assert_eq!(first, of(&three));
            }
            *uses.entry(first).or_default() += 1;
        }
        assert!(uses.len() == 4 && uses.values().all(|count| *count > 60), "{uses:?}");
        let turns = entries(&[1, 9, 3], "round-robin");
        let told: Vec<_> = (0..4).map(|_| chosen(&turns, "s@a.test", "x.test", "198.51.100.1")).collect();
        assert_eq!(told, ["192.0.2.1 h1", "192.0.2.3 h3", "192.0.2.3 h3", "192.0.2.1 h1"]);
    }
}
