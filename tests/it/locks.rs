//! Clients that are locked for what they do, and what becomes of them then.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message::{self, END};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::wait;
use nix::sys::signal::{Signal, kill};

use crate::bench::Bench;
use crate::quarantine::{attempt, greeting, lock};

/// Sends a virus in a session of its own and reads the refusal.
fn send_virus(bench: &Bench) -> anyhow::Result<()> {
    let mut client = bench.up_to_data()?;
    client.send(&message::infected("from a machine that has it"))?;
    client.send(END)?;
    client.expect(550).map(drop)
}

/// Waits until the kernel, which is told of an offender a moment later, resets new flows.
fn until_reset(lab: &Lab) -> anyhow::Result<()> {
    let reset = wait::until(Duration::from_secs(20), "a reset", || {
        let tried = attempt(lab, Family::V4.smtp())?;
        Ok((tried.err() == Some(ErrorKind::ConnectionRefused)).then_some(()))
    });
    reset.map(drop)
}

fn locking(keys: &str) -> impl FnOnce(Settings) -> Settings {
    let more = format!("locks: {{{keys}}}\n");
    move |settings| Settings { more, ..settings }
}

#[test]
fn a_client_that_sent_a_virus_is_locked_and_its_other_session_passes_nothing_more() -> anyhow::Result<()> {
    let bench = Bench::with(locking("lock-on: [virus], action: reject, for: 1h"), Manners::default())?;
    let mut parallel = bench.up_to_data()?;
    parallel.send(&message::clean("in parallel"))?;
    send_virus(&bench)?;

    let line = greeting(&bench.lab, Family::V4.smtp())?;
    ensure!(line.starts_with("421 4.7.0 gateway.example"), "{line}");
    parallel.send(END)?;
    let reply = parallel.expect(421)?;
    ensure!(reply.contains("4.7.0"), "{reply}");
    for connection in bench.seen()? {
        ensure!(connection.messages.is_empty(), "the server has a message of a locked client");
    }
    let list = lock(&bench.gateway, &["list"])?;
    let line = list.lines().find(|line| line.starts_with("192.0.2.2 ")).unwrap_or_default();
    ensure!(line.contains("reject") && line.contains("virus") && line.contains("Eicar"), "{list}");
    bench.gateway.wait_for_log("end=locked")?;

    lock(&bench.gateway, &["remove", "192.0.2.2"])?;
    let mut client = bench.up_to_data()?;
    client.send(&message::clean("afterwards"))?;
    client.send(END)?;
    client.expect(250)?;
    Ok(())
}

#[test]
fn a_cause_has_a_lock_of_its_own_which_the_kernel_enforces() -> anyhow::Result<()> {
    let keys = "lock-on: [virus], action: reject, by-cause: [{cause: virus, for: forever, action: reset}]";
    let mut bench = Bench::with(locking(keys), Manners::default())?;
    let mut parallel = bench.up_to_data()?;
    parallel.send(&message::clean("in parallel"))?;
    send_virus(&bench)?;
    until_reset(&bench.lab)?;
    // No other try can help.
    parallel.send(END)?;
    let reply = parallel.expect(554)?;
    ensure!(reply.contains("5.7.1"), "{reply}");
    drop(parallel);

    bench.gateway.restart(&bench.lab, &Settings::scanning(bench.clamd.address()))?;
    let list = lock(&bench.gateway, &["list"])?;
    ensure!(list.contains("for ever") && list.contains("virus"), "{list}");
    until_reset(&bench.lab)
}

#[test]
fn what_an_operator_exempts_is_never_locked_and_no_lock_around_it_counts() -> anyhow::Result<()> {
    let mut bench = Bench::with(locking("lock-on: [virus], action: reset"), Manners::default())?;
    let exempt = lock(&bench.gateway, &["exempt", "192.0.2.0/28"])?;
    ensure!(exempt == "192.0.2.0/28\n", "{exempt}");
    send_virus(&bench)?;
    lock(&bench.gateway, &["add", "192.0.2.0/24"])?;
    ensure!(lock(&bench.gateway, &["add", "192.0.2.2"]).is_err());
    send_virus(&bench)?;
    let list = lock(&bench.gateway, &["list"])?;
    ensure!(!list.contains("virus"), "{list}");

    let settings = locking("lock-on: [virus]")(Settings::scanning(bench.clamd.address()));
    bench.gateway.restart(&bench.lab, &settings)?;
    send_virus(&bench)?;
    lock(&bench.gateway, &["exempt", "192.0.2.0/28", "--remove"])?;
    ensure!(lock(&bench.gateway, &["exempt", "192.0.2.0/28", "--remove"]).is_err(), "removed twice");
    until_reset(&bench.lab)
}

/// What a release that kept locks in a file has left of a lock and of an exemption.
const EARLIER: &str = r#"{"locks":[{"who":"192.0.2.2","action":"reset","cause":"virus","detail":"Eicar",
    "session":null,"since":5,"until":null,"offences":1,"refused":0}],"exempt":["10.0.0.0/8"]}"#;

