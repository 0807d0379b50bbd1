//! What clients are locked for, found by the servers that find it: spamd, a name server, a router.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message::{self, END};
use gateway_tests::nsd::{Nsd, Zone};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::spamd::Spamd;
use gateway_tests::wait;

use crate::quarantine::{greeting, lock};

const SOON: Duration = Duration::from_secs(30);

const ZONES: [Zone; 2] = [
    Zone { name: "bl.example", records: Some("2.2.0.192 A 127.0.0.2") },
    Zone { name: "example", records: Some("nobody TXT \"v=spf1 -all\"") },
];

/// Where the name server listens: an address of the server's host.
fn name_server() -> SocketAddr {
    SocketAddr::new(Family::V4.server(), 5353)
}

/// A gateway that locks for `cause` and finds it by these further sections.
fn settings(cause: &str, sections: &str) -> Settings {
    let dns = format!("dns: {{ servers: ['{}'], timeout: 2s, attempts: 2 }}\n", name_server());
    let locks = format!("locks: {{ lock-on: [{cause}], action: reject, for: 1h }}\n");
    Settings { more: dns + &locks + sections, ..Settings::default() }
}

/// The client is held off from now on, and the list says what for.
fn is_locked(lab: &Lab, gateway: &Gateway, cause: &str, detail: &str) -> anyhow::Result<()> {
    let line = greeting(lab, Family::V4.smtp())?;
    ensure!(line.starts_with("421 4.7.0 gateway.example No SMTP service for you now"), "{line}");
    let list = lock(gateway, &["list"])?;
    let line = list.lines().find(|line| line.starts_with("192.0.2.2 ")).with_context(|| list.clone())?;
    ensure!(line.contains(cause) && line.contains(detail), "{line}");
    // A client beside it is served.
    let (_other, _) = Client::greeted(lab.client(), Family::V6.smtp())?;
    Ok(())
}

fn servers(lab: &Lab) -> anyhow::Result<[Recorder; 2]> {
    let server = |family: Family| Recorder::start(lab.server(), family.smtp(), Manners::default());
    Ok([server(Family::V4)?, server(Family::V6)?])
}

#[test]
fn who_sends_spam_is_locked() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let spamd = Spamd::start(&lab)?;
    let _servers = servers(&lab)?;
    let scan = vec![("spamd", format!("{{ address: '{}' }}", spamd.address()))];
    let gateway = Gateway::start(&lab, &Settings { scan, ..settings("spam", "") })?;
    let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
    client.send(&message::gtube("buy now"))?;
    client.send(END)?;
    client.expect(550)?;
    is_locked(&lab, &gateway, "spam", "")
}

#[test]
fn whom_a_block_list_has_is_locked() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _nsd = Nsd::start(lab.server(), name_server(), lab.directory(), &ZONES)?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, &settings("dnsbl", "dnsbl: { zones: [{ zone: bl.example }] }\n"))?;
    let line = greeting(&lab, Family::V4.smtp())?;
    ensure!(line.starts_with("554 5.7.1"), "{line}");
    is_locked(&lab, &gateway, "dnsbl", "bl.example")
}

#[test]
fn who_takes_a_domain_that_does_not_know_it_is_locked() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _nsd = Nsd::start(lab.server(), name_server(), lab.directory(), &ZONES)?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, &settings("spf", "spf: { check: incoming, exempt: [] }\n"))?;
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    client.send(b"MAIL FROM:<somebody@nobody.example>\r\n")?;
    client.expect(550)?;
    is_locked(&lab, &gateway, "spf", "nobody.example")
}

#[test]
fn who_opens_connections_to_too_many_servers_is_locked() -> anyhow::Result<()> {
    let by_the_kernel = "clients: { period: 48h, limits: { destinations: 1 }, on-excess: refuse }\n";
    for sections in ["quotas: { period: 31d, limits: { destinations: 1 } }\n", by_the_kernel] {
        let lab = Lab::new()?;
        let _servers = servers(&lab)?;
        let _second = Recorder::start(lab.server(), Family::V4.second_smtp(), Manners::default())?;
        let gateway = Gateway::start(&lab, &settings("fan-out", sections))?;
        let (client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
        drop(client);
        // A session of which the kernel's facts come too late goes on.
        wait::until(SOON, "a refusal", || {
            Ok(greeting(&lab, Family::V4.second_smtp())?.starts_with("421 4.7.0").then_some(()))
        })
        .with_context(|| sections)?;
        is_locked(&lab, &gateway, "fan-out", "")?;
    }
    Ok(())
}

#[test]
fn who_uses_up_a_quota_is_locked() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _servers = servers(&lab)?;
    let quotas = "quotas: { period: 31d, limits: { messages: 1 } }\n";
    let gateway = Gateway::start(&lab, &settings("rate-limit", quotas))?;
    let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
    client.send(&message::clean("the only one"))?;
    client.send(END)?;
    client.expect(250)?;
    client.send(b"MAIL FROM:<sender@client.example>\r\n")?;
    client.expect(450)?;
    is_locked(&lab, &gateway, "rate-limit", "messages")
}
