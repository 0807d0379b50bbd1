//! A folder that belongs to the gateway alone, and the files in it.
//!
//! Every file is made and named through the folder's descriptor, so that nobody who can rename a
//! parent folder, or plant a link, decides where mail is written (CWE-59).

mod lost;
mod space;

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{Statvfs, fstatvfs, statvfs};
use nix::unistd::{UnlinkatFlags, geteuid, linkat, unlinkat};

pub use space::Space;

/// Why a folder cannot be used: for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be made or opened.
    #[error("folder {}: {source}", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It belongs to somebody else.
    #[error("folder {} belongs to user {owner}, the gateway runs as {user}", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The gateway's user.
        user: u32,
    },
    /// Others may read it.
    #[error("folder {} has mode {mode:04o}; others must not read what is in it: chmod 0700", path.display())]
    Mode {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Free space of the folder at `path`, as [`Folder::free`] tells it.
///
/// # Errors
///
/// When the file system does not say.
pub fn free(path: &Path) -> io::Result<u64> {
    Ok(available(&statvfs(path)?))
}

fn available(stat: &Statvfs) -> u64 {
    // File systems without a fixed number of inodes report none at all.
    if stat.files() > 0 && stat.files_available() == 0 {
        return 0;
    }
    stat.blocks_available().saturating_mul(stat.fragment_size())
}

/// An open folder; cheap to clone.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    /// None once it was let go.
    fd: Arc<ArcSwapOption<File>>,
}

impl Folder {
    /// Opens the folder, or makes it; its parent must exist.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, belongs to another user or can be read by others.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::Open { path: path.to_owned(), source };
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
        Ok(Self { path: path.to_owned(), fd: Arc::new(ArcSwapOption::from_pointee(fd)) })
    }

    fn fd(&self) -> io::Result<Arc<File>> {
        self.fd
            .load_full()
            .ok_or_else(|| io::Error::other("the file system of the folder failed and was taken away"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file for reading and writing; never takes one that is there, not even behind a link.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`], or what the file system says.
    pub fn create(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&*self.fd()?, name.as_ref(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(File::from(fd))
    }

    /// Opens a file for reading; follows no link and waits for nobody at the other end of a FIFO.
    ///
    /// # Errors
    ///
    /// What the file system says; `ELOOP` for a link.
    pub fn read(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&*self.fd()?, name.as_ref(), flags, Mode::empty())?))
    }

    /// Gives a file another name besides, which must not be there.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn link(&self, name: &str, new: &str) -> io::Result<()> {
        let fd = self.fd()?;
        Ok(linkat(&*fd, name, &*fd, new, AtFlags::empty())?)
    }

    /// Takes a file's name away.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(unlinkat(&*self.fd()?, name.as_ref(), UnlinkatFlags::NoRemoveDir)?)
    }

    /// The names of what is in it.
    ///
    /// # Errors
    ///
    /// When it cannot be listed.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        self.fd()?;
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    /// Free space for this user, in bytes; none when there are no free inodes.
    ///
    /// # Errors
    ///
    /// When the file system does not say.
    pub fn free(&self) -> io::Result<u64> {
        Ok(available(&fstatvfs(&*self.fd()?)?))
    }

    /// Puts the names of its files on stable storage. Blocks.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn sync(&self) -> io::Result<()> {
        self.fd()?.sync_all()
    }
}
