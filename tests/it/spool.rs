//! The spool on a file system that fills up.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use gateway::config::file::Spool;
use gateway::config::units::ByteCount;
use gateway::spool::{Error, SpoolCopy, Spooler};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;
use tokio::time::sleep;

/// Longer than an answer of the file system is used, and than freeing a file takes.
const STALE: Duration = Duration::from_millis(1_100);

/// A file system of 2 MiB in memory, while it lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> anyhow::Result<Self> {
        let place = TempDir::new()?;
        let options = "size=2m,mode=0700";
        mount(Some("tmpfs"), place.path(), Some("tmpfs"), MsFlags::empty(), Some(options))
            .context("mount(2): needs root")?;
        Ok(Self(place))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.path(), MntFlags::MNT_DETACH).ok();
    }
}

async fn fill(copy: &mut SpoolCopy, length: usize) -> Result<(), Error> {
    for piece in vec![b'x'; length].chunks(100_000) {
        copy.append(piece).await?;
    }
    copy.finish().await
}

#[tokio::test]
async fn a_full_disk_is_told_apart_and_service_returns_by_itself() -> anyhow::Result<()> {
    let disk = SmallDisk::new()?;
    let spooler = Spooler::open(&Spool {
        header: String::new(),
        directory: disk.path().to_owned(),
        memory: ByteCount::kib(64),
        leave_on: Vec::new(),
        min_free: ByteCount::mib(1),
    })?;

    // In the middle of a message.
    let mut copy = spooler.begin()?;
    assert!(matches!(fill(&mut copy, 3_000_000).await, Err(Error::NoSpace)));
    assert!(matches!(copy.append(b"more").await, Err(Error::Closed)));
    drop(copy);
    sleep(STALE).await;

    // Before a message begins, as soon as the cached answer is old.
    let mut large = spooler.begin()?;
    fill(&mut large, 1_500_000).await?;
    sleep(STALE).await;
    assert!(matches!(spooler.begin(), Err(Error::NoSpace)));

    drop(large);
    sleep(STALE).await;
    let mut copy = spooler.begin()?;
    fill(&mut copy, 900_000).await?;
    Ok(())
}
