//! Generations: whose turn it is to write, and what is found of those before.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::sync::PoisonError;

use super::recovery::{self, Damage, Found};
use super::segment::{self, SegmentId};
use super::{Inner, milliseconds};
use crate::clock;
use crate::folder::Folder;

impl Inner {
    /// Takes over the segments of other generations, when none of them lives any more.
    ///
    /// # Errors
    ///
    /// Nothing was taken over: the folder cannot be used, or descriptors or memory are lacking.
    pub(super) fn adopt(&self) -> io::Result<()> {
        let mut segments: BTreeMap<u32, Vec<SegmentId>> = BTreeMap::new();
        let mut locks = Vec::new();
        for name in self.folder.names()? {
            let Some(name) = name.to_str() else { continue };
            if let Some(id) = SegmentId::parse(name) {
                segments.entry(id.generation).or_default().push(id);
            } else if let Some(generation) = segment::lock_generation(name) {
                locks.push(generation);
            }
        }
        let mut held = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = BTreeMap::new();
        for generation in locks.iter().chain(segments.keys()) {
            if held.contains_key(generation) || taken.contains_key(generation) {
                continue;
            }
            // One may have written about the messages of another: all of them, or none.
            let Some(lock) = lock(&self.folder, *generation)? else { return Ok(()) };
            taken.insert(*generation, lock);
        }
        let left: Vec<SegmentId> =
            taken.keys().filter_map(|generation| segments.get(generation)).flatten().copied().collect();
        for generation in taken.keys().filter(|generation| !segments.contains_key(generation)) {
            self.folder.remove(segment::lock_name(*generation)).unwrap_or_default();
        }
        // Where they cannot be read for want of something they are let go, and looked at again.
        let found = if left.is_empty() { None } else { Some(recovery::read(&self.folder, left)?) };
        held.extend(taken.into_iter().filter(|(generation, _)| segments.contains_key(generation)));
        drop(held);
        if let Some(found) = found {
            self.take_in(found);
        }
        Ok(())
    }

    /// Brings what was found in order.
    fn take_in(&self, found: Found) {
        for id in &found.empty {
            self.storage.remove(&id.to_string()).unwrap_or_default();
        }
        for (id, error) in &found.unreadable {
            tracing::warn!(segment = %id, error, "a segment of the queue cannot be read; its messages stay in it");
        }
        for damage in &found.damage {
            let kept = self.keep_damage(damage);
            tracing::warn!(
                segment = %damage.segment, from = damage.from, octets = damage.length, kept,
                "a segment of the queue is damaged; what was in these octets is lost to the queue"
            );
        }
        for torn in &found.torn {
            tracing::info!(
                segment = %torn.segment, from = torn.from,
                "what was being written when the gateway died was left out; nobody was told that it was taken"
            );
        }
        let messages = found.messages.len();
        let mut index = self.index();
        for (id, length) in &found.segments {
            let unread = found.unreadable.iter().any(|(unread, _)| unread == id);
            index.add_segment(*id, *length, unread);
        }
        for (id, _) in &found.unreadable {
            index.add_segment(*id, 0, true);
        }
        for (id, entry) in found.messages {
            index.add(id, entry);
        }
        drop(index);
        if messages > 0 {
            tracing::info!(messages, "messages found in the queue");
            self.arrived.notify_one();
        }
    }

    /// Copies damaged octets into a file of their own; says whether they are there.
    fn keep_damage(&self, damage: &Damage) -> bool {
        let name = format!("{}-{}.corrupt", damage.segment, damage.from);
        match self.folder.create(&name) {
            Ok(to) => {
                let kept = self.copy_damage(damage, to).is_ok();
                if !kept {
                    // The next start tries again.
                    self.folder.remove(&name).unwrap_or_default();
                }
                kept
            }
            // An earlier start has kept them.
            Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
        }
    }

    fn copy_damage(&self, damage: &Damage, mut to: File) -> io::Result<()> {
        let file = self.folder.read(damage.segment.to_string())?;
        io::copy(&mut io::Read::take(ReadAt { file, at: damage.from }, damage.length), &mut to)?;
        to.sync_all()
    }
}

/// A generation that nobody had before, and its lock. By the clock, so that names of messages do not come
/// again when the queue was empty at a stop.
pub(super) fn own_generation(folder: &Folder) -> io::Result<(u32, File)> {
    let seen = folder.names()?.into_iter().filter_map(|name| {
        let name = name.to_str()?;
        segment::lock_generation(name).or_else(|| SegmentId::parse(name).map(|id| id.generation))
    });
    let after = seen.max().map_or(0, |last| last.saturating_add(1));
    let seconds = u32::try_from(milliseconds(clock::wall()) / 1_000).unwrap_or(u32::MAX);
    let first = after.max(seconds);
    for generation in first..=first.saturating_add(64) {
        match folder.create(segment::lock_name(generation)) {
            Ok(file) => {
                // Whoever looks for abandoned locks in this moment finds no segments, and removes the name.
                file.lock()?;
                if std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 0 {
                    return Ok((generation, file));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The lock of a generation, which is made when it is missing; `None` while its process lives.
fn lock(folder: &Folder, generation: u32) -> io::Result<Option<File>> {
    let name = segment::lock_name(generation);
    let file = match folder.read(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => folder.create(&name)?,
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Reads a file from a place on.
struct ReadAt {
    file: File,
    at: u64,
}

impl io::Read for ReadAt {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = std::os::unix::fs::FileExt::read_at(&self.file, into, self.at)?;
        self.at = self.at.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }
}
