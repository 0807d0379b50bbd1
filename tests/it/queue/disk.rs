//! A disk that is full, fails, hangs or is read-only: clients are told to try again, what was taken is delivered,
//! and what was refused is not.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::disk::Disk;
use gateway_tests::gateway::Gateway;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::process::Daemon;
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::senders::{self, Attempt, Senders};
use gateway_tests::wait;
use nix::unistd::Pid;

use super::killed::settings;
use super::{SOON, left_in, wait_until_empty};

/// Messages that are in the queue when the trouble begins.
const BEFORE: usize = 30;
/// Deliveries to one destination at once, which is the default.
const AT_ONCE: usize = 20;

/// A gateway on a disk of its own, with mail in the queue for a server that is not there yet.
struct Site<'l> {
    gateway: Gateway,
    senders: Senders<'l>,
    lab: &'l Lab,
    disk: &'l Disk,
}

impl<'l> Site<'l> {
    fn new(lab: &'l Lab, disk: &'l Disk, more: &str) -> anyhow::Result<Self> {
        let gateway = Gateway::start(lab, &settings(&disk.queue(), more))?;
        let senders = Senders::new(lab.client(), Family::V4.smtp());
        for _ in 0..BEFORE {
            let told = senders.send_one()?;
            ensure!(told == Attempt::Accepted, "{told:?}");
        }
        Ok(Self { gateway, senders, lab, disk })
    }

    /// Sends until a message is refused with this reply; the next ones are, too.
    fn refuses(&self, reply: &str) -> anyhow::Result<()> {
        wait::until(SOON, reply, || match self.senders.send_one()? {
            Attempt::Refused(said) => {
                ensure!(said.starts_with(reply), "{said}");
                Ok(Some(()))
            }
            Attempt::Accepted => Ok(None),
            Attempt::Lost(why) => Err(anyhow::anyhow!(why)),
        })
        .with_context(|| self.gateway.daemon().log_tail())?;
        for _ in 0..5 {
            let told = self.senders.send_one()?;
            let refused = matches!(&told, Attempt::Refused(said) if said.starts_with(reply));
            ensure!(refused, "{told:?}\n{}", self.gateway.daemon().log_tail());
        }
        Ok(())
    }

    /// Sends until a message is taken.
    fn recovers(&self) -> anyhow::Result<()> {
        wait::until(SOON, "recovery", || Ok((self.senders.send_one()? == Attempt::Accepted).then_some(())))
            .with_context(|| self.gateway.daemon().log_tail())
    }

    fn serve(&self) -> anyhow::Result<Recorder> {
        Recorder::start(self.lab.server(), Family::V4.second_smtp(), Manners::default())
    }

    fn delivers(&self, server: &Recorder, least: usize) -> anyhow::Result<()> {
        wait::until(SOON, &format!("{least} deliveries"), || Ok((server.count() >= least).then_some(())))
            .with_context(|| self.gateway.daemon().log_tail())
    }

    /// All that was taken was delivered, at most `doubled` of it twice, and nothing else was.
    fn settle(mut self, server: &Recorder, doubled: usize) -> anyhow::Result<()> {
        wait_until_empty(&self.gateway)?;
        self.gateway.stop()?;
        assert_eq!(left_in(self.lab, &self.disk.queue())?, []);
        let told = self.senders.told();
        let mut copies = BTreeMap::new();
        for message in server.messages() {
            *copies.entry(senders::id(&message).context("another message")?).or_insert(0_usize) += 1;
        }
        ensure!(told.doubtful.is_empty(), "{told:?}");
        let delivered: Vec<_> = copies.keys().collect();
        assert_eq!(delivered, told.accepted.iter().collect::<Vec<_>>(), "refused: {:?}", told.refused);
        let twice = copies.values().map(|copies| copies - 1).sum::<usize>();
        assert!(twice <= doubled, "{twice} delivered twice: {copies:?}");
        Ok(())
    }
}

#[test]
fn with_a_full_disk_mail_is_put_off_and_what_was_taken_is_delivered_at_once() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let disk = Disk::new(lab.directory().join("disk"))?;
    let site = Site::new(&lab, &disk, "")?;
    disk.fill()?;
    site.refuses("452 4.3.1")?;
    let server = site.serve()?;
    site.delivers(&server, BEFORE)?;
    disk.empty()?;
    site.recovers()?;
    site.settle(&server, 0)
}

#[test]
fn where_a_flush_finds_no_room_for_what_was_written_it_was_not_taken() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let disk = Disk::new(lab.directory().join("disk"))?;
    let site = Site::new(&lab, &disk, "")?;
    disk.fail_flushes()?;
    site.refuses("452 4.3.1")?;
    let server = site.serve()?;
    site.delivers(&server, BEFORE)?;
    disk.mend_flushes()?;
    site.recovers()?;
    site.settle(&server, 0)
}

