use proptest::prelude::*;

use super::*;

fn answer(records: &[(u16, &str)]) -> Answer<Exchanger> {
    let exchanger =
        |(preference, host): &(u16, &str)| Exchanger { preference: *preference, host: (*host).to_owned() };
    Answer::Found(records.iter().map(exchanger).collect())
}

fn resolved(preference: u16, host: &str, addresses: &[&str]) -> Resolved {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Resolved { preference, host: host.to_owned(), addresses: Ok(addresses) }
}

fn unresolved(preference: u16, host: &str, failure: Report) -> Resolved {
    Resolved { preference, host: host.to_owned(), addresses: Err(failure) }
}

fn policy() -> RoutePolicy {
    RoutePolicy { randomize: false, address_limit: 0, ..RoutePolicy::default() }
}

fn own(addresses: &[&str]) -> RoutePolicy {
    RoutePolicy { own: addresses.iter().map(|address| address.parse().unwrap()).collect(), ..policy() }
}

/// The addresses of a route in their order.
fn route(hosts: Vec<Resolved>, policy: &RoutePolicy) -> Result<String, NoRoute> {
    let route = to_domain("d.test", 25, hosts, policy, &mut |_| 0)?;
    Ok(route.servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>().join(" "))
}

fn status<T>(result: Result<T, NoRoute>) -> String {
    result.err().map(|error| error.failure.status.to_string()).unwrap_or_default()
}

// Specification section 3.2, the table of outcomes.
#[test]
fn what_an_mx_look_up_means() {
    let why = || "why".to_owned();
    for (answer, expected, ignoring) in [
        (answer(&[(20, "b.test"), (10, "a.test")]), "10 a.test, 20 b.test", "10 a.test, 20 b.test"),
        (Answer::Nothing, "0 d.test", "0 d.test"),
        (Answer::Again(why()), "4.4.3", "0 d.test"),
        (Answer::Failed(why()), "5.4.3", "0 d.test"),
        (Answer::Malformed(why()), "5.4.4", "0 d.test"),
        (answer(&[(0, ".")]), "5.1.0", "5.1.0"),
        (answer(&[(0, "")]), "5.1.0", "5.1.0"),
        (answer(&[(0, "."), (5, "a.test")]), "5 a.test", "5 a.test"),
    ] {
        for (ignore, expected) in [(false, expected), (true, ignoring)] {
            let policy = RoutePolicy { ignore_mx_lookup_error: ignore, ..policy() };
            let found = match exchangers("d.test", answer.clone(), &policy) {
                Ok(found) => {
                    let found = found.iter().map(|mx| format!("{} {}", mx.preference, mx.host));
                    found.collect::<Vec<_>>().join(", ")
                }
                Err(failure) => failure.status.to_string(),
            };
            assert_eq!(found, expected, "{answer:?}, {ignore}");
        }
    }
}

#[test]
fn no_more_than_a_hundred_mail_exchangers_are_looked_at() {
    let many = (0..1_000).map(|preference| Exchanger { preference, host: format!("m{preference}.test") });
    let found = exchangers("d.test", Answer::Found(many.rev().collect()), &policy()).unwrap();
    assert_eq!((found.len(), found[0].preference, found[99].preference), (100, 0, 99));
}

// Specification section 3.3.
#[test]
fn a_temporary_error_of_one_family_is_not_overwritten_by_a_permanent_one_of_the_other() {
    let a = Ipv4Addr::new(192, 0, 2, 1);
    let again = || Answer::Again("why".to_owned());
    for (ipv4, ipv6, expected) in [
        (Some(Answer::Found(vec![a])), Some(again()), "192.0.2.1"),
        (Some(Answer::Found(vec![a])), None, "192.0.2.1"),
        (Some(Answer::Nothing), Some(Answer::Nothing), "5.4.4"),
        (Some(Answer::Nothing), Some(again()), "4.4.3"),
        (Some(Answer::Again("why".to_owned())), Some(Answer::Nothing), "4.4.3"),
        (Some(Answer::Failed("why".to_owned())), Some(Answer::Nothing), "5.4.3"),
        (Some(Answer::Malformed("why".to_owned())), None, "5.4.4"),
        (None, None, "4.4.4"),
    ] {
        let found = match addresses("h.test", ipv4.clone(), ipv6.clone()) {
            Ok(found) => found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "),
            Err(failure) => failure.status.to_string(),
        };
        assert_eq!(found, expected, "{ipv4:?} {ipv6:?}");
    }
}