#[test]
fn locks_of_an_earlier_release_are_imported_once() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let mut gateway = Gateway::start(&lab, &Settings::default())?;
    Client::greeted(lab.client(), Family::V4.smtp())?;
    let file = gateway.spool().join("locks.json");
    fs::write(&file, EARLIER)?;

    gateway.restart(&lab, &Settings::default())?;
    until_reset(&lab)?;
    let line = listed(&gateway, "192.0.2.2")?;
    ensure!(line.contains("virus") && line.contains("Eicar"), "{line}");
    gateway.wait_for_log("locks of an earlier release are in the state store")?;
    ensure!(!file.exists() && gateway.spool().join("locks.json.imported").exists());

    gateway.upgrade(&[])?;
    until_reset(&lab)?;
    lock(&gateway, &["remove", "192.0.2.2"])?;
    let proxy = gateway.proxy()?;
    kill(proxy, Signal::SIGKILL)?;
    wait::until(Duration::from_secs(60), "another proxy", || {
        Ok(gateway.proxy().ok().filter(|pid| *pid != proxy).map(drop))
    })?;
    gateway.restart(&lab, &Settings::default())?;
    Client::greeted(lab.client(), Family::V4.smtp())?;
    let exempt = lock(&gateway, &["exempt"])?;
    ensure!(exempt == "10.0.0.0/8\n", "{exempt}");
    Ok(())
}

/// The line of the list about this client or network.
fn listed(gateway: &Gateway, who: &str) -> anyhow::Result<String> {
    let list = lock(gateway, &["list"])?;
    let line = list.lines().find(|line| line.split(' ').next() == Some(who));
    Ok(line.with_context(|| list.clone())?.to_owned())
}

#[test]
fn an_early_talker_and_a_filtered_sender_are_locked_one_with_its_ipv6_network() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    // One that never greets cannot be faster than the client.
    let _silent =
        Recorder::start(lab.server(), Family::V4.smtp(), Manners { greets: false, ..Manners::default() })?;
    let _polite = Recorder::start(lab.server(), Family::V6.smtp(), Manners::default())?;
    let more = "locks: {lock-on: [early-talk, regex], action: reject}\n\
                filters: {mail: {reject: ['^spammer@']}}\n";
    let inspect = vec![("early-talk", "refuse")];
    let gateway = Gateway::start(&lab, &Settings { inspect, more: more.to_owned(), ..Settings::default() })?;

    let mut client = Client::connect(lab.client(), Family::V4.smtp())?;
    client.send(b"EHLO client.example\r\n")?;
    client.expect(554)?;
    let line = greeting(&lab, Family::V4.smtp())?;
    ensure!(line.starts_with("421 4.7.0"), "{line}");
    ensure!(listed(&gateway, "192.0.2.2")?.contains("early-talk"));

    let (mut client, _) = Client::greeted(lab.client(), Family::V6.smtp())?;
    client.send(b"MAIL FROM:<spammer@client.example>\r\n")?;
    client.expect(550)?;
    let line = greeting(&lab, Family::V6.smtp())?;
    ensure!(line.starts_with("421 4.7.0"), "{line}");
    let line = listed(&gateway, "2001:db8:1::/64")?;
    ensure!(line.contains("regex") && line.contains("sender"), "{line}");
    Ok(())
}

#[test]
fn a_lock_ends_by_itself_after_its_time() -> anyhow::Result<()> {
    let bench = Bench::with(locking("lock-on: [virus], action: reject, for: 10s"), Manners::default())?;
    send_virus(&bench)?;
    let line = greeting(&bench.lab, Family::V4.smtp())?;
    ensure!(line.starts_with("421 4.7.0"), "{line}");
    wait::until(Duration::from_secs(60), "the end of the lock", || {
        Ok(greeting(&bench.lab, Family::V4.smtp())?.starts_with("220").then_some(()))
    })?;
    wait::until(Duration::from_secs(60), "its end in the list", || {
        Ok((!lock(&bench.gateway, &["list"])?.contains("192.0.2.2")).then_some(()))
    })
}

#[test]
fn a_client_with_too_many_sessions_is_locked() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let more = "locks: {lock-on: [max-host], action: reset}\n".to_owned();
    let limits = vec![("sessions-per-client", "2")];
    let gateway = Gateway::start(&lab, &Settings { limits, more, ..Settings::default() })?;
    let _first = Client::greeted(lab.client(), Family::V4.smtp())?;
    let _second = Client::greeted(lab.client(), Family::V4.smtp())?;
    let line = greeting(&lab, Family::V4.smtp())?;
    ensure!(line.starts_with("421 4.7.0"), "{line}");
    until_reset(&lab)?;
    ensure!(listed(&gateway, "192.0.2.2")?.contains("max-host"));
    Ok(())
}
