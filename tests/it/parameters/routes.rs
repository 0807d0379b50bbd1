//! Where mail goes.

use gateway_tests::netns::Netns;

use super::names::Name;
use super::scene::{Row, Scene, play};
use super::server::Script;

/// Two servers, the first better than the second.
const TWO: &[Name] = &[
    ("b.test", "MX", "10 mx1.test"),
    ("b.test", "MX", "20 mx2.test"),
    ("mx1.test", "A", "127.0.0.1"),
    ("mx2.test", "A", "127.0.0.2"),
];
const LOCAL: &[Name] = &[("0x7f000001", "MX", "10 mx2.test"), ("mx2.test", "A", "127.0.0.2")];
const PORT: &str = "smtp_tcp_port = PORT\nsmtp_randomize_addresses = no";

/// Mail for a domain in the DNS, and servers that all do the same.
fn domain(main: &'static str, names: &'static [Name], servers: usize, script: Script) -> Scene {
    Scene { main, names, relay: "", servers: vec![script; servers], ..Scene::default() }
}

fn failing(main: &'static str, replies: &'static [(&'static str, &'static str)]) -> Scene {
    domain(main, TWO, 2, Script { replies, ..Script::default() })
}

#[test]
fn servers_are_tried_as_the_operator_says() -> anyhow::Result<()> {
    let silent = || Script { greeting: "421 4.3.2 no", ..Script::default() };
    let second = "session at 127.0.0.2";
    let relays = Scene { servers: vec![silent(), Script::default()], ..Scene::default() };
    play(vec![
        ("smtp_mx_address_limit = 1", domain(PORT, TWO, 2, silent()), second, ""),
        ("smtp_mx_session_limit = 1", failing(PORT, &[("MAIL", "451 4.3.0 no")]), second, ""),
        ("smtp_fallback_relay = [127.0.0.2]:PORT", relays.clone(), "status=deferred", second),
        ("fallback_relay = [127.0.0.2]:PORT", relays, "status=deferred", second),
    ])
}

#[test]
fn equal_servers_take_turns_unless_the_operator_says_otherwise() -> anyhow::Result<()> {
    const EQUAL: &[Name] = &[
        ("b.test", "MX", "10 mx1.test"),
        ("b.test", "MX", "10 mx2.test"),
        ("mx1.test", "A", "127.0.0.1"),
        ("mx2.test", "A", "127.0.0.2"),
    ];
    let main = "smtp_tcp_port = PORT\nsmtp_connection_cache_on_demand = no";
    let many = Scene { copies: 40, records: 40, ..domain(main, EQUAL, 2, Script::default()) };
    // By chance all go to the first once in 10^12 times.
    play(vec![("smtp_randomize_addresses = no", many, "session at 127.0.0.2", "")])
}

/// Plays in a network of its own, where the loopback has addresses of both families.
fn play_with_ipv6(rows: Vec<Row>) -> anyhow::Result<()> {
    let netns = Netns::create(&format!("gw-ipv6-{}", std::process::id()))?;
    for address in ["fd00::1", "fd00::9"] {
        netns.ip(&format!("address add {address}/128 dev lo nodad"))?;
    }
    netns.enter(|| play(rows))?
}

