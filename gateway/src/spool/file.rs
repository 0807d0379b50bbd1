//! The files of copies in the spool folder.
//!
//! A file in use carries a lock (flock(2)), which ends with its process: that is how left-over files
//! are told apart.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use nix::errno::Errno;
use tokio::runtime::Handle;
use tracing::{debug, info};

use super::Error;
use crate::folder::Folder;

/// How the names of copies begin; kept copies have other names.
const PREFIX: &str = "copy-";

/// How often a new random name is tried: a clash of 128 random bits means something is wrong.
const NAME_TRIES: usize = 3;

/// Removes the copies of processes that died. What cannot be removed is no reason not to start.
pub(super) fn sweep(folder: &Folder) {
    let names = match folder.names() {
        Ok(names) => names,
        Err(error) => {
            debug!(%error, "spool folder cannot be listed");
            return;
        }
    };
    let removed = names
        .iter()
        .filter(|name| name.to_str().is_some_and(|name| name.starts_with(PREFIX)))
        .filter(|name| is_abandoned(folder, name) && folder.remove(name).is_ok())
        .count();
    if removed > 0 {
        info!(removed, "copies left by a dead process were removed");
    }
}

fn is_abandoned(folder: &Folder, name: &OsStr) -> bool {
    match folder.read(name) {
        Ok(file) => file.try_lock().is_ok(),
        Err(error) => error.raw_os_error() == Some(Errno::ELOOP as i32),
    }
}

/// Makes a file with a random name. Blocks.
pub(super) fn create(folder: &Folder) -> Result<SpoolFile, Error> {
    for _ in 1..NAME_TRIES {
        match create_named(folder, &random_name()?) {
            Err(Error::File(error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
    }
    create_named(folder, &random_name()?)
}

/// Makes a file; never takes one that is there, not even behind a link.
pub(super) fn create_named(folder: &Folder, name: &str) -> Result<SpoolFile, Error> {
    SpoolFile::new(folder.clone(), name.to_owned(), folder.create(name)?)
}

fn random_name() -> Result<String, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Error::File(error.into()))?;
    Ok(format!("{PREFIX}{:032x}", u128::from_ne_bytes(random)))
}

/// The file of one copy; its name goes when it is dropped.
#[derive(Debug)]
pub(super) struct SpoolFile {
    folder: Folder,
    name: String,
    /// `None` only while dropping.
    file: Option<File>,
    named: AtomicBool,
}

impl SpoolFile {
    fn new(folder: Folder, name: String, file: File) -> Result<Self, Error> {
        let locked = match file.try_lock() {
            Ok(()) => Ok(()),
            // A sweep of another process has the file in its hand and will remove the name; the
            // file itself serves on.
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        };
        let made = Self { folder, name, file: Some(file), named: AtomicBool::new(true) };
        locked?;
        Ok(made)
    }

    fn file(&self) -> Result<&File, Error> {
        self.file.as_ref().ok_or(Error::Closed)
    }

    /// Writes `blocks` one behind the other from `offset`. Blocks.
    pub(super) fn write(&self, mut offset: u64, blocks: &[Bytes]) -> Result<(), Error> {
        let file = self.file()?;
        for block in blocks {
            file.write_all_at(block, offset)?;
            offset = offset.saturating_add(u64::try_from(block.len()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Reads `length` bytes from `offset`. Blocks.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let mut bytes = vec![0; length];
        self.file()?.read_exact_at(&mut bytes, offset)?;
        Ok(Bytes::from(bytes))
    }

    /// Takes the file's name away; who has it open reads on.
    pub(super) fn discard(&self) {
        if self.named.swap(false, Ordering::Relaxed)
            && let Err(error) = self.folder.remove(&self.name)
        {
            debug!(%error, name = self.name, "spool file cannot be removed");
        }
    }

    /// Gives the file the name `name` for good; never replaces a file. Blocks.
    pub(super) fn keep(&self, name: &str) -> Result<PathBuf, Error> {
        self.folder.link(&self.name, name)?;
        self.discard();
        Ok(self.folder.path().join(name))
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.discard();
        // Closing the last descriptor of a large file frees its blocks, which takes time.
        if let Some(file) = self.file.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}
