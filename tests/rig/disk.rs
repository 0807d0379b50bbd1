//! A small disk of a test's own, which can fill up, hang and fail: ext4 on a loop device whose file lies in a
//! small file system in memory.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{User, chown};

use crate::process;

/// Octets of memory that the disk may take.
const MEMORY: &str = "size=16m,mode=0700";
/// Octets that it claims to have.
const CLAIMED: u64 = 64 * 1024 * 1024;

/// A mounted disk; it is gone when dropped. Whoever has files on it is to end before.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
    memory: PathBuf,
}

impl Disk {
    /// Makes a disk and mounts it at `place`, which is made. Its `queue` folder belongs to the proxy's account.
    ///
    /// # Errors
    ///
    /// When there is no loop device, or no `mkfs.ext4`.
    pub fn new(place: PathBuf) -> anyhow::Result<Self> {
        let memory = place.with_extension("memory");
        fs::create_dir(&place)?;
        fs::create_dir(&memory)?;
        mount(Some("tmpfs"), &memory, Some("tmpfs"), MsFlags::empty(), Some(MEMORY)).context("mount(2)")?;
        let disk = Self { place, memory };
        fs::File::create(disk.image())?.set_len(CLAIMED)?;
        // Without a journal of its own a failed flush is no reason to stop for good; nothing is kept for root.
        let mut mkfs = Command::new("mkfs.ext4");
        process::done(mkfs.args(["-q", "-m", "0", "-O", "^has_journal"]).arg(disk.image()))?;
        disk.mount()?;
        let queue = disk.queue();
        fs::create_dir(&queue)?;
        fs::set_permissions(&queue, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let account = User::from_name("nobody")?.context("no account `nobody`")?;
        chown(&queue, Some(account.uid), Some(account.gid))?;
        Ok(disk)
    }

    /// A folder on it for a queue.
    #[must_use]
    pub fn queue(&self) -> PathBuf {
        self.place.join("queue")
    }

    /// Takes all space that is free.
    ///
    /// # Errors
    ///
    /// When the disk fails otherwise than for being full.
    pub fn fill(&self) -> anyhow::Result<()> {
        // Blocks are only taken, not written: the memory behind them is less than what the disk claims to have.
        let filler = fs::File::create(self.place.join(FILLER))?;
        let mut taken = 0;
        for step in [1 << 20, 1 << 12] {
            loop {
                match fallocate(&filler, FallocateFlags::empty(), taken, step) {
                    Ok(()) => taken += step,
                    Err(Errno::ENOSPC) => break,
                    Err(error) => return Err(error).context("fallocate(2)"),
                }
            }
        }
        Ok(())
    }

    /// Gives the space back.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub fn empty(&self) -> anyhow::Result<()> {
        fs::remove_file(self.place.join(FILLER)).context("cannot remove the filler")
    }

    /// From now on the disk takes what is written, and fails when it is to be flushed.
    ///
    /// # Errors
    ///
    /// When memory cannot be filled.
    pub fn fail_flushes(&self) -> anyhow::Result<()> {
        take_all(&self.memory)
    }

    /// Flushes succeed again.
    ///
    /// # Errors
    ///
    /// When it cannot be undone.
    pub fn mend_flushes(&self) -> anyhow::Result<()> {
        fs::remove_file(self.memory.join(FILLER)).context("cannot remove the filler")
    }

    /// Nothing in the queue's folder can be changed.
    ///
    /// # Errors
    ///
    /// When the attribute cannot be set.
    pub fn set_immutable(&self, immutable: bool) -> anyhow::Result<()> {
        let mode = if immutable { "+i" } else { "-i" };
        process::done(Command::new("chattr").args(["-R", mode]).arg(self.queue())).map(drop)
    }

    /// Whoever writes waits until [`thaw`](Self::thaw).
    ///
    /// # Errors
    ///
    /// When it cannot be frozen.
    pub fn freeze(&self) -> anyhow::Result<()> {
        process::done(Command::new("fsfreeze").arg("--freeze").arg(&self.place)).map(drop)
    }

    /// Ends a freeze.
    ///
    /// # Errors
    ///
    /// When it was not frozen.
    pub fn thaw(&self) -> anyhow::Result<()> {
        process::done(Command::new("fsfreeze").arg("--unfreeze").arg(&self.place)).map(drop)
    }

    /// The file system finds an error in itself, and is read-only from then on.
    ///
    /// # Errors
    ///
    /// When the kernel has no such test.
    pub fn break_down(&self) -> anyhow::Result<()> {
        let mut command = Command::new("findmnt");
        let source = process::done(command.args(["--noheadings", "--output", "SOURCE"]).arg(&self.place))?;
        let device = source.trim().rsplit('/').next().unwrap_or_default();
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "x").context("trigger_fs_error")
    }

    /// Takes it away from its place, though somebody may have files on it.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn take_away(&self) -> anyhow::Result<()> {
        umount2(&self.place, MntFlags::MNT_DETACH).context("umount(2)")
    }

    /// Its device number, as files on it have it.
    ///
    /// # Errors
    ///
    /// When it is not at its place.
    pub fn device(&self) -> anyhow::Result<u64> {
        Ok(fs::metadata(&self.place)?.dev())
    }

    /// Repairs one that was taken away, and mounts it again. Nobody may have files on it.
    ///
    /// # Errors
    ///
    /// When it cannot be repaired.
    pub fn repair(&self) -> anyhow::Result<()> {
        // Daemons of other tests have mounts of their own of all that is mounted when they start, and would keep
        // the broken file system alive: its disk goes into another machine, so to speak.
        let moved = self.memory.join("moved");
        let mut copy = Command::new("cp");
        process::done(copy.arg("--sparse=always").arg(self.image()).arg(&moved))?;
        fs::rename(&moved, self.image())?;
        let checked = Command::new("e2fsck").args(["-f", "-y"]).arg(self.image()).output()?;
        // 1: errors were corrected.
        ensure!(checked.status.code().is_some_and(|code| code <= 1), "e2fsck: {checked:?}");
        self.mount()
    }

    fn mount(&self) -> anyhow::Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,errors=remount-ro"]).arg(self.image()).arg(&self.place);
        process::done(&mut mount).map(drop)
    }

    fn image(&self) -> PathBuf {
        self.memory.join("image")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing can be unmounted that somebody waits for.
        process::best_effort(Command::new("fsfreeze").arg("--unfreeze").arg(&self.place));
        for place in [&self.place, &self.memory] {
            umount2(place, MntFlags::MNT_DETACH).ok();
        }
    }
}

/// The file that takes all space.
const FILLER: &str = "filler";

fn take_all(place: &Path) -> anyhow::Result<()> {
    let mut filler = fs::File::create(place.join(FILLER))?;
    let zeros = vec![0; 64 * 1024];
    let full = loop {
        if let Err(error) = std::io::Write::write_all(&mut filler, &zeros) {
            break error;
        }
    };
    ensure!(full.kind() == std::io::ErrorKind::StorageFull, "cannot fill {}: {full}", place.display());
    Ok(())
}
