//! A new process takes over from the one that runs: by command, by signal, under load, and not at
//! all when it is no good.

mod crowd;
mod locks;
mod records;

use std::fs;
use std::io::{IoSliceMut, Read as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::{self, Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::{process, wait};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::unistd::Pid;

use crate::direct::{echo, ping, started, wait_until_direct};
use crate::survive::{beside_transfer, left_behind, records, through};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where a gateway with `origin: fixed` listens.
const FIXED: &str = "192.0.2.1:2525";

pub(crate) fn fixed() -> Settings {
    let origin = "fixed\nlisten: [\"192.0.2.1:2525\"]\nfixed-server: \"198.51.100.2:25\"";
    Settings { origin, source_address: "gateway", ..Settings::default() }
}

pub(crate) fn fixed_address() -> SocketAddr {
    FIXED.parse().expect("an address")
}

/// Upgrades a gateway under a session that the kernel carries; the last process hands off, too.
fn upgrade_under_transfer(attach: &'static str, family: Family) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, family.smtp())?;
    let before = left_behind(&lab)?;
    let mut gateway = Gateway::start(&lab, &through(attach))?;
    let first = started(&lab, family.smtp())?;
    wait_until_direct(&lab, &first)?;
    beside_transfer(&first, |transfer| {
        for upgrade in 1..=3 {
            gateway.upgrade(&[])?;
            transfer.goes_on(&format!("transfer after upgrade {upgrade}"))?;
        }
        // What the kernel carries keeps no process.
        wait::until(PATIENCE, "end of the old ones", || Ok((gateway.alive().len() == 1).then_some(())))?;
        transfer.goes_on("transfer without the process that began it")
    })?;
    let second = started(&lab, family.smtp())?;
    wait_until_direct(&lab, &second)?;
    ping(&second, 11)?;
    second.shutdown(Shutdown::Write)?;
    ensure!((&second).read(&mut [0])? == 0);
    // The record of a session of a process that has left, and of one of the process that serves.
    let records = || records(&gateway);
    wait::until(PATIENCE, "two records", || Ok((records().len() == 2).then_some(())))?;
    assert_eq!(records().iter().filter(|record| record.contains("taken_over=true")).count(), 1);
    gateway.stop()?;
    assert_eq!(left_behind(&lab)?, before);
    Ok(())
}

#[test]
fn a_session_that_the_kernel_carries_goes_on_through_upgrades_with_tcx() -> anyhow::Result<()> {
    upgrade_under_transfer("tcx", Family::V4)
}

#[test]
fn a_session_that_the_kernel_carries_goes_on_through_upgrades_with_clsact() -> anyhow::Result<()> {
    upgrade_under_transfer("clsact", Family::V6)
}

/// The part of a message that is on its way while the gateway changes.
const HALF: &[u8] = b"Subject: half\r\n\r\nfirst half\r\n";

fn status(gateway: &Gateway) -> anyhow::Result<String> {
    let (done, said) = gateway.control_command("status")?;
    ensure!(done, "{said}");
    Ok(said)
}

/// Messages whose first half one process has and whose second half comes when another one serves.
fn open_sessions_go_on(settings: &Settings, target: SocketAddr) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(
        lab.server(),
        if target.is_ipv6() { target } else { Family::V4.smtp() },
        Manners::default(),
    )?;
    let mut gateway = Gateway::start(&lab, settings)?;
    let mut sessions = Vec::new();
    for draining in ["draining   1 process, 1 session", "draining   2 processes, 2 sessions"] {
        let mut client = Client::up_to_data(lab.client(), target)?;
        client.send(HALF)?;
        sessions.push(client);
        gateway.upgrade(&[])?;
        // An old process takes what knocks until it has heard that it is to drain; then it counts.
        wait::until(PATIENCE, "count of what drains", || {
            Ok(status(&gateway)?.contains(draining).then_some(()))
        })
        .with_context(|| format!("{:?}\n{}", status(&gateway), gateway.daemon().log_tail()))?;
    }
    assert_eq!(gateway.alive().len(), 3);
    let mut third = Client::up_to_data(lab.client(), target)?;
    // The older they are the later they end.
    for left in [2, 1] {
        let mut client = sessions.pop().context("two")?;
        client.send(b"second half\r\n.\r\n")?;
        client.expect(250)?;
        drop(client);
        wait::until(PATIENCE, "end of an old process", || Ok((gateway.alive().len() == left).then_some(())))?;
    }
    wait::until(PATIENCE, "a status without them", || {
        Ok((!status(&gateway)?.contains("draining")).then_some(()))
    })?;
    third.send(HALF)?;
    third.send(b"second half\r\n.\r\n")?;
    third.expect(250)?;
    drop(third);
    assert_eq!(server.messages().len(), 3);
    gateway.stop()?;
    assert!(!gateway.control().exists());
    Ok(())
}

#[test]
fn open_sessions_go_on_through_two_upgrades_and_keep_their_processes() -> anyhow::Result<()> {
    open_sessions_go_on(&fixed(), fixed_address())
}

#[test]
fn sessions_that_the_kernel_program_has_steered_go_on_like_others() -> anyhow::Result<()> {
    open_sessions_go_on(&Settings::default(), Family::V4.smtp())?;
    open_sessions_go_on(&Settings { source_address: "gateway", ..Settings::default() }, Family::V6.smtp())
}

#[test]
fn a_stop_takes_along_what_still_drains() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let mut gateway = Gateway::start(&lab, &fixed())?;
    let first = gateway.serving();
    let mut client = Client::up_to_data(lab.client(), fixed_address())?;
    client.send(HALF)?;
    gateway.upgrade(&[])?;
    let proxies = [Gateway::proxy_of(first)?, gateway.proxy()?];
    gateway.stop()?;
    // Like a session of the one that serves, it is told before it is cut off.
    let rest = client.rest(PATIENCE)?;
    assert!(rest.starts_with(b"421 "), "{:?}", String::from_utf8_lossy(&rest));
    for proxy in proxies {
        assert!(!Path::new(&format!("/proc/{proxy}")).exists());
    }
    Ok(())
}

