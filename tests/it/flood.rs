//! Floods of SYNs from sources that nobody has.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings, binary};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::{process, wait};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};

use crate::direct;
use crate::packet::{Frame, SYN, Tcp};

const PATIENCE: Duration = Duration::from_secs(30);

/// Sends SYNs to the server, each from another address in 10.0.0.0/8 (a Weyl sequence).
fn flood(lab: &Lab, number: u32) -> anyhow::Result<()> {
    lab.client().enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        let server = Ipv4Addr::new(198, 51, 100, 2);
        let to = SocketAddr::from((server, 0)).into();
        for place in 0..number {
            let [_, a, b, c] = place.wrapping_mul(0x009e_3779).to_be_bytes();
            let frame = Frame::v4(Ipv4Addr::new(10, a, b, c), server, Tcp::to(25, SYN));
            socket.send_to(&frame.checked(), &to)?;
        }
        anyhow::Ok(())
    })?
}

fn lab() -> anyhow::Result<Lab> {
    let lab = Lab::new()?;
    // Else reverse path filtering would stop the flood before the gateway does.
    lab.router().ip("route add 10.0.0.0/8 via 192.0.2.2")?;
    direct::echo(&lab, Family::V4.smtp())?;
    Ok(lab)
}

/// Processor time that a process has used, in ticks of a hundredth of a second.
fn ticks(pid: Pid) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").context("no end of the name")?.1;
    let fields: Vec<&str> = fields.split(' ').collect();
    Ok(fields.get(11).context("utime")?.parse::<u64>()? + fields.get(12).context("stime")?.parse::<u64>()?)
}

/// Resident memory in KiB.
fn resident(pid: Pid) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn lock(gateway: &Gateway, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(binary()?);
    process::done(command.arg("lock").args(arguments).arg("--socket").arg(gateway.control()))
}

/// How often the only lock has held.
fn hits(gateway: &Gateway) -> anyhow::Result<u64> {
    let list: serde_json::Value = serde_json::from_str(&lock(gateway, &["list", "--json"])?)?;
    list["locks"][0]["hits"].as_u64().with_context(|| list.to_string())
}

/// Packets of the client that the router's queue had no room for: no program has seen them.
fn lost(lab: &Lab) -> anyhow::Result<u64> {
    let said: serde_json::Value = serde_json::from_str(&lab.client().ip("-s -j link show dev eth0")?)?;
    said[0]["stats64"]["tx"]["dropped"].as_u64().with_context(|| said.to_string())
}

/// Waits until each of so many SYNs has met the only lock, but for those that were lost on the way.
fn wait_for_hits(lab: &Lab, gateway: &Gateway, sent: u32) -> anyhow::Result<()> {
    let arrived = || anyhow::Ok(u64::from(sent).saturating_sub(lost(lab)?));
    // The last ones may still be in a processor's queue.
    wait::until(PATIENCE, "all SYNs", || Ok((hits(gateway)? >= arrived()?).then_some(())))
        .with_context(|| format!("{:?} of {sent} SYNs, {:?} lost", hits(gateway), lost(lab)))?;
    ensure!(hits(gateway)? <= u64::from(sent), "counted more than there were");
    // Else nothing is shown.
    ensure!(arrived()? > u64::from(sent / 2), "hardly any SYN arrived");
    Ok(())
}

/// Sends a message in pieces as long as `goes_on` says, and counts them; returns its text.
fn send_slowly(
    client: &mut Client,
    goes_on: impl Fn() -> bool,
    pieces: &AtomicU64,
) -> anyhow::Result<Vec<u8>> {
    let mut text = b"Subject: slow\r\n\r\n".to_vec();
    client.send(&text)?;
    while goes_on() {
        let piece = b"a line of the message that is sent while others send SYNs\r\n".repeat(200);
        client.send(&piece)?;
        text.extend(piece);
        pieces.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(40));
    }
    client.send(b".\r\n")?;
    client.expect(250)?;
    // The last line end belongs to the end of the text.
    text.truncate(text.len() - 2);
    Ok(text)
}