// Specification section 3.2.
#[test]
fn hosts_that_do_not_resolve_are_skipped_while_one_does() {
    let gone = || Report::permanent(4, 4, "gone");
    let later = || Report::transient(4, 3, "later");
    let hosts = vec![unresolved(5, "a.test", later()), resolved(10, "b.test", &["192.0.2.2"])];
    assert_eq!(route(hosts, &policy()), Ok("192.0.2.2".to_owned()));
    let none = || vec![unresolved(5, "a.test", gone()), unresolved(10, "b.test", gone())];
    assert_eq!(status(route(none(), &policy())), "5.4.4");
    let defer = RoutePolicy { defer_if_no_mx_address_found: true, ..policy() };
    assert_eq!(status(route(none(), &defer)), "4.4.4");
    let some = vec![
        unresolved(5, "a.test", gone()),
        unresolved(10, "b.test", later()),
        unresolved(15, "c.test", gone()),
    ];
    assert_eq!(status(route(some, &policy())), "4.4.3");
}

// Specification section 3.2, self check.
#[test]
fn mail_goes_only_to_those_who_are_better_than_this_gateway() {
    let own = own(&["192.0.2.20", "2001:db8::20"]);
    let hosts = || {
        vec![
            resolved(10, "a.test", &["192.0.2.10"]),
            resolved(20, "b.test", &["192.0.2.21"]),
            resolved(20, "me.test", &["192.0.2.20"]),
            resolved(30, "c.test", &["192.0.2.30"]),
        ]
    };
    let found = to_domain("d.test", 25, hosts(), &own, &mut |_| 0).unwrap();
    assert_eq!((found.servers.len(), found.self_is_mx, found.servers[0].best), (1, true, true));
    assert_eq!(route(hosts()[1..].to_vec(), &own).unwrap_err().failure.status.to_string(), "5.4.6");
    let mapped = vec![resolved(10, "me.test", &["::ffff:192.0.2.20"])];
    let error = route(mapped, &own).unwrap_err();
    assert_eq!(
        (error.failure.reason.as_str(), error.self_is_mx),
        ("mail for d.test loops back to myself", true)
    );
    let zero = vec![resolved(10, "zero.test", &["0.0.0.0"])];
    assert_eq!(status(route(zero, &policy())), "5.4.6");
    let better = vec![
        unresolved(5, "a.test", Report::permanent(4, 4, "gone")),
        resolved(10, "me.test", &["192.0.2.20"]),
    ];
    assert_eq!(status(route(better, &own)), "4.4.4");
}

// Specification section 3.1: loop detection is active only if the destination port is 25.
#[test]
fn on_another_port_nothing_loops() {
    let own = own(&["192.0.2.20"]);
    for (port, expected) in [(25, "5.4.6"), (587, "")] {
        let host = || Ok(vec!["192.0.2.20".parse().unwrap()]);
        assert_eq!(status(to_host("h.test", port, host(), &own, &mut |_| 0)), expected);
        let hosts = vec![resolved(10, "me.test", &["192.0.2.20"])];
        assert_eq!(status(to_domain("d.test", port, hosts, &own, &mut |_| 0)), expected);
    }
}

// Specification section 3.2, order.
#[test]
fn equal_servers_are_shuffled_and_the_preferred_family_comes_first() {
    let hosts = || {
        vec![
            resolved(10, "a.test", &["192.0.2.1", "2001:db8::1"]),
            resolved(10, "b.test", &["192.0.2.2", "2001:db8::2"]),
            resolved(5, "c.test", &["192.0.2.3"]),
        ]
    };
    for (preference, randomize, expected) in [
        (Preference::Any, false, "192.0.2.3 192.0.2.1 2001:db8::1 192.0.2.2 2001:db8::2"),
        (Preference::Ipv4, false, "192.0.2.3 192.0.2.1 192.0.2.2 2001:db8::1 2001:db8::2"),
        (Preference::Ipv6, false, "192.0.2.3 2001:db8::1 2001:db8::2 192.0.2.1 192.0.2.2"),
        // Always swapped with the first.
        (Preference::Any, true, "192.0.2.3 2001:db8::1 192.0.2.2 2001:db8::2 192.0.2.1"),
        (Preference::Ipv4, true, "192.0.2.3 192.0.2.2 192.0.2.1 2001:db8::1 2001:db8::2"),
    ] {
        let policy = RoutePolicy { preference, randomize, ..policy() };
        assert_eq!(route(hosts(), &policy).unwrap(), expected, "{preference:?} {randomize}");
    }
}

