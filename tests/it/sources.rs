//! Where mail leaves from: pools of addresses with their names, as servers see them.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab, WAN};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::{message, wait};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(90);

/// Addresses that the router gets beside its own.
const MORE: [&str; 4] =
    ["198.51.100.11/24", "198.51.100.12/24", "198.51.100.13/24", "2001:db8:2::11/64 nodad"];

const POOLS: &str = "    - senders: [a.example, .a.example]\n      addresses:\n        \
    - {address: 198.51.100.11, helo-name: out.a.example}\n        \
    - {address: '2001:db8:2::11', helo-name: out6.a.example}\n    \
    - senders: [turns.example]\n      choose: round-robin\n      addresses:\n        \
    - {address: 198.51.100.12, helo-name: one.turns.example}\n        \
    - {address: 198.51.100.13, helo-name: two.turns.example}\n        \
    - {address: 198.51.100.98, helo-name: away.turns.example}\n    \
    - senders: [away.example]\n      addresses: [{address: 198.51.100.99, helo-name: away.example}]\n";

fn settings(lab: &Lab) -> Settings {
    Settings {
        lanes: vec!["{client: [192.0.2.0/24, '2001:db8:1::/64'], lane: relay}"],
        more: format!(
            "queue: {{directory: {}, min-free: 1MiB}}\ndelivery:\n  \
             schedule: {{minimal-backoff-time: 1s, maximal-backoff-time: 1s}}\n  \
             resources: {{connection-cache-on-demand: false}}\n  miscellaneous: {{helo-name: else.example}}\n  sources:\n{POOLS}",
            lab.directory().join("queue").display()
        ),
        log: vec![("addresses", "full")],
        ..Settings::default()
    }
}

/// Sends a message of this sender from the lab's client to the server.
fn send(lab: &Lab, family: Family, sender: &str) -> anyhow::Result<()> {
    let (mut client, _) = Client::greeted(lab.client(), family.smtp())?;
    for command in [&format!("MAIL FROM:<{sender}>"), "RCPT TO:<r@server.example>"] {
        client.send(format!("{command}\r\n").as_bytes())?;
        client.expect(250)?;
    }
    client.send(b"DATA\r\n")?;
    client.expect(354)?;
    client.send(&message::clean("from a pool"))?;
    client.send(message::END)?;
    client.expect(250).map(drop)
}

/// From where, and by which name, the `number`th message came.
fn came(server: &Recorder, gateway: &Gateway, number: usize) -> anyhow::Result<(IpAddr, String)> {
    wait::until(SOON, &format!("message {number}"), || Ok((server.count() >= number).then_some(())))
        .with_context(|| gateway.daemon().log_tail())?;
    let connections = server.connections();
    let connection = connections.iter().rev().find(|one| !one.messages.is_empty()).context("no message")?;
    let said = String::from_utf8_lossy(&connection.received).into_owned();
    let hello = said.lines().find_map(|line| line.strip_prefix("EHLO ")).context("no EHLO")?;
    Ok((connection.peer, hello.to_owned()))
}

#[test]
fn servers_see_the_address_and_the_name_of_the_pool_that_a_sender_has() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for address in MORE {
        lab.router().ip(&format!("address add {address} dev {WAN}"))?;
    }
    let servers = [Family::V4, Family::V6]
        .map(|family| Recorder::start(lab.server(), family.smtp(), Manners::default()));
    let [ipv4, ipv6] = servers;
    let (ipv4, ipv6) = (ipv4?, ipv6?);
    let mut gateway = Gateway::start(&lab, &settings(&lab))?;
    gateway.wait_for_log("198.51.100.99")?;
    let mut count = 0;
    for (sender, address, name) in [
        ("s@a.example", "198.51.100.11", "out.a.example"),
        ("s@www.a.example", "198.51.100.11", "out.a.example"),
        ("s@turns.example", "198.51.100.12", "one.turns.example"),
        ("s@turns.example", "198.51.100.13", "two.turns.example"),
        // The third is not there, and the first takes its turn.
        ("s@turns.example", "198.51.100.12", "one.turns.example"),
        ("s@other.example", "198.51.100.1", "else.example"),
    ] {
        send(&lab, Family::V4, sender)?;
        count += 1;
        assert_eq!(came(&ipv4, &gateway, count)?, (address.parse()?, name.to_owned()), "{sender}");
    }
    send(&lab, Family::V6, "s@a.example")?;
    assert_eq!(came(&ipv6, &gateway, 1)?, ("2001:db8:2::11".parse()?, "out6.a.example".to_owned()));

    // Mail does not leave from elsewhere: it waits until the machine has the address.
    send(&lab, Family::V4, "s@away.example")?;
    gateway.wait_for_log("this machine has none of the source addresses for this mail: 198.51.100.99")?;
    ensure!(ipv4.count() == count, "delivered from an address outside of its pool");
    lab.router().ip(&format!("address add 198.51.100.99/24 dev {WAN}"))?;
    assert_eq!(came(&ipv4, &gateway, count + 1)?, ("198.51.100.99".parse()?, "away.example".to_owned()));
    send(&lab, Family::V6, "s@turns.example")?;
    gateway.wait_for_log("no address of IPv6 is in the pool")?;
    ensure!(ipv6.count() == 1, "delivered from an address outside of its pool");
    gateway.stop()
}
