//! One record for each session that the kernel carried, whole, whichever process handed it off and
//! whichever saw its end.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::wait;
use nix::sys::signal::{Signal, kill};

use super::PATIENCE;
use crate::direct::{echo, greeted, ping, say_hello, settings, start_tls, wait_until_direct};
use crate::router;
use crate::survive::{field, records, shown};

/// A client with this port of its own, even if it has just had it; 0: any.
fn connect(lab: &Lab, port: u16) -> anyhow::Result<TcpStream> {
    let from = SocketAddr::new(Family::V4.client(), port);
    router::connect_again(lab.client(), from, Family::V4.smtp())
}

fn begin_tls(stream: &TcpStream, server_name: &str) -> anyhow::Result<()> {
    start_tls(stream)?;
    say_hello(stream, server_name)
}

fn close(stream: TcpStream) -> anyhow::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    ensure!((&stream).read(&mut [0])? == 0, "octets behind the end");
    Ok(())
}

/// Closes it without a word to the server's end but a reset.
fn abort(stream: TcpStream) -> anyhow::Result<()> {
    Ok(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?)
}

fn wait_for_records(gateway: &Gateway, number: usize) -> anyhow::Result<Vec<String>> {
    wait::until(PATIENCE, "the records", || Ok((records(gateway).len() >= number).then_some(())))
        .with_context(|| gateway.log())?;
    let found = records(gateway);
    ensure!(found.len() == number, "{found:?}");
    Ok(found)
}

/// The record that says this of its TLS.
fn record_of<'a>(records: &'a [String], server_name: &str) -> anyhow::Result<&'a str> {
    let mut found = records.iter().filter(|record| record.contains(&format!("server_name={server_name}")));
    match (found.next(), found.next()) {
        (Some(record), None) => Ok(record),
        other => anyhow::bail!("{server_name}: {other:?} of {records:?}"),
    }
}

#[test]
fn a_record_is_whole_and_the_only_one_whoever_hands_off_and_whoever_sees_the_end() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    let mut gateway = Gateway::start(&lab, &settings("preserve"))?;
    let first = connect(&lab, 0)?;
    greeted(&first)?;
    begin_tls(&first, "first.example")?;
    wait_until_direct(&lab, &first)?;
    let (id, _) = shown(&gateway)?;
    // The old process hands this one off when it has long been told to drain.
    let second = connect(&lab, 0)?;
    greeted(&second)?;
    let opened = wait::now();
    gateway.upgrade(&[])?;
    assert_eq!(gateway.alive().len(), 2);
    begin_tls(&second, "second.example")?;
    wait_until_direct(&lab, &second)?;
    wait::until(PATIENCE, "end of the old process", || Ok((gateway.alive().len() == 1).then_some(())))?;
    // This proxy has learnt of both from others, the next one from it or from its file.
    kill(gateway.proxy()?, Signal::SIGKILL)?;
    gateway.wait_for_log("the proxy process died")?;
    wait::until(PATIENCE, "both in the list", || {
        let (_, list) = gateway.control_command("sessions")?;
        Ok((list.matches(" splice ").count() == 2 && list.contains(&id)).then_some(()))
    })
    .with_context(|| {
        gateway.control_command("sessions").map_or_else(|error| error.to_string(), |said| said.1)
    })?;
    gateway.upgrade(&[])?;
    for stream in [&first, &second] {
        ping(stream, 5)?;
    }
    let age = opened.elapsed();
    close(first)?;
    close(second)?;
    let records = wait_for_records(&gateway, 2)?;
    assert_eq!(field(record_of(&records, "first.example")?, "session")?, id);
    for name in ["first.example", "second.example"] {
        let record = record_of(&records, name)?;
        ensure!(record.contains("end=client") && record.contains("helo=client.example"), "{record}");
        ensure!(record.contains("taken_over=true"), "{record}");
        let time = Duration::from_millis(field(record, "time_ms")?.parse()?);
        ensure!(time + Duration::from_secs(1) >= age, "{time:?} of {age:?}: {record}");
        // EHLO, STARTTLS and the hello were before the handoff.
        ensure!(field(record, "from_client")?.parse::<u64>()? > 80, "{record}");
    }
    gateway.stop()
}

/// A client resets its session and comes again with the same port while the kernel still has the
/// first flow; in between, `work`.
fn comes_again(work: impl FnOnce(&mut Gateway) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    let mut gateway = Gateway::start(&lab, &Settings::default())?;
    let first = connect(&lab, 0)?;
    let port = first.local_addr()?.port();
    greeted(&first)?;
    begin_tls(&first, "first.example")?;
    wait_until_direct(&lab, &first)?;
    abort(first)?;
    let second = connect(&lab, port)?;
    greeted(&second)?;
    work(&mut gateway)?;
    begin_tls(&second, "second.example")?;
    wait_until_direct(&lab, &second)?;
    // The first one has given way.
    let records = wait_for_records(&gateway, 1)?;
    ensure!(record_of(&records, "first.example")?.contains("end=client"), "{records:?}");
    let known = || {
        let (_, list) = gateway.control_command("sessions")?;
        Ok((list.matches(" splice ").count() == 1).then_some(()))
    };
    wait::until(PATIENCE, "the second session", known)?;
    ping(&second, 9)?;
    close(second)?;
    let records = wait_for_records(&gateway, 2)?;
    record_of(&records, "second.example")?;
    let ids = records.iter().map(|record| field(record, "session")).collect::<Result<BTreeSet<_>, _>>()?;
    assert_eq!(ids.len(), 2, "{records:?}");
    gateway.stop()
}

#[test]
fn a_flow_that_gives_way_to_another_of_the_same_port_leaves_its_own_record() -> anyhow::Result<()> {
    comes_again(|_| Ok(()))
}

#[test]
fn a_flow_that_gives_way_in_a_process_that_drains_leaves_its_record_in_the_other() -> anyhow::Result<()> {
    comes_again(|gateway| gateway.upgrade(&[]).map(drop))
}
