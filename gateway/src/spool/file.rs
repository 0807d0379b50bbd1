//! The spool folder and the files in it.
//!
//! Every file is made and named through the folder's descriptor, so that nobody who can rename a
//! parent folder, or plant a link, decides where mail is written (CWE-59). A file in use carries a
//! lock (flock(2)), which ends with its process: that is how left-over files are told apart.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, geteuid, linkat, unlinkat};
use tokio::runtime::Handle;
use tracing::{debug, info};

use super::Error;

/// How the names of copies begin; kept copies have other names.
const PREFIX: &str = "copy-";

/// How often a new random name is tried: a clash of 128 random bits means something is wrong.
const NAME_TRIES: usize = 3;

/// The spool folder.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
    fd: Arc<File>,
}

impl Directory {
    /// Opens the folder, or makes it; its parent must exist.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::Folder { path: path.to_owned(), source };
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail(error)),
            Ok(()) | Err(_) => {}
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let fd = nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| fail(errno.into()))?;
        let fd = File::from(fd);
        let meta = fd.metadata().map_err(fail)?;
        let user = geteuid().as_raw();
        if meta.uid() != user {
            return Err(Error::Owner { path: path.to_owned(), owner: meta.uid(), user });
        }
        // The folder is not tightened here: set to `/tmp` by mistake, that would break the machine.
        if meta.mode() & 0o077 != 0 {
            return Err(Error::Mode { path: path.to_owned(), mode: meta.mode() & 0o7777 });
        }
        Ok(Self { path: path.to_owned(), fd: Arc::new(fd) })
    }

    /// Removes the copies of processes that died. What cannot be removed is no reason not to start.
    pub(super) fn sweep(&self) {
        let names = match fs::read_dir(&self.path) {
            Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name())),
            Err(error) => {
                debug!(%error, "spool folder cannot be listed");
                return;
            }
        };
        let removed = names
            .filter(|name| name.to_str().is_some_and(|name| name.starts_with(PREFIX)))
            .filter(|name| self.is_abandoned(name) && self.unlink(name).is_ok())
            .count();
        if removed > 0 {
            info!(removed, "copies left by a dead process were removed");
        }
    }

    fn is_abandoned(&self, name: &OsStr) -> bool {
        // O_NONBLOCK: a FIFO must not stop the start.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd).try_lock().is_ok(),
            Err(errno) => errno == Errno::ELOOP,
        }
    }

    fn unlink(&self, name: &OsStr) -> nix::Result<()> {
        unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)
    }

    /// Free space for this user, in bytes; none when there are no free inodes.
    pub(super) fn free(&self) -> Result<u64, Error> {
        let stat = fstatvfs(&*self.fd)?;
        // File systems without a fixed number of inodes report none at all.
        if stat.files() > 0 && stat.files_available() == 0 {
            return Ok(0);
        }
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    /// Makes a file with a random name. Blocks.
    pub(super) fn create(&self) -> Result<SpoolFile, Error> {
        for _ in 1..NAME_TRIES {
            match self.create_named(&random_name()?) {
                Err(Error::File(error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made,
            }
        }
        self.create_named(&random_name()?)
    }

    /// Makes a file; never takes one that is there, not even behind a link.
    pub(super) fn create_named(&self, name: &str) -> Result<SpoolFile, Error> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        SpoolFile::new(self.clone(), name.to_owned(), fd)
    }
}

fn random_name() -> Result<String, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Error::File(error.into()))?;
    Ok(format!("{PREFIX}{:032x}", u128::from_ne_bytes(random)))
}

/// The file of one copy; its name goes when it is dropped.
#[derive(Debug)]
pub(super) struct SpoolFile {
    directory: Directory,
    name: String,
    /// `None` only while dropping.
    file: Option<File>,
    named: AtomicBool,
}

impl SpoolFile {
    fn new(directory: Directory, name: String, fd: OwnedFd) -> Result<Self, Error> {
        let file = File::from(fd);
        let locked = match file.try_lock() {
            Ok(()) => Ok(()),
            // A sweep of another process has the file in its hand and will remove the name; the
            // file itself serves on.
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        };
        let made = Self { directory, name, file: Some(file), named: AtomicBool::new(true) };
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
            && let Err(error) = self.directory.unlink(OsStr::new(&self.name))
        {
            debug!(%error, name = self.name, "spool file cannot be removed");
        }
    }

    /// Gives the file the name `name` for good; never replaces a file. Blocks.
    pub(super) fn keep(&self, name: &str) -> Result<PathBuf, Error> {
        let directory = &self.directory;
        linkat(&directory.fd, self.name.as_str(), &directory.fd, name, AtFlags::empty())?;
        self.discard();
        Ok(directory.path.join(name))
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
