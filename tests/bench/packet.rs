//! What the kernel program costs by the packet, and an idle session that it carries by the entry.
//!
//! `cargo xtask bench packet` runs this and makes a table of it: one JSON object on standard output.
//! Packets go through `BPF_PROG_TEST_RUN`, which does everything but hand a packet to a socket or an
//! interface.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway::clock;
use gateway::config::file::{Clients, Intercept};
use gateway::datapath::attach::Role;
use gateway::datapath::flow_table::{FlowTable, key};
use gateway::datapath::object::{Kernel, Settings};
use gateway::datapath::{sweep, verified};
use gateway::privilege;
use gateway_common::translation::{End, Translation};
use gateway_tests::lab::{Family, LAN, Lab, WAN};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

/// Runs over one packet: each takes one from its time to live, as routers do.
const RUNS: u32 = 200;
/// Packets in a round.
const PACKETS: u32 = 100;
/// Sessions that the kernel carries and in which nothing passes.
const IDLE: u32 = 200_000;
/// No port of a mail server.
const ELSEWHERE: u16 = 80;

fn main() -> anyhow::Result<()> {
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(7);
    let lab = Lab::new()?;
    let found = lab.router().enter(|| measure(&lab, rounds))??;
    Ok(writeln!(std::io::stdout(), "{found}")?)
}

fn measure(lab: &Lab, rounds: u32) -> anyhow::Result<serde_json::Value> {
    let settings = Settings::from(&Intercept::default());
    // With the capabilities of the gateway: for root the kernel leaves out guards against speculation.
    let mut kernel = lab.router().enter(|| {
        privilege::narrow()?;
        anyhow::Ok(Kernel::load(&settings)?)
    })??;
    kernel.set_ports(&[25])?;
    let interface = kernel.attach(LAN, Role { client: true, bridge_mac: None })?.index();
    let other_side = kernel.attach(WAN, Role::default())?.index();
    // As every gateway does, limits or none: what clients carry is counted.
    let (mut accounts, _) = kernel.accounts().context("the accounts are taken")?;
    accounts.configure(&Clients::default())?;
    let mut table = kernel.flow_table().context("the table is taken")?;
    neighbours(lab)?;
    let (mut rows, mut sockets) = (Vec::new(), Vec::new());
    for family in [Family::V4, Family::V6] {
        let version = if family == Family::V4 { "v4" } else { "v6" };
        let client = |port| SocketAddr::new(family.client(), port);
        rows.push((format!("unrelated_{version}"), packet(client(1), at(family, ELSEWHERE)), "other_port"));
        rows.push((format!("bypassed_{version}"), packet(client(2), family.smtp()), "no_socket"));
        let (from, to, kept) = established(family, settings.own_mark)?;
        sockets.push(kept);
        rows.push((format!("established_{version}"), packet(from, to), "socket_vanished"));
        hand_off(&mut table, client(3), family.smtp())?;
        // A direction learns from the first packet of the other one.
        kernel.time(&packet(family.smtp(), client(3)), other_side, 1)?;
        rows.push((format!("handed_off_{version}"), packet(client(3), family.smtp()), "redirected"));
    }
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (name, packet, reason) in &rows {
            let before = count(&kernel, reason)?;
            let mut took = Duration::ZERO;
            for _ in 0..PACKETS {
                took += kernel.time(packet, interface, RUNS)?;
            }
            let judged = count(&kernel, reason)? - before;
            ensure!(judged == u64::from(RUNS * PACKETS), "{name}: {judged} were {reason}");
            let mean = took.as_secs_f64() * 1e9 / f64::from(PACKETS);
            values.entry(name.clone()).or_default().push(mean);
        }
    }
    let order: Vec<_> = rows.into_iter().map(|(name, ..)| name).collect();
    let verified = kernel.verified_instructions()?.map(|(name, followed)| json!([name, followed]));
    let recorded = verified::RECORDED.map(|(name, followed)| json!([name, followed]));
    let idle = idle(&mut table)?;
    Ok(json!({ "order": order, "packet": values, "verified": verified, "recorded": recorded, "idle": idle }))
}

fn at(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.server(), port)
}