#[test]
fn the_death_of_either_process_does_not_concern_the_other() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let mut gateway = Gateway::start(&lab, &fixed())?;
    let mut client = Client::up_to_data(lab.client(), fixed_address())?;
    client.send(HALF)?;
    let first = gateway.serving();
    gateway.upgrade(&[])?;
    // The old one dies with its session; the new one serves on.
    kill(first, Signal::SIGKILL)?;
    wait::until(PATIENCE, "end of the session", || Ok(client.rest(PATIENCE).is_ok().then_some(())))?;
    let mut client = Client::up_to_data(lab.client(), fixed_address())?;
    client.send(HALF)?;
    gateway.upgrade(&[])?;
    // The new one dies; the old one finishes what it has.
    kill(gateway.serving(), Signal::SIGKILL)?;
    gateway.wait_for_log("the process that took over is gone")?;
    client.send(b"second half\r\n.\r\n")?;
    client.expect(250)?;
    drop(client);
    assert_eq!(server.messages().len(), 1);
    wait::until(PATIENCE, "end of all", || Ok(gateway.alive().is_empty().then_some(())))
}

/// A file that root may start.
fn program(folder: &Path, text: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join("program");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[test]
fn whatever_is_wrong_with_the_new_one_the_old_one_goes_on_and_says_why() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &fixed())?;
    let proxy = gateway.proxy()?;
    let mut client = Client::up_to_data(lab.client(), fixed_address())?;
    let refused = |arguments: &[&str], why: &str| -> anyhow::Result<()> {
        let (done, said) = gateway.control_command_with("upgrade", arguments)?;
        ensure!(!done && said.contains(why), "expected `{why}`: {said}");
        ensure!(gateway.proxy()? == proxy, "another proxy");
        Client::up_to_data(lab.client(), fixed_address()).map(drop)
    };
    let failing = program(lab.directory(), "#!/bin/sh\nexit 1\n")?;
    let failing = failing.to_str().context("text")?;
    refused(&["--binary", failing], "does not say that it is the gateway")?;
    refused(&["--binary", "/bin/true"], "does not say that it is the gateway")?;
    refused(&["--binary", "/nonexistent"], "cannot open /nonexistent")?;
    fs::set_permissions(failing, fs::Permissions::from_mode(0o777))?;
    refused(&["--binary", failing], "chmod go-w")?;
    gateway.write_config("nmae: gateway.example\n")?;
    refused(&[], "gateway.yaml:1:1")?;
    gateway.write_settings(&Settings { origin: "netfilter", ..fixed() })?;
    refused(&[], "`origin` cannot change while the gateway runs")?;
    // The new proxy finds its folder readable by others, and does not start.
    fs::set_permissions(gateway.spool(), fs::Permissions::from_mode(0o755))?;
    gateway.write_settings(&Settings { clamd: Some("tcp:127.0.0.1:9".to_owned()), ..fixed() })?;
    refused(&[], "the proxy process did not start")?;
    client.send(HALF)?;
    client.send(b"second half\r\n.\r\n")?;
    client.expect(250)?;
    assert_eq!(server.messages().len(), 1);
    assert!(gateway.control().exists());
    assert_eq!(gateway.alive(), [gateway.daemon().pid()]);
    Ok(())
}

