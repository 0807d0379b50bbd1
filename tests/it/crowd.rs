//! More clients than are served, and a machine that has too much to do: who is told to come back later.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::client::{Client, Reply};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::{load, process, wait};
use nix::unistd::Pid;

use crate::bench::from;

const SOON: Duration = Duration::from_secs(20);

/// What a client of this address reads first.
fn arrives(lab: &Lab, address: &str, server: SocketAddr) -> anyhow::Result<(Client, Reply)> {
    let address: IpAddr = address.parse()?;
    let mut client = Client::over(from(lab, address, server)?)?;
    let reply = client.reply().with_context(|| format!("from {address}"))?;
    Ok((client, reply))
}

fn limited(limits: &[(&'static str, &'static str)], more: &str) -> Settings {
    Settings { limits: limits.to_vec(), more: more.to_owned(), ..Settings::default() }
}

#[test]
fn each_address_and_all_together_have_a_limit() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    for number in 3..6 {
        lab.client().ip(&format!("address add 192.0.2.{number}/24 dev eth0"))?;
    }
    let messages = "messages: { max-per-host: One each, max-reached: Full house }\n";
    let settings = limited(&[("sessions", "3"), ("sessions-per-client", "1")], messages);
    let gateway = Gateway::start(&lab, &settings)?;
    let smtp = Family::V4.smtp();
    let (first, reply) = arrives(&lab, "192.0.2.2", smtp)?;
    assert_eq!(reply.code, 220, "{reply}");
    let (mut refused, reply) = arrives(&lab, "192.0.2.2", smtp)?;
    assert_eq!((reply.code, reply.lines.concat().as_str()), (421, "4.7.0 gateway.example One each"));
    assert_eq!(refused.rest(SOON)?, b"");
    let others = [arrives(&lab, "192.0.2.3", smtp)?, arrives(&lab, "192.0.2.4", smtp)?];
    assert!(others.iter().all(|(_, reply)| reply.code == 220));
    let (_, reply) = arrives(&lab, "192.0.2.5", smtp)?;
    assert_eq!((reply.code, reply.lines.concat().as_str()), (421, "4.3.2 gateway.example Full house"));
    drop(first);
    wait::until(SOON, "room for one more", || {
        Ok((arrives(&lab, "192.0.2.5", smtp)?.1.code == 220).then_some(()))
    })?;
    gateway.wait_for_log("too many open sessions from this address")?;
    Ok(())
}

#[test]
fn a_network_of_clients_shares_a_limit_in_both_families() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _servers = [
        Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?,
        Recorder::start(lab.server(), Family::V6.smtp(), Manners::default())?,
    ];
    // Neighbours within the prefix, and a client beyond it behind the same link.
    lab.client().ip("address add 192.0.2.200/24 dev eth0")?;
    lab.client().ip("address add 2001:db8:1::ffff:9/64 dev eth0 nodad")?;
    lab.client().ip("address add 203.0.113.9/32 dev eth0")?;
    lab.router().ip("route add 203.0.113.0/24 via 192.0.2.2")?;
    lab.client().ip("address add 2001:db8:9::9/128 dev eth0 nodad")?;
    lab.router().ip("route add 2001:db8:9::/48 via 2001:db8:1::2")?;
    let gateway = Gateway::start(
        &lab,
        &limited(&[("sessions-per-prefix", "1")], "messages: { max-per-prefix: One each }\n"),
    )?;
    for (family, client, neighbour, stranger) in [
        (Family::V4, "192.0.2.2", "192.0.2.200", "203.0.113.9"),
        (Family::V6, "2001:db8:1::2", "2001:db8:1::ffff:9", "2001:db8:9::9"),
    ] {
        let (first, reply) = arrives(&lab, client, family.smtp())?;
        assert_eq!(reply.code, 220, "{reply}");
        let (_, reply) = arrives(&lab, neighbour, family.smtp())?;
        assert_eq!(reply.code, 421, "{reply}");
        assert!(reply.contains("4.7.0 gateway.example One each"), "{reply}");
        let (_stranger, reply) = arrives(&lab, stranger, family.smtp())?;
        assert_eq!(reply.code, 220, "{reply}");
        drop(first);
        wait::until(SOON, "room in the network", || {
            Ok((arrives(&lab, neighbour, family.smtp())?.1.code == 220).then_some(()))
        })?;
    }
    gateway.wait_for_log("too many open sessions from this network")?;
    Ok(())
}

#[test]
fn with_too_much_load_new_sessions_are_put_off_and_open_ones_go_on() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &limited(&[("max-load", "10000")], ""))?;
    let (mut open, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    load::raise_above(0.1)?;
    gateway.write_settings(&limited(&[("max-load", "0.01")], "messages: { system-load: Busy }\n"))?;
    gateway.hang_up()?;
    gateway.wait_for_log("configuration reloaded")?;
    let mut client = Client::connect(lab.client(), Family::V4.smtp())?;
    let reply = client.expect(421)?;
    assert_eq!(reply.lines, ["4.3.2 gateway.example Busy"]);
    assert_eq!(client.rest(SOON)?, b"");
    gateway.wait_for_log("the load average is ")?;
    open.send(b"NOOP\r\n")?;
    open.expect(250)?;
    assert_eq!(server.connections().len(), 1, "nobody was connected for the client that was put off");
    Ok(())
}

/// Leaves a process one descriptor besides those that it has open at the moment.
fn leave_one_descriptor(pid: Pid) -> anyhow::Result<()> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?.collect::<Result<Vec<_>, _>>()?;
    let taken: BTreeSet<u32> =
        entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let second = (0..).filter(|number| !taken.contains(number)).nth(1).context("no number is free")?;
    let (pid, limit) = (pid.to_string(), format!("--nofile={second}:"));
    // As the process itself: nobody needs a capability for that.
    let itself = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"];
    process::done(Command::new("setpriv").args(itself).args(["prlimit", "--pid", &pid, &limit]))?;
    Ok(())
}

/// Connects until a client reads that nothing is left: what the gateway had open when it was counted,
/// for a moment, is a descriptor more.
fn wait_until_nothing_is_left(lab: &Lab, gateway: &Gateway, server: SocketAddr) -> anyhow::Result<()> {
    wait::until(Duration::from_secs(60), "a shortage", || {
        leave_one_descriptor(gateway.proxy()?)?;
        let reply = Client::connect(lab.client(), server)?.reply()?;
        Ok((reply.lines == ["4.3.2 gateway.example Nothing left"] && reply.code == 421).then_some(()))
    })
}

#[test]
fn without_a_descriptor_for_the_server_the_client_is_told_to_come_back() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &limited(&[], "messages: { no-resources: Nothing left }\n"))?;
    wait_until_nothing_is_left(&lab, &gateway, Family::V4.smtp())
}

#[test]
fn without_a_descriptor_for_the_lookup_the_client_is_told_to_come_back() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let listener: SocketAddr = "198.51.100.3:10025".parse()?;
    let more = format!(
        "listen: ['{listener}']\n\
         lookup: {{ format: smtp-gated, secret: '0x1', server: 192.0.2.2, tries: 1, deadline: 200ms }}\n\
         messages: {{ no-resources: Nothing left }}\n"
    );
    let settings = Settings { origin: "remote-udp", source_address: "gateway", more, ..Settings::default() };
    let gateway = Gateway::start_inside(lab.server(), &lab, &settings)?;
    wait_until_nothing_is_left(&lab, &gateway, listener)
}
