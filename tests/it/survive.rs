//! Sessions that the kernel carries outlive the gateway's processes.

mod abandoned;
mod letter;

use std::io::Read as _;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{self, Gateway, Settings};
use gateway_tests::lab::{Family, LAN, Lab, WAN};
use gateway_tests::{process, wait};
use nix::sys::signal::{Signal, kill};

use crate::direct::{bulk, echo, ping, settings, started, wait_until_direct};

const PATIENCE: Duration = Duration::from_secs(60);
/// Octets of one round of a transfer, which are compared when they come back.
const ROUND: usize = 100_000;

/// A transfer both ways that goes on until it is told to end.
pub(crate) struct Transfer<'a> {
    rounds: &'a AtomicU64,
}

impl Transfer<'_> {
    /// Waits for three rounds that began after this call or were under way.
    pub(crate) fn goes_on(&self, when: &str) -> anyhow::Result<()> {
        let before = self.rounds.load(Ordering::Relaxed);
        wait::until(PATIENCE, when, || Ok((self.rounds.load(Ordering::Relaxed) >= before + 3).then_some(())))
    }
}

/// Runs `work` beside a transfer through `stream`; then closes it in good order.
pub(crate) fn beside_transfer(
    stream: &TcpStream,
    work: impl FnOnce(&Transfer<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (rounds, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let transfer = scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                bulk(stream, ROUND)?;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        let worked = work(&Transfer { rounds: &rounds });
        enough.store(true, Ordering::Relaxed);
        let transferred = transfer.join().expect("does not panic");
        worked.and(transferred.context("the transfer"))
    })?;
    stream.shutdown(Shutdown::Write)?;
    let mut stream = stream;
    ensure!(stream.read(&mut [0])? == 0, "octets behind the end");
    Ok(())
}

/// Filters of the router, by which a program that stays behind is seen; TCX links are seen by their names.
pub(crate) fn left_behind(lab: &Lab) -> anyhow::Result<String> {
    let mut left = Vec::new();
    for interface in [LAN, WAN] {
        for way in ["ingress", "egress"] {
            let mut tc = lab.router().command("tc");
            left.push(process::done(tc.args(["filter", "show", "dev", interface, way]))?);
        }
    }
    left.push(lab.router().ip("rule")?.lines().filter(|rule| rule.contains("fwmark")).collect());
    if lab.router().pins().exists() {
        left.push(lab.router().pins().display().to_string());
    }
    Ok(left.concat())
}

pub(crate) fn through(attach: &'static str) -> Settings {
    Settings { intercept: vec![("attach", attach)], ..settings("preserve") }
}

/// The lines of all records of sessions that the kernel carried.
pub(crate) fn records(gateway: &Gateway) -> Vec<String> {
    let log = gateway.log();
    log.lines().filter(|line| line.contains("packets_from_client")).map(str::to_owned).collect()
}

/// What stands behind `key=` in a line of the log.
pub(crate) fn field<'a>(line: &'a str, key: &str) -> anyhow::Result<&'a str> {
    let rest = line.split(&format!(" {key}=")).nth(1).with_context(|| format!("no {key} in {line}"))?;
    Ok(rest.split(' ').next().unwrap_or(rest))
}

/// Waits until the gateway shows exactly one session, which is carried by the kernel; says its name
/// and the octets from the client, as shown.
pub(crate) fn shown(gateway: &Gateway) -> anyhow::Result<(String, String)> {
    wait::until(PATIENCE, "a session in the list", || {
        let (_, list) = gateway.control_command("sessions")?;
        let rows: Vec<Vec<&str>> = list.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
        Ok(match rows.as_slice() {
            [row] if row.get(3) == Some(&"splice") => Some((row[0].to_owned(), row[6].to_owned())),
            _ => None,
        })
    })
}

/// The octets shown of the one session change while it runs.
fn is_counted_live(gateway: &Gateway) -> anyhow::Result<()> {
    let (_, before) = shown(gateway)?;
    wait::until(PATIENCE, "octets in the list", || Ok((shown(gateway)?.1 != before).then_some(())))
}

/// Ends a gateway, and what it wrote is read no more.
fn leave(gateway: Gateway) -> anyhow::Result<()> {
    gateway.daemon().forget_log()
}

