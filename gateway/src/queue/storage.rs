//! What the queue does to the file system.
//!
//! A trait, so that tests can let the n-th of these operations fail, or be the last of a process.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};

use nix::sys::uio::pwritev;

use crate::folder::Folder;

/// Pieces that are written at once; the system takes 1,024 (`IOV_MAX`).
const PIECES: usize = 512;

/// Changes of files and names. All of them block.
pub(super) trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Makes a file that must not be there.
    fn create(&self, name: &str) -> io::Result<File>;
    /// Writes `pieces` one behind the other from `at`.
    fn write(&self, file: &File, at: u64, pieces: &[&[u8]]) -> io::Result<()>;
    /// Puts a file's content and length on stable storage.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Puts the names of files on stable storage.
    fn sync_names(&self) -> io::Result<()>;
    /// Cuts a file off.
    fn truncate(&self, file: &File, length: u64) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
}

impl Storage for Folder {
    fn create(&self, name: &str) -> io::Result<File> {
        Self::create(self, name)
    }

    fn write(&self, file: &File, mut at: u64, pieces: &[&[u8]]) -> io::Result<()> {
        for some in pieces.chunks(PIECES) {
            let mut slices: Vec<_> = some.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut left = slices.as_mut_slice();
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                let offset = at.try_into().map_err(|_| io::ErrorKind::FileTooLarge)?;
                let written = match pwritev(file, left, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => written,
                    Err(nix::errno::Errno::EINTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                at = at.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
                IoSlice::advance_slices(&mut left, written);
            }
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_names(&self) -> io::Result<()> {
        Self::sync(self)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Self::remove(self, name)
    }
}
