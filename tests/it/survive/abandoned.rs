//! What stays pinned when a network namespace goes, and with it all that the kernel carried there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use gateway_tests::gateway::Gateway;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::{process, wait};
use nix::sys::signal::{Signal, kill};

use super::{PATIENCE, leave, left_behind, records, through};
use crate::direct::{bulk, echo, started, wait_until_direct};

/// What a gateway leaves that is killed while the kernel carries a session for it.
fn abandon(lab: &Lab, attach: &'static str) -> anyhow::Result<PathBuf> {
    echo(lab, Family::V4.smtp())?;
    let gateway = Gateway::start(lab, &through(attach))?;
    let stream = started(lab, Family::V4.smtp())?;
    wait_until_direct(lab, &stream)?;
    let proxy = gateway.proxy()?;
    kill(gateway.daemon().pid(), Signal::SIGKILL)?;
    leave(gateway)?;
    wait::until(PATIENCE, "end of the proxy", || {
        Ok((!Path::new(&format!("/proc/{proxy}")).exists()).then_some(()))
    })?;
    Ok(lab.router().pins())
}

#[test]
fn links_of_a_namespace_that_is_gone_are_removed_by_the_next_gateway_anywhere() -> anyhow::Result<()> {
    let gone = Lab::new()?;
    let pins = abandon(&gone, "tcx")?;
    let lab = Lab::new()?;
    Gateway::start(&lab, &through("tcx"))?.stop()?;
    ensure!(pins.exists(), "it is still there");
    process::done(Command::new("ip").args(["netns", "del", gone.router().name()]))?;
    // The kernel takes a namespace apart when it has the time.
    wait::until(PATIENCE, "removal of what is pinned", || {
        Gateway::start(&lab, &through("tcx"))?.stop()?;
        Ok((!pins.exists()).then_some(()))
    })
}

/// Removes the router's namespace, and waits until its interfaces are gone.
fn remove_router(lab: &Lab) -> anyhow::Result<()> {
    process::done(Command::new("ip").args(["netns", "del", lab.router().name()]))?;
    wait::until(PATIENCE, "end of the interfaces", || {
        let left = [lab.client(), lab.server()].map(|host| host.ip("link show eth0"));
        Ok(left.iter().all(Result::is_err).then_some(()))
    })
}

/// The kernel gives the number of a namespace that is gone to another one.
#[test]
fn what_another_namespace_left_under_the_same_number_keeps_no_gateway_from_working() -> anyhow::Result<()> {
    for attach in ["tcx", "clsact"] {
        let gone = Lab::new()?;
        let pins = abandon(&gone, attach)?;
        let lab = Lab::new()?;
        // An earlier namespace of this number may have left something, too.
        std::fs::remove_dir_all(lab.router().pins()).ok();
        // While it is there: what is pinned for a namespace that is gone, any gateway removes.
        std::fs::rename(&pins, lab.router().pins())?;
        remove_router(&gone)?;
        echo(&lab, Family::V4.smtp())?;
        let gateway = Gateway::start(&lab, &through(attach))?;
        let stream = started(&lab, Family::V4.smtp())?;
        wait_until_direct(&lab, &stream)?;
        bulk(&stream, 1_000_000)?;
        let (stopped, said) = gateway.control_command("stop --drop-flows")?;
        ensure!(stopped, "{said}");
        // One record each: of the session, and of the one that nobody carries any more.
        ensure!(records(&gateway).len() == 2, "{:?}", records(&gateway));
        assert_eq!(left_behind(&lab)?, "");
    }
    Ok(())
}
