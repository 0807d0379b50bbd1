//! A disk that does not do all that it is asked to.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::AGAIN;
use crate::config::units::ByteCount;
use crate::folder::Folder;
use crate::queue::Queue;
use crate::queue::storage::Storage;

/// What the queue asks the disk for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation<'a> {
    Create(&'a str),
    Write { file: &'a File, at: u64, pieces: &'a [&'a [u8]] },
    Sync,
    SyncNames,
    Truncate,
    Remove,
}

/// A folder in which an operation is done when the one who is asked before has nothing against it.
struct Disk<F> {
    folder: Folder,
    ask: F,
}

impl<F> fmt::Debug for Disk<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Opens the queue in the folder at `path`, on a disk where `ask` is asked before each operation.
pub(super) fn queue_on(
    path: &Path,
    ask: impl Fn(&Folder, Operation<'_>) -> io::Result<()> + Send + Sync + 'static,
) -> Queue {
    let folder = Folder::open(path).unwrap();
    let storage = Arc::new(Disk { folder: folder.clone(), ask });
    Queue::with(folder, storage, ByteCount::new(0), AGAIN).unwrap()
}

impl<F> Storage for Disk<F>
where
    F: Fn(&Folder, Operation<'_>) -> io::Result<()> + Send + Sync + 'static,
{
    fn create(&self, name: &str) -> io::Result<File> {
        (self.ask)(&self.folder, Operation::Create(name))?;
        Storage::create(&self.folder, name)
    }

    fn write(&self, file: &File, at: u64, pieces: &[&[u8]]) -> io::Result<()> {
        (self.ask)(&self.folder, Operation::Write { file, at, pieces })?;
        Storage::write(&self.folder, file, at, pieces)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        (self.ask)(&self.folder, Operation::Sync)?;
        Storage::sync(&self.folder, file)
    }

    fn sync_names(&self) -> io::Result<()> {
        (self.ask)(&self.folder, Operation::SyncNames)?;
        Storage::sync_names(&self.folder)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        (self.ask)(&self.folder, Operation::Truncate)?;
        Storage::truncate(&self.folder, file, length)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (self.ask)(&self.folder, Operation::Remove)?;
        Storage::remove(&self.folder, name)
    }
}