// Specification section 3.2, balance.
#[test]
fn neither_family_starves_the_other() {
    let hosts = |ipv4: usize, ipv6: usize| {
        let ipv4 = (0..ipv4).map(|number| resolved(10, "a.test", &[&format!("192.0.2.{number}")]));
        let ipv6 = (0..ipv6).map(|number| resolved(20, "b.test", &[&format!("2001:db8::{number}")]));
        ipv4.chain(ipv6).collect::<Vec<_>>()
    };
    for (ipv4, ipv6, limit, balance, expected) in [
        (9, 9, 5, true, (3, 2)),
        (9, 1, 5, true, (4, 1)),
        (1, 9, 5, true, (1, 4)),
        (9, 0, 5, true, (5, 0)),
        (2, 2, 5, true, (2, 2)),
        (9, 9, 5, false, (5, 0)),
        (9, 9, 1, true, (1, 0)),
        (9, 9, 0, true, (9, 9)),
    ] {
        let policy = RoutePolicy { address_limit: limit, balance, ..policy() };
        let found = to_domain("d.test", 25, hosts(ipv4, ipv6), &policy, &mut |_| 0).unwrap().servers;
        let ipv6 = found.iter().filter(|server| server.address.is_ipv6()).count();
        assert_eq!((found.len() - ipv6, ipv6), expected, "{ipv4} {limit} {balance}");
    }
}

fn hosts() -> impl Strategy<Value = Vec<Resolved>> {
    let address = prop_oneof![
        (0..40u8).prop_map(|last| IpAddr::from([192, 0, 2, last])),
        (0..40u16).prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])),
    ];
    let addresses = prop_oneof![
        3 => proptest::collection::vec(address, 0..4).prop_map(Ok),
        1 => any::<bool>().prop_map(|temporary| Err(if temporary { Report::transient(4, 3, "t") } else { Report::permanent(4, 4, "p") })),
    ];
    proptest::collection::vec((0..5u16, addresses), 0..8).prop_map(|hosts| {
        let host = |(preference, addresses)| Resolved { preference, host: "h.test".to_owned(), addresses };
        hosts.into_iter().map(host).collect()
    })
}

proptest! {
    /// Whatever the DNS says: the order is that of preferences, own addresses and those behind them get nothing,
    /// no limit is passed, and chance changes only the order of equals.
    #[test]
    fn a_route_keeps_its_promises(
        hosts in hosts(),
        limit in 0..7usize,
        preference in prop_oneof![Just(Preference::Any), Just(Preference::Ipv4), Just(Preference::Ipv6)],
        balance in any::<bool>(),
        seed in any::<usize>(),
    ) {
        let own = [IpAddr::from([192, 0, 2, 7]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7])];
        let policy = RoutePolicy { address_limit: limit, preference, balance, own: own.into(), ..RoutePolicy::default() };
        let mut state = seed;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33).checked_rem(below).unwrap()
        };
        let best_own = hosts.iter()
            .filter(|host| host.addresses.as_ref().is_ok_and(|all| all.iter().any(|one| own.contains(one))))
            .map(|host| host.preference).min();
        let found = to_domain("d.test", 25, hosts.clone(), &policy, &mut random);
        if let Ok(Route { servers, self_is_mx }) = found {
            prop_assert!(!servers.is_empty());
            prop_assert!(limit == 0 || servers.len() <= limit);
            prop_assert!(servers.is_sorted_by_key(|server| server.preference));
            prop_assert_eq!(self_is_mx, best_own.is_some());
            prop_assert!(best_own.is_none_or(|own| servers.iter().all(|server| server.preference < own)));
        } else if best_own.is_none() {
            prop_assert!(hosts.iter().all(|host| host.addresses.as_ref().is_ok_and(Vec::is_empty) || host.addresses.is_err()));
        }
    }
}