#[test]
fn both_families_of_addresses_are_used_as_the_operator_says() -> anyhow::Result<()> {
    const BOTH: &[Name] =
        &[("b.test", "MX", "10 mx1.test"), ("mx1.test", "A", "127.0.0.1"), ("mx1.test", "AAAA", "fd00::1")];
    const MANY: &[Name] = &[
        ("b.test", "MX", "10 mx1.test"),
        ("mx1.test", "A", "127.0.0.1"),
        ("mx1.test", "A", "127.0.0.2"),
        ("mx1.test", "AAAA", "fd00::1"),
    ];
    let ipv6 = |script: Script| Script { address: "fd00::1", ..script };
    let both = Scene {
        servers: vec![Script::default(), ipv6(Script::default())],
        ..domain(PORT, BOTH, 0, Script::default())
    };
    let busy = Script { greeting: "421 4.3.2 no", ..Script::default() };
    let two_places = "smtp_tcp_port = PORT\nsmtp_randomize_addresses = no\nsmtp_mx_address_limit = 2";
    let many = Scene {
        servers: vec![busy.clone(), busy.clone(), ipv6(busy)],
        ..domain(two_places, MANY, 0, Script::default())
    };
    let from =
        Scene { servers: vec![ipv6(Script::default())], relay: "[ipv6:fd00::1]:PORT", ..Scene::default() };
    play_with_ipv6(vec![
        ("smtp_address_preference = ipv6", both, "session at 127.0.0.1", "session at fd00::1"),
        ("smtp_balance_inet_protocols = no", many, "session at fd00::1", "session at 127.0.0.2"),
        ("smtp_bind_address6 = fd00::9", from, "from fd00::1\n", "from fd00::9\n"),
    ])
}

#[test]
fn failed_look_ups_mean_what_the_operator_says() -> anyhow::Result<()> {
    const BROKEN: &[Name] = &[("b.test", "MX", "SERVFAIL"), ("b.test", "A", "127.0.0.1")];
    const GONE: &[Name] = &[("b.test", "MX", "10 mx1.test")];
    let broken = domain(PORT, BROKEN, 1, Script::default());
    let gone = domain(PORT, GONE, 1, Script::default());
    play(vec![
        ("ignore_mx_lookup_error = yes", broken, "status=deferred", "status=sent"),
        // The report on it finds no way either.
        ("smtp_defer_if_no_mx_address_found = yes", gone, "status=bounced", "status=deferred"),
        (
            "smtp_cname_overrides_servername = yes",
            Scene::default(),
            "",
            "`smtp_cname_overrides_servername` is left out, as with `no`",
        ),
    ])
}

#[test]
fn mail_for_this_host_does_not_leave_it() -> anyhow::Result<()> {
    // Nobody listens there.
    const OWN: &[Name] = &[("b.test", "MX", "10 mx3.test"), ("mx3.test", "A", "127.0.0.77")];
    let own = |main| domain(main, OWN, 1, Script::default());
    let loops = "loops back to myself";
    play(vec![
        ("inet_interfaces = 127.0.0.77", own(""), "", loops),
        ("proxy_interfaces = 127.0.0.77", own(""), "", loops),
        (
            "best_mx_transport = smtp:[127.0.0.1]:PORT",
            own("proxy_interfaces = 127.0.0.77"),
            loops,
            "status=sent",
        ),
    ])
}

#[test]
fn addresses_and_ports_are_those_of_the_operator() -> anyhow::Result<()> {
    let lmtp = Scene { relay: "lmtp:[127.0.0.1]", ..Scene::default() };
    let one = domain("smtp_randomize_addresses = no", TWO, 2, Script::default());
    play(vec![
        ("inet_protocols = ipv6", Scene::default(), "status=sent", "status=deferred"),
        ("smtp_bind_address = 127.0.0.9", Scene::default(), "from 127.0.0.1", "from 127.0.0.9"),
        ("smtp_tcp_port = PORT", one, "", "session at 127.0.0.1"),
        ("lmtp_tcp_port = PORT", lmtp, "", "session at 127.0.0.1"),
    ])?;
    // The DNS has a mail exchanger for it; the system reads it as an address (inet_aton(3)).
    let here = Scene { recipients: &["r@0x7f000001"], ..domain(PORT, LOCAL, 2, Script::default()) };
    let host = Scene { relay: "[0x7f000001]:PORT", ..Scene::default() };
    play(vec![
        ("disable_dns_lookups = yes", here, "relay=mx2.test[", "relay=0x7f000001["),
        ("smtp_host_lookup = dns, native", host, "status=deferred", "status=sent"),
    ])
}
