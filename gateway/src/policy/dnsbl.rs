//! From what block lists answer to what is done with a client.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use crate::config::file::{Dnsbl, DnsblZone, Families, OnListed};
use crate::smtp::question::{Ruling, Step};
use crate::smtp::refusal::Refusal;

/// Whether any list is asked about `client`.
#[must_use]
pub fn is_asked_about(dnsbl: &Dnsbl, client: IpAddr) -> bool {
    !dnsbl.exempt.iter().any(|network| network.0.contains(&client))
}

/// Whether this list knows about addresses of `client`'s family.
#[must_use]
pub const fn knows(list: &DnsblZone, client: IpAddr) -> bool {
    match list.families {
        Families::Both => true,
        Families::Ipv4 => client.is_ipv4(),
        Families::Ipv6 => client.is_ipv6(),
    }
}

/// The name under which `zone` has `client`: octets (RFC 5782 section 2.1) or nibbles (section
/// 2.4) in reverse. It ends in a dot, so that no search list applies.
#[must_use]
pub fn name(client: IpAddr, zone: &str) -> String {
    let mut name = String::with_capacity(64 + zone.len() + 1);
    match client {
        IpAddr::V4(address) => {
            for octet in address.octets().into_iter().rev() {
                write!(name, "{octet}.").ok();
            }
        }
        IpAddr::V6(address) => {
            for octet in address.octets().into_iter().rev() {
                write!(name, "{:x}.{:x}.", octet & 0x0f, octet >> 4).ok();
            }
        }
    }
    name.push_str(zone.strip_suffix('.').unwrap_or(zone));
    name.push('.');
    name
}

/// What the answers of one list mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The client is listed.
    Listed,
    /// It is not, or not in a way that counts.
    NotListed,
    /// The list does not work: it answers outside 127.0.0.0/8, or refuses to answer.
    Broken(Ipv4Addr),
}

/// What these addresses mean; none is the answer for a client that is not listed.
#[must_use]
pub fn meaning(list: &DnsblZone, addresses: &[Ipv4Addr]) -> Meaning {
    if let Some(broken) = addresses.iter().find(|address| !can_mean_listed(**address)) {
        return Meaning::Broken(*broken);
    }
    let counts =
        |address: &Ipv4Addr| list.answers.iter().any(|network| network.0.contains(&IpAddr::V4(*address)));
    if addresses.iter().any(counts) { Meaning::Listed } else { Meaning::NotListed }
}

/// A domain that was sold answers anything with its new owner's address. With 127.0.0.1 and
/// 127.255.255.0/24 lists turn queries away, such as those that come by a public resolver.
fn can_mean_listed(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    first == 127 && address != Ipv4Addr::LOCALHOST && (second, third) != (255, 255)
}

/// A list that has the client.
#[derive(Clone, Debug)]
pub struct Listing<'a> {
    /// The list.
    pub list: &'a DnsblZone,
    /// What it says about it (RFC 5782 section 2.1), in printable ASCII.
    pub reason: Option<String>,
}

impl Listing<'_> {
    /// Whether it speaks against the client.
    #[must_use]
    pub const fn is_against(&self) -> bool {
        self.list.weight > 0
    }
}