/// Makes the router and its neighbours know each other, as they do on a router at work.
fn neighbours(lab: &Lab) -> anyhow::Result<()> {
    for family in [Family::V4, Family::V6] {
        let listener = lab.server().enter(|| TcpListener::bind(at(family, ELSEWHERE)))??;
        lab.client().enter(|| TcpStream::connect(at(family, ELSEWHERE)))??;
        drop(listener);
    }
    Ok(())
}

fn count(kernel: &Kernel, reason: &str) -> anyhow::Result<u64> {
    let found = kernel.counters()?.into_iter().find(|(name, _)| *name == reason);
    found.map(|(_, count)| count).context("no such reason")
}

/// A connection of the gateway's, and from and to where its packets come in.
fn established(
    family: Family,
    own_mark: u32,
) -> anyhow::Result<(SocketAddr, SocketAddr, (TcpStream, Socket))> {
    let here: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let address = SocketAddr::new(here, 25);
    let listener = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    listener.set_mark(own_mark)?;
    listener.bind(&address.into())?;
    listener.listen(1)?;
    let client = TcpStream::connect(address)?;
    let (accepted, _) = listener.accept()?;
    Ok((client.local_addr()?, address, (client, accepted)))
}

/// Entries as after a handoff that preserved address and port.
fn hand_off(table: &mut FlowTable, client: SocketAddr, server: SocketAddr) -> anyhow::Result<()> {
    let (up, down, now) = (key(client, server), key(server, client), clock::monotonic());
    let end = End { write: 5, expected: 9, their_scale: 7, our_scale: 9, clock: Some(1) };
    table.set(&up, Translation::watch(&down, true, now).forwarding(&end, &end))?;
    Ok(table.set(&down, Translation::watch(&up, false, now).forwarding(&end, &end))?)
}

/// An Ethernet frame: a segment with timestamps (RFC 7323 section 3.2, with their padding) and 64
/// octets of data.
fn packet(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let segment: u16 = 32 + 64;
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend([0x08, 0x00, 0x45, 0]);
            bytes.extend((20 + segment).to_be_bytes());
            bytes.extend([0, 1, 0x40, 0, u8::MAX, 6, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            bytes.extend(segment.to_be_bytes());
            bytes.extend([6, u8::MAX]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        _ => {}
    }
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend([0, 0, 0, 9, 0, 0, 0, 5, 0x80, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend([1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 0, 1]);
    bytes.extend([b'x'; 64]);
    bytes
}

/// What idle sessions cost that the kernel carries: their entries are written directly.
fn idle(table: &mut FlowTable) -> anyhow::Result<serde_json::Value> {
    let before = (resident()?, map_bytes()?);
    for number in 0..IDLE {
        let [a, b, c, d] = number.to_be_bytes();
        let client = SocketAddr::new(Ipv4Addr::new(10 + a, b, c, d).into(), 1025);
        hand_off(table, client, Family::V4.smtp())?;
    }
    let began = clock::now();
    let ended = sweep::sweep(table, Duration::from_secs(3600), clock::monotonic(), None).ended;
    let took = began.elapsed();
    ensure!(ended.is_empty(), "{} were swept", ended.len());
    let after = (resident()?, map_bytes()?);
    let each = |before: u64, after: u64, parts: u32| {
        #[expect(clippy::cast_precision_loss, reason = "a measurement")]
        let more = after.saturating_sub(before) as f64;
        more / f64::from(parts)
    };
    Ok(json!({
        "sessions": IDLE,
        "user_bytes_per_session": each(before.0, after.0, IDLE),
        "map_bytes_per_direction": each(before.1, after.1, 2 * IDLE),
        "sweep_seconds": took.as_secs_f64(),
    }))
}

/// Octets of this process that are in memory (proc(5)).
fn resident() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok(kibibytes.context("no VmRSS")?.parse::<u64>()? * 1024)
}

/// Octets that the maps of this process take in the kernel (`Documentation/bpf/maps.rst`).
fn map_bytes() -> anyhow::Result<u64> {
    let mut octets = 0;
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // A descriptor may be gone by the time it is looked at.
        let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
        let of_map = info.contains("map_type:");
        let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse::<u64>().ok());
        octets += bytes.filter(|_| of_map).unwrap_or(0);
    }
    Ok(octets)
}
