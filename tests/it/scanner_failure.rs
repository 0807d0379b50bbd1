//! Messages without a verdict: the scanner is down, is silent, or is asked for too much.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use gateway_tests::client::{Client, Reply};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message;
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::wait;

/// Sends one message through a gateway with these settings; returns the reply and what arrived.
fn send(
    settings: impl FnOnce(&Lab) -> anyhow::Result<Settings>,
    octets: &[u8],
) -> anyhow::Result<(Reply, Vec<Vec<u8>>)> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let _gateway = Gateway::start(&lab, &settings(&lab)?)?;
    let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
    client.send(octets)?;
    client.send(message::END)?;
    Ok((client.reply()?, server.messages()))
}

/// A scanner whose socket is not there.
fn absent(lab: &Lab, on_failure: &'static str) -> Settings {
    let address = format!("unix:{}", lab.directory().join("nobody-listens.sock").display());
    Settings { clamd_keys: vec![("on-failure", on_failure)], ..Settings::scanning(address) }
}

#[test]
fn without_clamd_a_message_is_deferred() -> anyhow::Result<()> {
    let (reply, arrived) = send(|lab| Ok(absent(lab, "tempfail")), &message::clean("no clamd"))?;
    assert_eq!(reply.code, 451, "{reply}");
    assert!(reply.lines[0].starts_with("4.7.1 "), "{reply}");
    assert!(arrived.is_empty());
    Ok(())
}

#[test]
fn without_clamd_a_message_passes_where_that_is_configured() -> anyhow::Result<()> {
    let sent = message::clean("no clamd");
    let (reply, arrived) = send(|lab| Ok(absent(lab, "pass")), &sent)?;
    assert_eq!(reply.code, 250, "{reply}");
    assert!(arrived == [sent]);
    Ok(())
}

#[test]
fn without_clamd_a_message_is_refused_where_that_is_configured() -> anyhow::Result<()> {
    let (reply, arrived) = send(|lab| Ok(absent(lab, "reject")), &message::clean("no clamd"))?;
    assert!((550..560).contains(&reply.code), "{reply}");
    assert!(reply.lines[0].starts_with("5."), "{reply}");
    assert!(arrived.is_empty());
    Ok(())
}

#[test]
fn a_clamd_that_never_answers_is_given_up_at_the_scan_deadline() -> anyhow::Result<()> {
    silent_clamd(|settings| Settings { timeouts: vec![("scan", "2s")], ..settings })
}

#[test]
fn a_clamd_that_never_answers_is_given_up_at_its_own_deadline() -> anyhow::Result<()> {
    silent_clamd(|settings| Settings { clamd_keys: vec![("deadline", "2s")], ..settings })
}

/// A message is deferred soon, though its scanner says nothing.
fn silent_clamd(deadline: impl FnOnce(Settings) -> Settings) -> anyhow::Result<()> {
    let started = wait::now();
    let mut silent = None;
    let (reply, arrived) = send(
        |lab| {
            let path = lab.directory().join("silent.sock");
            silent = Some(UnixListener::bind(&path)?);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
            Ok(deadline(Settings::scanning(format!("unix:{}", path.display()))))
        },
        &message::clean("silent clamd"),
    )?;
    assert_eq!(reply.code, 451, "{reply}");
    assert!(reply.lines[0].starts_with("4.7.1 "), "{reply}");
    assert!(arrived.is_empty());
    assert!(started.elapsed() < Duration::from_secs(20));
    Ok(())
}

#[test]
fn clamd_that_comes_back_is_used_again() -> anyhow::Result<()> {
    let bench = crate::bench::Bench::new()?;
    let crate::bench::Bench { gateway: _gateway, server, mut clamd, lab } = bench;
    clamd.stop()?;
    let try_one = |subject: &str| -> anyhow::Result<Reply> {
        let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
        client.send(&message::clean(subject))?;
        client.send(message::END)?;
        client.reply()
    };
    assert_eq!(try_one("while clamd is down")?.code, 451);
    let _again = gateway_tests::clamd::Clamd::start(&lab)?;
    wait::until(Duration::from_secs(15), "use of the clamd that is back", || {
        Ok((try_one("after clamd is back")?.code == 250).then_some(()))
    })?;
    assert_eq!(server.messages().len(), 1);
    Ok(())
}

/// A message above `max-size`, with this `on-too-large`.
fn too_large(on_too_large: Option<&'static str>) -> anyhow::Result<(Reply, usize)> {
    let bench = crate::bench::Bench::with(
        |settings| {
            let mut clamd_keys = vec![("max-size", "100KiB")];
            clamd_keys.extend(on_too_large.map(|choice| ("on-too-large", choice)));
            Settings { clamd_keys, ..settings }
        },
        Manners::default(),
    )?;
    let mut client = bench.up_to_data()?;
    client.send(&message::large("too large", 300_000, 3))?;
    client.send(message::END)?;
    Ok((client.reply()?, bench.server.messages().len()))
}

#[test]
fn a_message_too_large_to_scan_is_refused_unless_configured_otherwise() -> anyhow::Result<()> {
    let (reply, arrived) = too_large(None)?;
    assert_eq!(reply.code, 552, "{reply}");
    assert!(reply.lines[0].starts_with("5.3.4 "), "{reply}");
    assert_eq!(arrived, 0);
    let (reply, arrived) = too_large(Some("tempfail"))?;
    assert!((400..500).contains(&reply.code), "{reply}");
    assert_eq!(arrived, 0);
    let (reply, arrived) = too_large(Some("pass"))?;
    assert_eq!(reply.code, 250, "{reply}");
    assert_eq!(arrived, 1);
    Ok(())
}
