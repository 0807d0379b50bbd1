//! A disk that does not do all that it is asked to.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

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

/// Opens the queue in the folder at `path`, on a disk that fails when it is written to for the `number`th time.
pub(crate) fn queue_that_fails_at(path: &Path, number: usize, error: fn() -> io::Error) -> Queue {
    let writes = AtomicUsize::new(0);
    queue_on(path, move |_, operation| {
        let is_write = matches!(operation, Operation::Write { .. });
        let fails = is_write && writes.fetch_add(1, Ordering::Relaxed).saturating_add(1) == number;
        if fails { Err(error()) } else { Ok(()) }
    })
}

/// What a disk waits at that does not answer for a while.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Waits until it is open.
    pub(super) fn pass(&self) {
        drop(self.opened.wait_while(self.is_shut.lock().unwrap(), |is_shut| *is_shut).unwrap());
    }

    pub(super) fn shut(&self) {
        *self.is_shut.lock().unwrap() = true;
    }

    pub(super) fn open(&self) {
        *self.is_shut.lock().unwrap() = false;
        self.opened.notify_all();
    }
}

/// Opens the queue in the folder at `path`, on a disk that syncs nothing while the gate is shut.
pub(super) fn queue_behind(path: &Path, gate: &Arc<Gate>) -> Queue {
    let gate = Arc::clone(gate);
    queue_on(path, move |_, operation| {
        if matches!(operation, Operation::Sync) {
            gate.pass();
        }
        Ok(())
    })
}