fn goes_on_through_all(attach: &'static str, family: Family) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, family.smtp())?;
    let gateway = Gateway::start(&lab, &through(attach))?;
    let stream = started(&lab, family.smtp())?;
    wait_until_direct(&lab, &stream)?;
    let mut last = None;
    beside_transfer(&stream, |transfer| {
        is_counted_live(&gateway)?;
        kill(gateway.proxy()?, Signal::SIGKILL)?;
        transfer.goes_on("transfer without a proxy")?;
        wait::until(PATIENCE, "restart of the proxy", || {
            Ok((gateway.log().matches("msg=intercepting").count() == 2).then_some(()))
        })?;
        transfer.goes_on("transfer with a new proxy")?;
        is_counted_live(&gateway)?;

        kill(gateway.daemon().pid(), Signal::SIGKILL)?;
        leave(gateway)?;
        transfer.goes_on("transfer without a gateway")?;
        let mut gateway = Gateway::start(&lab, &through(attach))?;
        gateway.wait_for_log("taking over what the kernel carries")?;
        transfer.goes_on("transfer with a new gateway")?;
        is_counted_live(&gateway)?;

        gateway.stop()?;
        gateway.wait_for_log("the kernel goes on carrying these")?;
        ensure!(records(&gateway).is_empty(), "it has not ended: {:?}", records(&gateway));
        transfer.goes_on("transfer after a stop")?;
        leave(gateway)?;

        let upgraded = lab.directory().join("gateway-upgraded");
        std::fs::copy(gateway::binary()?, &upgraded)?;
        let object = gateway::binary()?.with_file_name("gateway-ebpf.o");
        std::fs::copy(object, lab.directory().join("gateway-ebpf.o"))?;
        let gateway = Gateway::start_binary(&upgraded, &lab, &through(attach), &[])?;
        transfer.goes_on("transfer with a new binary")?;
        is_counted_live(&gateway)?;
        last = Some(gateway);
        Ok(())
    })?;
    let mut gateway = last.context("no gateway")?;
    // New sessions are taken as ever, and each leaves one record.
    let another = started(&lab, family.smtp())?;
    wait_until_direct(&lab, &another)?;
    another.shutdown(Shutdown::Write)?;
    ensure!((&another).read(&mut [0])? == 0);
    wait::until(PATIENCE, "the end of both flows", || Ok((records(&gateway).len() == 2).then_some(())))?;
    gateway.stop()?;
    let records = records(&gateway);
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(records.iter().all(|record| record.contains("end=client")), "{records:?}");
    assert_eq!(records.iter().filter(|record| record.contains("taken_over=true")).count(), 1, "{records:?}");
    assert_eq!(left_behind(&lab)?, "");
    Ok(())
}

#[test]
fn a_transfer_goes_on_through_kills_a_restart_and_a_new_binary() -> anyhow::Result<()> {
    goes_on_through_all("tcx", Family::V4)?;
    goes_on_through_all("tcx", Family::V6)
}

#[test]
fn a_transfer_goes_on_in_a_clsact_qdisc_too() -> anyhow::Result<()> {
    goes_on_through_all("clsact", Family::V4)
}

#[test]
fn flows_of_another_version_keep_a_gateway_from_starting_and_what_carries_none_is_removed()
-> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    let mut gateway = Gateway::start(&lab, &through("tcx"))?;
    let stream = started(&lab, Family::V4.smtp())?;
    wait_until_direct(&lab, &stream)?;
    gateway.stop()?;
    let pins = lab.router().pins();
    let own = std::fs::read_dir(&pins)?.next().context("nothing is pinned")??.path();
    std::fs::rename(&own, pins.join("abi-0"))?;
    let refused = Gateway::start(&lab, &through("tcx")).map(drop).expect_err("it starts").to_string();
    ensure!(refused.contains("carries 1 flow for a gateway whose program speaks version 0"), "{refused}");
    ensure!(refused.contains("gateway stop --drop-flows"), "{refused}");
    ping(&stream, 3).context("the flow goes on")?;
    // What the message says to do.
    let mut stop = lab.router().host_command(gateway::binary()?.to_str().context("a path that is not text")?);
    let said = process::done(stop.args(["stop", "--drop-flows", "--socket"]).arg(gateway.control()))?;
    ensure!(said.contains("ended 1 session that the kernel carried"), "{said}");
    assert_eq!(left_behind(&lab)?, "");
    wait::until(PATIENCE, "a reset", || Ok(ping(&stream, 1).is_err().then_some(())))?;
    gateway.daemon().forget_log()?;
    Gateway::start(&lab, &through("tcx"))?.stop()
}

#[test]
fn a_gateway_that_is_told_to_drop_flows_writes_their_records_and_leaves_nothing() -> anyhow::Result<()> {
    for attach in ["tcx", "clsact"] {
        let lab = Lab::new()?;
        echo(&lab, Family::V4.smtp())?;
        let gateway = Gateway::start(&lab, &through(attach))?;
        let stream = started(&lab, Family::V4.smtp())?;
        wait_until_direct(&lab, &stream)?;
        ping(&stream, 1)?;
        let (stopped, said) = gateway.control_command("stop --drop-flows")?;
        ensure!(stopped, "{said}");
        let records = records(&gateway);
        ensure!(records.len() == 1 && records[0].contains("end=shutdown"), "{records:?}");
        ensure!(
            records[0].contains("lane=splice") && !records[0].contains("packets_from_client=0 "),
            "{records:?}"
        );
        assert_eq!(left_behind(&lab)?, "");
        // Nobody renumbers any more, and no end knows what the other one says.
        wait::until(PATIENCE, "a reset", || Ok(ping(&stream, 1).is_err().then_some(())))?;
    }
    Ok(())
}

#[test]
fn an_operator_ends_a_session_that_an_earlier_gateway_left_to_the_kernel() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    let gateway = Gateway::start(&lab, &through("tcx"))?;
    let stream = started(&lab, Family::V4.smtp())?;
    wait_until_direct(&lab, &stream)?;
    let (stopped, said) = gateway.control_command("stop --keep-flows")?;
    ensure!(stopped, "{said}");
    leave(gateway)?;
    let gateway = Gateway::start(&lab, &through("tcx"))?;
    let (id, _) = shown(&gateway)?;
    let (done, said) = gateway.control_command(&format!("sessions kill {id}"))?;
    ensure!(done, "{said}");
    wait::until(PATIENCE, "a reset", || Ok(ping(&stream, 1).is_err().then_some(())))?;
    wait::until(PATIENCE, "the record", || Ok((records(&gateway).len() == 1).then_some(())))?;
    ensure!(records(&gateway)[0].contains("end=operator"), "{:?}", records(&gateway));
    Ok(())
}