#[test]
fn a_million_locked_syns_cost_user_space_nothing_and_stop_no_open_session() -> anyhow::Result<()> {
    const SYNS: u32 = 1_000_000;
    let lab = lab()?;
    let mail = Recorder::start(lab.server(), Family::V4.second_smtp(), Manners::default())?;
    let settings = Settings {
        splice: vec![("engine", "splice")],
        // A busy machine may take minutes for each flood, in which sessions are silent.
        timeouts: vec![("idle", "1h"), ("data-block", "1h")],
        ..Settings::default()
    };
    let gateway = Gateway::start(&lab, &settings)?;
    lock(&gateway, &["add", "10.0.0.0/8", "--action", "drop"])?;
    let mut inspected = Client::up_to_data(lab.client(), Family::V4.second_smtp())?;
    let spliced = direct::started(&lab, Family::V4.smtp())?;
    direct::bulk(&spliced, 100_000)?;
    let processes = [gateway.daemon().pid(), gateway.proxy()?];
    let used = || processes.iter().map(|pid| ticks(*pid)).sum::<anyhow::Result<u64>>();
    let taken = || processes.iter().map(|pid| resident(*pid)).sum::<anyhow::Result<u64>>();

    // With sessions that are open and silent, only the kernel works.
    let (before, began, memory) = (used()?, wait::now(), taken()?);
    flood(&lab, SYNS)?;
    let (after, took) = (used()?, began.elapsed());
    // What the two use while nothing happens: a few hundredths in each second.
    let idle = 20 + took.as_secs() * 10;
    ensure!(after - before <= idle, "{} ticks in {took:?}", after - before);
    wait_for_hits(&lab, &gateway, SYNS)?;
    let grown = taken()?.saturating_sub(memory);
    ensure!(grown < 4 * 1024, "{grown} KiB more");

    // With sessions in which octets pass, they go on passing.
    let (over, pieces, rounds) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let goes_on = || !over.load(Ordering::Relaxed);
    let text = thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let flooded = flood(&lab, SYNS);
            over.store(true, Ordering::Relaxed);
            flooded
        });
        let streaming = scope.spawn(|| {
            while goes_on() {
                direct::bulk(&spliced, 200_000)?;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        let text = send_slowly(&mut inspected, goes_on, &pieces);
        flooding.join().expect("does not panic")?;
        streaming.join().expect("does not panic").context("the spliced session")?;
        text.context("the inspected session")
    })
    .with_context(|| gateway.log())?;
    let (pieces, rounds) = (pieces.into_inner(), rounds.into_inner());
    ensure!(pieces >= 10 && rounds >= 10, "{pieces} pieces of a message, {rounds} rounds of octets");
    ensure!(mail.messages() == [text], "another message arrived");
    wait_for_hits(&lab, &gateway, 2 * SYNS)?;
    let grown = taken()?.saturating_sub(memory);
    ensure!(grown < 32 * 1024, "{grown} KiB more");
    Ok(())
}

#[test]
fn a_flood_from_everywhere_takes_no_memory_and_stops_nobody() -> anyhow::Result<()> {
    const SYNS: u32 = 200_000;
    let lab = lab()?;
    let gateway = Gateway::start(&lab, &direct::settings("preserve"))?;
    let carried = direct::started(&lab, Family::V4.smtp())?;
    direct::wait_until_direct(&lab, &carried)?;
    let rate = || {
        let began = wait::now();
        direct::bulk(&carried, 4_000_000)?;
        anyhow::Ok(4_000_000.0 / began.elapsed().as_secs_f64())
    };
    let processes = [gateway.daemon().pid(), gateway.proxy()?];
    let used = || processes.iter().map(|pid| resident(*pid)).sum::<anyhow::Result<u64>>();
    // The map of notes is full before the memory is measured.
    flood(&lab, 70_000)?;
    let (before, quiet) = (used()?, rate()?);
    let flooded = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&lab, SYNS));
        let mut slowest = f64::MAX;
        while !flooding.is_finished() {
            slowest = slowest.min(rate()?);
            // A new session gets through: it is answered with a cookie, if need be.
            drop(direct::started(&lab, Family::V4.smtp())?);
            thread::sleep(Duration::from_millis(50));
        }
        flooding.join().expect("does not panic")?;
        anyhow::Ok(slowest)
    })?;
    let after = used()?;
    ensure!(after < before + 32 * 1024, "from {before} to {after} KiB");
    // Flood and session share two processors with each other and with other tests.
    ensure!(flooded > quiet / 20.0, "{flooded:.0} octets a second under the flood, {quiet:.0} before");
    Ok(())
}