/// Whether a client that these lists have is told so.
#[must_use]
pub fn refuses(dnsbl: &Dnsbl, listed: &[Listing<'_>]) -> bool {
    let sum: i64 = listed.iter().map(|listing| i64::from(listing.list.weight)).sum();
    sum >= i64::from(dnsbl.reject_at) && dnsbl.on_listed != OnListed::Log
}

/// What is ruled at `step` on a client that these lists have.
#[must_use]
pub fn rule(dnsbl: &Dnsbl, listed: &[Listing<'_>], step: Step) -> Ruling {
    if !refuses(dnsbl, listed) {
        return Ruling::Pass;
    }
    let named = |listing: &Listing<'_>| {
        let reason = listing.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{}{reason}", listing.list.zone)
    };
    let against = listed.iter().filter(|listing| listing.is_against()).map(named);
    let lists = against.collect::<Vec<_>>().join(", ");
    match dnsbl.on_listed {
        OnListed::Reject if step == Step::Connect => Ruling::Takeover(Refusal::Listed { lists }),
        OnListed::Reject => Ruling::Takeover(Refusal::SenderListed { lists }),
        OnListed::Tempfail => Ruling::Close(Refusal::ListedNow { lists }),
        OnListed::Log => Ruling::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn dnsbl(rules: &str) -> Dnsbl {
        let text = format!(
            "origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\ndnsbl: {{{rules}}}\n"
        );
        config::parse(&text, "test").unwrap().dnsbl
    }

    #[test]
    fn names_are_those_of_rfc_5782() {
        assert_eq!(name("192.0.2.99".parse().unwrap(), "bad.example"), "99.2.0.192.bad.example.");
        assert_eq!(
            name("2001:db8:1:2:3:4:567:89ab".parse().unwrap(), "ugly.example."),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ugly.example."
        );
    }

    #[test]
    fn answers_count_where_the_list_says_so_and_never_when_it_does_not_work() {
        let dnsbl =
            dnsbl("zones: [{zone: bl.example, answers: [127.0.0.2, 127.0.4.0/24]}, {zone: all.example}]");
        let [some, all] = dnsbl.zones.as_slice() else { panic!() };
        let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        assert_eq!(meaning(some, &[]), Meaning::NotListed);
        assert_eq!(meaning(some, &[address("127.0.0.3")]), Meaning::NotListed);
        assert_eq!(meaning(some, &[address("127.0.0.3"), address("127.0.4.9")]), Meaning::Listed);
        assert_eq!(meaning(all, &[address("127.0.0.3")]), Meaning::Listed);
        for broken in ["203.0.113.1", "127.0.0.1", "127.255.255.254", "0.0.0.0"].map(address) {
            assert_eq!(meaning(all, &[broken]), Meaning::Broken(broken));
            assert_eq!(meaning(all, &[address("127.0.0.2"), broken]), Meaning::Broken(broken));
        }
    }

    #[test]
    fn weights_add_up_and_a_list_of_the_welcome_takes_off() {
        let dnsbl = dnsbl(
            "reject-at: 3, zones: [{zone: a.example, weight: 2}, {zone: b.example}, {zone: w.example, weight: -1}]",
        );
        let listings: Vec<_> = dnsbl.zones.iter().map(|list| Listing { list, reason: None }).collect();
        let [a, b, welcome] = listings.as_slice() else { panic!() };
        let (a, b, welcome) = (a.clone(), b.clone(), welcome.clone());
        let refused = Ruling::Takeover(Refusal::Listed { lists: "a.example, b.example".into() });
        assert_eq!(rule(&dnsbl, &[], Step::Connect), Ruling::Pass);
        assert_eq!(rule(&dnsbl, std::slice::from_ref(&a), Step::Connect), Ruling::Pass);
        assert_eq!(rule(&dnsbl, &[a.clone(), b.clone()], Step::Connect), refused);
        assert_eq!(rule(&dnsbl, &[a, b, welcome], Step::Connect), Ruling::Pass);
    }

    #[test]
    fn the_refusal_is_the_one_that_is_configured() {
        let lists = || "a.example (why not)".to_owned();
        for (how, step, expected) in [
            ("reject", Step::Connect, Ruling::Takeover(Refusal::Listed { lists: lists() })),
            ("reject", Step::Mail, Ruling::Takeover(Refusal::SenderListed { lists: lists() })),
            ("tempfail", Step::Connect, Ruling::Close(Refusal::ListedNow { lists: lists() })),
            ("log", Step::Connect, Ruling::Pass),
        ] {
            let dnsbl = dnsbl(&format!("on-listed: {how}, zones: [{{zone: a.example}}]"));
            let reason = Some("why not".to_owned());
            let listed: Vec<_> =
                dnsbl.zones.iter().map(|list| Listing { list, reason: reason.clone() }).collect();
            assert_eq!(rule(&dnsbl, &listed, step), expected);
        }
    }

    #[test]
    fn private_clients_are_not_asked_about_and_families_are_kept_apart() {
        let dnsbl = dnsbl("zones: [{zone: a.example, families: ipv4}, {zone: b.example, families: ipv6}]");
        for exempt in ["10.1.2.3", "192.168.0.1", "127.0.0.1", "fd00::1", "fe80::1"] {
            assert!(!is_asked_about(&dnsbl, exempt.parse().unwrap()), "{exempt}");
        }
        let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert!(is_asked_about(&dnsbl, v4) && is_asked_about(&dnsbl, v6));
        let known = |client| dnsbl.zones.iter().map(|list| knows(list, client)).collect::<Vec<_>>();
        assert_eq!((known(v4), known(v6)), (vec![true, false], vec![false, true]));
    }
}
