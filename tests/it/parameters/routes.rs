//! Where mail goes.

use super::names::Name;
use super::scene::{Scene, play};
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
    const SILENT: Script =
        Script { greeting: "421 4.3.2 no", keywords: &[], replies: &[], tls: None, full: false };
    let second = "session at 127.0.0.2";
    let relays = Scene { servers: vec![SILENT, Script::default()], ..Scene::default() };
    play(vec![
        ("smtp_mx_address_limit = 1", domain(PORT, TWO, 2, SILENT), second, ""),
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