/// The service manager's end of `sd_notify(3)`.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> anyhow::Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self(socket))
    }

    /// The next message that is not a sign of life, with its sender.
    fn next(&self) -> anyhow::Result<(Pid, String)> {
        loop {
            let mut octets = [0; 4096];
            let mut slices = [IoSliceMut::new(&mut octets)];
            let mut space = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
            let received =
                recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())
                    .context("no message")?;
            let sender = received.cmsgs()?.find_map(|message| {
                let ControlMessageOwned::ScmCredentials(who) = message else { return None };
                Some(Pid::from_raw(who.pid()))
            });
            let length = received.bytes;
            let text = String::from_utf8_lossy(octets.get(..length).unwrap_or_default()).trim().to_owned();
            if text != "WATCHDOG=1" {
                return Ok((sender.context("no sender")?, text));
            }
        }
    }
}

#[test]
fn a_service_manager_that_hears_the_main_process_only_follows_every_change() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let manager = Manager::listen(&lab.directory().join("notify"))?;
    let binary = lab.directory().join("gateway-binary");
    let install = || -> anyhow::Result<()> {
        // As packages do: a new file takes the name of the old one.
        let new = lab.directory().join("gateway-new");
        // A process of its own: a program cannot be started while anybody has it open for writing,
        // and for a moment every process that another test starts has what this one has open.
        process::done(Command::new("cp").arg(gateway::binary()?).arg(&new))?;
        fs::rename(new, &binary)?;
        Ok(())
    };
    install()?;
    let notify = lab.directory().join("notify");
    let notify = notify.to_str().context("text")?;
    let environment = [("NOTIFY_SOCKET", notify), ("WATCHDOG_USEC", "30000000")];
    let mut gateway = Gateway::start_binary(&binary, &lab, &fixed(), &environment)?;
    let mut main = gateway.serving();
    assert_eq!(manager.next()?, (main, "READY=1".to_owned()));

    // The same file: the configuration is read again.
    gateway.hang_up()?;
    let (sender, text) = manager.next()?;
    assert!(sender == main && text.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{text}");
    assert_eq!(manager.next()?, (main, "READY=1".to_owned()));
    assert_eq!(gateway.alive(), [main]);

    for signal in [Signal::SIGHUP, Signal::SIGUSR2] {
        if signal == Signal::SIGHUP {
            install()?;
        }
        gateway.signal(signal)?;
        gateway.follow()?;
        let (sender, text) = manager.next()?;
        assert!(sender == main && text.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{text}");
        // The old one names the new one: from then on that one is heard, and only that one.
        let mut news = [manager.next()?, manager.next()?];
        news.sort_by_key(|(sender, _)| *sender != main);
        let new = gateway.serving();
        assert_eq!(news, [(main, format!("MAINPID={new}\nREADY=1")), (new, "READY=1".to_owned())]);
        main = new;
        let parent = fs::read_to_string(format!("/proc/{main}/stat"))?;
        let parent = parent.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        assert_eq!(parent, Some("1"), "its end must reach the service manager");
        assert_eq!(fs::read_link(format!("/proc/{main}/exe"))?, binary);
    }
    gateway.stop()?;
    assert_eq!(manager.next()?, (main, "STOPPING=1".to_owned()));
    Ok(())
}
