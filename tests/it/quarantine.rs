//! Locks: clients that are held off in the kernel, or told so by the proxy.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway::config::file::{Attach, LockAction};
use gateway::datapath::object::Settings as KernelSettings;
use gateway::ipc::lock::Enforced;
use gateway_tests::gateway::{Gateway, Settings, binary};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::{process, wait};
use ipnet::IpNet;
use nix::sys::signal::{Signal, kill};

use crate::direct;
use crate::router::{self, FAMILIES, Router, on_router};

const PATIENCE: Duration = Duration::from_secs(20);

/// How an attempt of the client to connect ends; `Ok`: it does connect.
pub(crate) fn attempt(lab: &Lab, server: SocketAddr) -> anyhow::Result<Result<TcpStream, ErrorKind>> {
    let tried = lab.client().enter(|| TcpStream::connect_timeout(&server, Duration::from_millis(700)))?;
    Ok(tried.map_err(|error| error.kind()))
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn set(
    router: &mut Router<'_>,
    text: &str,
    action: LockAction,
    left: Option<Duration>,
) -> anyhow::Result<()> {
    Ok(router.kernel.quarantine().set(&Enforced { net: net(text), action, left })?)
}

/// The client's own address, and a network around it.
const LOCKED: [(Family, [&str; 2]); 2] =
    [(Family::V4, ["192.0.2.2/32", "192.0.0.0/16"]), (Family::V6, ["2001:db8:1::2/128", "2001:db8:1::/64"])];

fn held_off(settings: &KernelSettings) -> anyhow::Result<()> {
    on_router(settings, |mut router| {
        let lab = router.lab;
        for (family, nets) in LOCKED {
            for text in nets {
                let server = family.smtp();
                ensure!(attempt(lab, server)?.is_ok(), "{text}: not open before");
                set(&mut router, text, LockAction::Reset, None)?;
                ensure!(attempt(lab, server)?.err() == Some(ErrorKind::ConnectionRefused), "{text}");
                ensure!(attempt(lab, server)?.err() == Some(ErrorKind::ConnectionRefused), "{text}");
                let hits = router.kernel.quarantine().hits(net(text));
                ensure!(hits.count == 2 && hits.ago.is_some(), "{hits:?}");

                // The count goes on when a lock is changed.
                set(&mut router, text, LockAction::Drop, None)?;
                ensure!(attempt(lab, server)?.err() == Some(ErrorKind::TimedOut), "{text}");
                ensure!(router.kernel.quarantine().hits(net(text)).count == 3);

                // The proxy is asked, which in this test lets everybody in.
                set(&mut router, text, LockAction::Reject, None)?;
                ensure!(attempt(lab, server)?.is_ok(), "{text}");
                ensure!(router.kernel.quarantine().hits(net(text)).count == 4);
                router.kernel.quarantine().remove(net(text))?;
                ensure!(attempt(lab, server)?.is_ok(), "{text}: not open afterwards");
            }
        }
        ensure!(router.count("lock_reset")? == 8);
        ensure!(router.count("locked")? == 4);
        ensure!(router.count("lock_rejected")? == 4);
        Ok(())
    })
}

#[test]
fn a_locked_client_is_dropped_reset_or_handed_to_the_proxy() -> anyhow::Result<()> {
    held_off(&router::settings())
}

#[test]
fn filters_in_a_qdisc_hold_off_too() -> anyhow::Result<()> {
    held_off(&KernelSettings { attach: Attach::Clsact, ..router::settings() })
}

#[test]
fn a_lock_that_has_expired_is_none_and_the_one_around_it_still_holds() -> anyhow::Result<()> {
    on_router(&router::settings(), |mut router| {
        let (lab, server) = (router.lab, Family::V4.smtp());
        set(&mut router, "192.0.2.2/32", LockAction::Reset, Some(Duration::from_secs(2)))?;
        ensure!(attempt(lab, server)?.err() == Some(ErrorKind::ConnectionRefused));
        wait::until(PATIENCE, "the end of the lock", || Ok(attempt(lab, server)?.ok()))?;
        let hits = router.kernel.quarantine().hits(net("192.0.2.2/32")).count;
        set(&mut router, "192.0.2.0/24", LockAction::Reset, None)?;
        ensure!(attempt(lab, server)?.err() == Some(ErrorKind::ConnectionRefused));
        ensure!(router.kernel.quarantine().hits(net("192.0.2.2/32")).count == hits);
        ensure!(router.kernel.quarantine().hits(net("192.0.2.0/24")).count == 1);
        Ok(())
    })
}

#[test]
fn no_lock_touches_what_is_exempt() -> anyhow::Result<()> {
    on_router(&router::settings(), |mut router| {
        let lab = router.lab;
        set(&mut router, "0.0.0.0/0", LockAction::Drop, None)?;
        set(&mut router, "2001:db8:1::2/128", LockAction::Drop, None)?;
        router.kernel.quarantine().set_exempt(vec![net("192.0.2.0/24")])?;
        router.kernel.quarantine().exempt_too(vec![net("2001:db8:1::/64")])?;
        for family in FAMILIES {
            ensure!(attempt(lab, family.smtp())?.is_ok(), "{family:?}");
        }
        router.kernel.quarantine().set_exempt(Vec::new())?;
        ensure!(attempt(lab, Family::V4.smtp())?.err() == Some(ErrorKind::TimedOut));
        Ok(())
    })
}

#[test]
fn what_is_told_anew_replaces_all_locks() -> anyhow::Result<()> {
    on_router(&router::settings(), |mut router| {
        let lab = router.lab;
        set(&mut router, "192.0.2.0/24", LockAction::Reset, None)?;
        set(&mut router, "2001:db8:1::/64", LockAction::Reset, None)?;
        router.kernel.quarantine().begin();
        set(&mut router, "2001:db8:1::/64", LockAction::Reset, None)?;
        router.kernel.quarantine().complete()?;
        ensure!(attempt(lab, Family::V4.smtp())?.is_ok());
        ensure!(attempt(lab, Family::V6.smtp())?.err() == Some(ErrorKind::ConnectionRefused));
        Ok(())
    })
}

/// Runs `gateway lock …`.
pub(crate) fn lock(gateway: &Gateway, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(binary()?);
    command.arg("lock").args(arguments).arg("--socket").arg(gateway.control());
    process::done(&mut command)
}

/// What the client reads first.
pub(crate) fn greeting(lab: &Lab, server: SocketAddr) -> anyhow::Result<String> {
    // A lost SYN is sent again after one second and after three.
    let stream = lab.client().enter(|| TcpStream::connect_timeout(&server, PATIENCE))??;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

#[test]
fn an_operator_locks_and_unlocks_and_the_lock_outlives_both_processes() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for family in FAMILIES {
        direct::echo(&lab, family.smtp())?;
    }
    let mut gateway = Gateway::start(&lab, &Settings::default())?;
    let server = Family::V4.smtp();
    ensure!(greeting(&lab, server)?.starts_with("220"));

    lock(&gateway, &["add", "192.0.2.2", "--for", "1h", "--action", "reject", "--cause", "spam"])?;
    let line = greeting(&lab, server)?;
    ensure!(line.starts_with("421 4.7.0 gateway.example"), "{line}");
    lock(&gateway, &["add", "192.0.2.2", "--forever", "--action", "reject"])?;
    let line = greeting(&lab, server)?;
    ensure!(line.starts_with("554 5.7.1 gateway.example"), "{line}");
    ensure!(greeting(&lab, Family::V6.smtp())?.starts_with("220"));

    lock(&gateway, &["add", "192.0.2.2", "--forever", "--action", "reset", "--cause", "caught twice"])?;
    ensure!(attempt(&lab, server)?.err() == Some(ErrorKind::ConnectionRefused));
    let list = lock(&gateway, &["list"])?;
    ensure!(list.contains("caught twice") && list.contains("for ever"), "{list}");
    ensure!(list.lines().any(|line| line.contains("192.0.2.2 ") && line.contains(" 3 ")), "{list}");

    // Whoever has read that it is set may rely on it.
    let proxy = gateway.proxy()?;
    kill(proxy, Signal::SIGKILL)?;
    ensure!(attempt(&lab, server)?.err() == Some(ErrorKind::ConnectionRefused), "while there is no proxy");
    wait::until(PATIENCE, "another proxy", || {
        Ok(gateway.proxy().ok().filter(|pid| *pid != proxy).map(drop))
    })?;
    wait::until(PATIENCE, "the control socket", || {
        Ok(lock(&gateway, &["list"]).ok().filter(|list| list.contains("caught twice")).map(drop))
    })?;
    ensure!(attempt(&lab, server)?.err() == Some(ErrorKind::ConnectionRefused));

    gateway.restart(&lab, &Settings::default())?;
    wait::until(PATIENCE, "the lock again", || {
        Ok((attempt(&lab, server)?.err() == Some(ErrorKind::ConnectionRefused)).then_some(()))
    })?;
    lock(&gateway, &["remove", "192.0.2.2"])?;
    ensure!(greeting(&lab, server)?.starts_with("220"));
    ensure!(lock(&gateway, &["remove", "192.0.2.2"]).is_err(), "removed twice");
    ensure!(lock(&gateway, &["add", "nonsense"]).is_err());
    Ok(())
}

#[test]
fn a_lock_that_cuts_ends_what_is_open_and_one_that_does_not_leaves_it() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    direct::echo(&lab, Family::V4.smtp())?;
    let gateway = Gateway::start(&lab, &direct::settings("preserve"))?;
    let carried = direct::started(&lab, Family::V4.smtp())?;
    direct::wait_until_direct(&lab, &carried)?;
    let inspected = attempt(&lab, Family::V4.smtp())?.map_err(|error| anyhow::anyhow!("{error}"))?;
    inspected.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(&inspected);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    ensure!(line.starts_with("220"), "{line}");

    lock(&gateway, &["add", "192.0.2.0/24"])?;
    ensure!(attempt(&lab, Family::V4.smtp())?.err() == Some(ErrorKind::ConnectionRefused));
    direct::ping(&carried, 9).context("an open session after a lock without --cut")?;
    lock(&gateway, &["add", "192.0.2.0/24", "--cut"])?;
    let error = (&carried).read(&mut [0]).err().context("no reset")?;
    ensure!(error.kind() == ErrorKind::ConnectionReset, "{error}");
    gateway.wait_for_log("end=locked")?;
    line.clear();
    lines.read_line(&mut line)?;
    ensure!(line.starts_with("421"), "{line}");
    Ok(())
}