#[test]
fn while_flushes_fail_mail_is_put_off_and_little_is_delivered_that_cannot_be_noted() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let disk = Disk::new(lab.directory().join("disk"))?;
    let site = Site::new(&lab, &disk, "")?;
    let mut faults = failing(&lab, site.gateway.proxy()?, "fdatasync,fsync", "EIO")?;
    site.refuses("451 4.3.0")?;
    let server = site.serve()?;
    site.gateway.wait_for_log("deliveries wait until the disk")?;
    site.refuses("451 4.3.0")?;
    assert!(server.count() <= AT_ONCE, "{} delivered that no disk knows of", server.count());
    faults.stop()?;
    site.recovers()?;
    site.settle(&server, 0)
}

/// Has these system calls of a process fail, until it is dropped.
fn failing(lab: &Lab, process: Pid, calls: &str, error: &str) -> anyhow::Result<Daemon> {
    let mut command = std::process::Command::new("strace");
    command.args(["-qq", "-f", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:error={error}"), "-p", &process.to_string()]);
    let mut strace = Daemon::start("strace", lab.directory(), &mut command)?;
    strace.wait_until(Duration::from_secs(60), |_| is_traced(process).unwrap_or(false))?;
    Ok(strace)
}

/// Whether all threads of a process are traced.
fn is_traced(process: Pid) -> anyhow::Result<bool> {
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        if status.lines().any(|line| line == "TracerPid:\t0") {
            return Ok(false);
        }
    }
    Ok(true)
}

#[test]
fn a_folder_that_cannot_be_written_is_in_use_again_when_it_can() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let disk = Disk::new(lab.directory().join("disk"))?;
    let site = Site::new(&lab, &disk, "")?;
    disk.set_immutable(true)?;
    site.refuses("451 4.3.0")?;
    let server = site.serve()?;
    site.gateway.wait_for_log("deliveries wait until the disk")?;
    site.refuses("451 4.3.0")?;
    assert!(server.count() <= AT_ONCE, "{} delivered that no disk knows of", server.count());
    disk.set_immutable(false)?;
    site.recovers()?;
    site.settle(&server, 0)
}

#[test]
fn a_file_system_that_turns_read_only_loses_nothing_and_is_repaired() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let disk = Disk::new(lab.directory().join("disk"))?;
    let mut site = Site::new(&lab, &disk, "")?;
    disk.break_down()?;
    site.refuses("451 4.3.0")?;
    let server = site.serve()?;
    site.gateway.wait_for_log("deliveries wait until the disk")?;
    site.refuses("451 4.3.0")?;
    // No process can use such a file system again before it was checked.
    site.gateway.stop()?;
    disk.take_away()?;
    disk.repair()?;
    site.gateway = Gateway::start(&lab, &settings(&disk.queue(), ""))?;
    site.recovers()?;
    site.settle(&server, AT_ONCE)
}

#[test]
fn a_file_system_that_was_repaired_under_a_gateway_that_runs_is_in_use_again() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let disk = Disk::new(lab.directory().join("disk"))?;
    let mut site = Site::new(&lab, &disk, "")?;
    let (device, proxy) = (disk.device()?, site.gateway.proxy()?);
    let journal = open_files(proxy, device)?;
    ensure!(journal > 0, "the queue is not on the disk");
    // Deliveries hold their messages, and wait for a server that says nothing.
    let silent = lab.server().enter(|| TcpListener::bind(Family::V4.second_smtp()))??;
    wait::until(SOON, "deliveries that wait", || Ok((open_files(proxy, device)? > journal).then_some(())))?;
    disk.break_down()?;
    site.refuses("451 4.3.0")?;
    disk.take_away()?;
    // Whoever has something open keeps it from being checked.
    wait::until(SOON, "a disk that nobody uses", || Ok((open_files(proxy, device)? == 0).then_some(())))
        .with_context(|| site.gateway.daemon().log_tail())?;
    site.gateway.wait_for_log("nothing is taken or delivered until it is back")?;
    site.refuses("451 4.3.0")?;
    drop(silent);
    let server = site.serve()?;
    disk.repair()?;
    site.gateway.follow()?;
    site.recovers()?;
    site.settle(&server, 0)
}

/// How many files of a device a process has open.
fn open_files(process: Pid, device: u64) -> anyhow::Result<usize> {
    let open = fs::read_dir(format!("/proc/{process}/fd"))?;
    // One may be closed meanwhile.
    let devices = open.filter_map(|entry| Some(fs::metadata(entry.ok()?.path()).ok()?.dev()));
    Ok(devices.filter(|found| *found == device).count())
}

#[test]
fn what_a_hanging_disk_took_too_long_to_take_is_not_delivered_when_it_answers() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let disk = Disk::new(lab.directory().join("disk"))?;
    let site = Site::new(&lab, &disk, "timeouts: {end-of-data: 2s}\n")?;
    disk.freeze()?;
    site.refuses("451 4.3.0")?;
    disk.thaw()?;
    site.recovers()?;
    let server = site.serve()?;
    site.settle(&server, 0)
}
