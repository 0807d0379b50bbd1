//! Destinations looked up at a real name server.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use gateway::config::file::Dns;
use gateway::delivery::destination::Destination;
use gateway::delivery::lookup::{LookupPolicy, route};
use gateway::delivery::route::RoutePolicy;
use gateway::dns::Resolver;
use gateway::smtp::client::Protocol;
use gateway_tests::nsd::{Nsd, Zone};

const ZONES: [Zone; 2] = [
    Zone {
        name: "mail.example",
        records: Some(
            "two MX 20 b\ntwo MX 10 a\na A 192.0.2.1\na AAAA 2001:db8::1\nb A 192.0.2.2\n\
             null MX 0 .\nplain A 192.0.2.9\nplain TXT x\nalias CNAME two\nindirect MX 10 alias-of-a\nalias-of-a CNAME a\n\
             gone MX 10 nowhere\nhalf MX 5 nowhere\nhalf MX 10 host.broken.example.\nsome MX 5 host.broken.example.\n\
             some MX 10 b\nself MX 10 a\nself MX 20 me\nself MX 30 b\nme A 198.51.100.1\nonly-me MX 5 nowhere\nonly-me MX 10 me\n\
             loop MX 10 me\nliteral MX 10 192.0.2.77.\nempty TXT x\n",
        ),
    },
    Zone { name: "broken.example", records: None },
];

fn policy() -> RoutePolicy {
    let own = [Ipv4Addr::new(198, 51, 100, 1).into()].into();
    RoutePolicy { randomize: false, own, ..RoutePolicy::default() }
}

fn resolver(server: SocketAddr) -> anyhow::Result<Resolver> {
    let dns = Dns { servers: vec![server], attempts: 2, timeout: "5s".parse()?, ..Dns::default() };
    Ok(Resolver::new(&dns)?)
}

/// The addresses to which mail goes, or the status of what keeps it here.
async fn routed(
    resolver: &Resolver,
    text: &str,
    lookup: LookupPolicy,
    policy: &RoutePolicy,
) -> anyhow::Result<String> {
    let destination = Destination::parse(text, Protocol::Smtp)?;
    Ok(match route(resolver, &destination, lookup, policy, &mut |_| 0).await {
        Ok(route) => {
            let addresses = route.servers.iter().map(|server| server.address.to_string());
            addresses.collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.failure.status.to_string(),
    })
}

// Specification sections 3.2 and 3.3.
#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_where_the_dns_says() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut nsd = Nsd::here(directory.path(), &ZONES)?;
    let resolver = resolver(nsd.address())?;
    for (destination, expected) in [
        ("two.mail.example", "192.0.2.1 2001:db8::1 192.0.2.2"),
        ("TWO.mail.example.", "192.0.2.1 2001:db8::1 192.0.2.2"),
        ("[two.mail.example]", "5.4.4"),
        ("[a.mail.example]", "192.0.2.1 2001:db8::1"),
        ("[192.0.2.5]", "192.0.2.5"),
        ("null.mail.example", "5.1.0"),
        ("plain.mail.example", "192.0.2.9"),
        ("alias.mail.example", "192.0.2.1 2001:db8::1 192.0.2.2"),
        ("indirect.mail.example", "192.0.2.1 2001:db8::1"),
        ("gone.mail.example", "5.4.4"),
        ("empty.mail.example", "5.4.4"),
        ("missing.mail.example", "5.4.4"),
        ("half.mail.example", "4.4.3"),
        ("some.mail.example", "192.0.2.2"),
        ("broken.example", "4.4.3"),
        // The server has no such zone, and refuses.
        ("elsewhere.example", "4.4.3"),
        ("self.mail.example", "192.0.2.1 2001:db8::1"),
        ("only-me.mail.example", "4.4.4"),
        ("loop.mail.example", "5.4.6"),
        ("loop.mail.example:587", "198.51.100.1"),
        ("[me.mail.example]", "5.4.6"),
        ("literal.mail.example", "192.0.2.77"),
    ] {
        assert_eq!(
            routed(&resolver, destination, LookupPolicy::default(), &policy()).await?,
            expected,
            "{destination}"
        );
    }
    let ignoring = RoutePolicy { ignore_mx_lookup_error: true, ..policy() };
    assert_eq!(
        routed(&resolver, "broken.example", LookupPolicy::default(), &ignoring).await?,
        "4.4.3",
        "its hosts fail too"
    );
    let defer = RoutePolicy { defer_if_no_mx_address_found: true, ..policy() };
    assert_eq!(routed(&resolver, "gone.mail.example", LookupPolicy::default(), &defer).await?, "4.4.4");
    nsd.stop()?;
    Ok(())
}

// `inet-protocols`, `disable-dns-lookups` and `host-lookup`.
#[tokio::test(flavor = "multi_thread")]
async fn families_and_sources_can_be_switched_off() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut nsd = Nsd::here(directory.path(), &ZONES)?;
    let resolver = resolver(nsd.address())?;
    let all = LookupPolicy::default();
    let native = LookupPolicy { mx: false, dns: false, native: true, ..all };
    for (destination, lookup, expected) in [
        ("two.mail.example", LookupPolicy { ipv6: false, ..all }, "192.0.2.1 192.0.2.2"),
        ("two.mail.example", LookupPolicy { ipv4: false, ..all }, "2001:db8::1"),
        ("two.mail.example", LookupPolicy { ipv4: false, ipv6: false, ..all }, "4.4.4"),
        ("[192.0.2.5]", LookupPolicy { ipv4: false, ..all }, "4.4.4"),
        ("localhost:587", LookupPolicy { ipv6: false, ..native }, "127.0.0.1"),
        ("[localhost]:587", LookupPolicy { native: true, ipv6: false, ..all }, "127.0.0.1"),
        ("two.mail.example", LookupPolicy { dns: false, ..all }, "4.3.5"),
    ] {
        assert_eq!(
            routed(&resolver, destination, lookup, &policy()).await?,
            expected,
            "{destination} {lookup:?}"
        );
    }
    nsd.stop()?;
    Ok(())
}

// Specification section 3.2: a time-out is 4.4.3, with `ignore-mx-lookup-error` too where the host's look-up fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_name_server_defers_mail() -> anyhow::Result<()> {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let resolver = resolver(silent.local_addr()?)?;
    let soon = LookupPolicy { deadline: Duration::from_millis(300), ..LookupPolicy::default() };
    assert_eq!(routed(&resolver, "two.mail.example", soon, &policy()).await?, "4.4.3");
    Ok(())
}
