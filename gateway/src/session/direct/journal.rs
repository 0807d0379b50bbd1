//! What is known of sessions that the kernel carries, where the next process finds it.
//!
//! Owns files in `state-directory`, which is the same for all processes of a gateway: one for each, a
//! line of JSON for each session, written before the kernel is asked to take it. They outlive `kill
//! -9`; a machine that loses power has lost the flows too, so that nothing waits for the disk. A process holds a lock (flock(2)) on its
//! file, by which others know that it lives; [`Journal::tidy`] writes anew what still counts, and
//! removes the files of processes that have ended.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::debug;

use super::entry::{Entry, milliseconds};
use super::lately::Lately;
use crate::clock;
use crate::folder::Folder;
use crate::intercept::flow::SessionId;
use crate::ipc::flow::FlowEnds;

/// What the names of the files begin with.
const PREFIX: &str = "flows-";
/// What a file's name begins with until it is locked.
const UNLOCKED: &str = "unlocked-flows-";
/// How long a file may take to be locked.
const LOCKED: Duration = Duration::from_secs(60);
/// Lines beyond twice the sessions there are, before the file is written anew.
const SLACK: usize = 1_000;
/// So often [`Journal::tidy`] keeps what nobody has asked for, once no other process is left that
/// drains: what that one handed off is told when it leaves.
const KEPT: u8 = 3;
/// Octets that are written at once, whole lines only.
const CHUNK: usize = 64 * 1024;

/// The files, as this process sees them.
#[derive(Debug)]
pub struct Journal {
    folder: Folder,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    own: Option<Own>,
    /// How much was read of the files of others.
    read: HashMap<String, u64>,
    /// What others have written and nobody has asked for, and how often it was kept.
    recalled: HashMap<FlowEnds, (Entry, u8)>,
    /// Sessions that were asked for. What is noted of them once more, or written anew by a process
    /// that has not heard of it, nobody asks for again.
    told: Lately<SessionId>,
}

#[derive(Debug)]
struct Own {
    name: String,
    file: File,
    lines: usize,
}

impl Journal {
    /// Reads what other processes have left in `folder`.
    #[must_use]
    pub fn open(folder: Folder) -> Self {
        let journal = Self { folder, files: Mutex::default() };
        journal.look();
        journal
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a session that the kernel may carry soon, or does.
    pub(super) fn note(&self, entry: &Entry) {
        let mut files = self.lock();
        if let Err(error) = files.write(&self.folder, entry) {
            // A line that was cut off would spoil the next one: that goes into a new file.
            files.own = None;
            debug!(%error, "a session that the kernel carries is not noted");
        }
    }

    /// What another process has noted of a flow, as far as that was read; it is told once.
    pub(super) fn recall(&self, ends: &FlowEnds) -> Option<Entry> {
        let mut files = self.lock();
        let (entry, _) = files.recalled.remove(ends)?;
        files.told.add(entry.session);
        Some(entry)
    }

    /// Reads what others have written since the last time.
    pub(super) fn look(&self) {
        self.lock().read_others(&self.folder);
    }

    /// Writes anew what still counts, if that is worth it, and removes the files of processes that
    /// have ended. This process has so many sessions `carried`, with these `entries`. Blocks.
    pub(super) fn tidy(&self, carried: usize, entries: impl FnOnce() -> Vec<Entry>) {
        let mut files = self.lock();
        let mut old = dead(&self.folder, files.own.as_ref());
        files.read_others(&self.folder);
        if others(&self.folder, files.own.as_ref()).count() == old.len() {
            files.recalled.retain(|_, (_, kept)| {
                *kept += 1;
                *kept <= KEPT
            });
        }
        let lines = files.own.as_ref().map_or(0, |own| own.lines);
        if old.is_empty() && lines <= carried * 2 + SLACK {
            return;
        }
        let recalled: Vec<Entry> = files.recalled.values().map(|(entry, _)| entry.clone()).collect();
        let renewed = files.renew(&self.folder, carried + recalled.len());
        drop(files);
        // Sessions that are handed off from here on are noted in the new file, by whole lines in between.
        let written = renewed.and_then(|(file, before)| {
            old.extend(before.map(|own| own.name));
            write_all(file, entries().iter().chain(&recalled))
        });
        match written {
            Ok(()) => old.iter().for_each(|name| self.forget(name)),
            Err(error) => debug!(%error, "the sessions that the kernel carries are not noted anew"),
        }
    }

    /// Removes the file of this process, which has no session that goes on, unless it is also about
    /// sessions of others.
    pub(super) fn discard(&self) {
        let mut files = self.lock();
        let own = files.own.take().filter(|_| files.recalled.is_empty());
        drop(files);
        if let Some(own) = own {
            self.forget(&own.name);
        }
    }

    fn forget(&self, name: &str) {
        self.lock().read.remove(name);
        if let Err(error) = self.folder.remove(name).or_else(absent_is_fine) {
            debug!(%error, name, "a file of sessions that the kernel carries stays");
        }
    }
}

impl Files {
    fn write(&mut self, folder: &Folder, entry: &Entry) -> io::Result<()> {
        let own = match &mut self.own {
            Some(own) => own,
            None => {
                let made = Self::make(folder)?;
                self.own.insert(made)
            }
        };
        own.file.write_all(&entry.line()?)?;
        own.lines += 1;
        Ok(())
    }

    /// A new file, which others see only when it is locked. Its name is nobody else's: numbers of
    /// processes come again, the time does not.
    fn make(folder: &Folder) -> io::Result<Own> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let place = format!("{}-{}-{made}", milliseconds(clock::wall()), process::id());
        let (unlocked, name) = (format!("{UNLOCKED}{place}"), format!("{PREFIX}{place}"));
        let file = folder.create(&unlocked)?;
        file.try_lock()?;
        folder.link(&unlocked, &name)?;
        folder.remove(&unlocked)?;
        Ok(Own { name, file, lines: 0 })
    }

    /// Goes on in a new file, with room for so many lines. Returns it, and the one before.
    fn renew(&mut self, folder: &Folder, lines: usize) -> io::Result<(File, Option<Own>)> {
        let new = Self::make(folder)?;
        let file = new.file.try_clone()?;
        Ok((file, self.own.replace(Own { lines, ..new })))
    }

    fn read_others(&mut self, folder: &Folder) {
        for name in others(folder, self.own.as_ref()).filter(|name| name.starts_with(PREFIX)) {
            if let Err(error) = self.read_on(folder, &name) {
                debug!(%error, name, "a file of sessions that the kernel carries");
            }
        }
    }

    fn read_on(&mut self, folder: &Folder, name: &str) -> io::Result<()> {
        let file = folder.read(name)?;
        let known = self.read.get(name).copied().unwrap_or(0);
        if file.metadata()?.len() <= known {
            return Ok(());
        }
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(known))?;
        let (mut line, mut read) = (Vec::new(), known);
        loop {
            line.clear();
            let octets = reader.read_until(b'\n', &mut line)?;
            // What has no end yet is read the next time.
            if octets == 0 || line.last() != Some(&b'\n') {
                break;
            }
            read += u64::try_from(octets).unwrap_or(0);
            if let Ok(entry) = serde_json::from_slice::<Entry>(&line) {
                self.remember(entry);
            }
        }
        self.read.insert(name.to_owned(), read);
        Ok(())
    }

    fn remember(&mut self, entry: Entry) {
        let known = self.recalled.get(&entry.ends);
        // Two sessions may have had the same ends, one after the other.
        let is_later = known.is_none_or(|(known, _)| known.opened <= entry.opened);
        if is_later && !self.told.has(&entry.session) {
            self.recalled.insert(entry.ends, (entry, 0));
        }
    }
}

/// Writes through a file that others write to as well.
fn write_all<'a>(mut file: File, entries: impl Iterator<Item = &'a Entry>) -> io::Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK);
    for entry in entries {
        chunk.extend(entry.line()?);
        if chunk.len() >= CHUNK {
            file.write_all(&chunk)?;
            chunk.clear();
        }
    }
    file.write_all(&chunk)
}

/// The names of the files of other processes, locked or not.
fn others(folder: &Folder, own: Option<&Own>) -> impl Iterator<Item = String> + use<> {
    let names = folder.names().unwrap_or_default().into_iter();
    let ours = |name: &String| name.starts_with(PREFIX) || name.starts_with(UNLOCKED);
    let own = own.map(|own| own.name.clone());
    names
        .filter_map(|name| name.into_string().ok())
        .filter(move |name| ours(name) && Some(name) != own.as_ref())
}

/// The names of files whose processes have ended.
fn dead(folder: &Folder, own: Option<&Own>) -> Vec<String> {
    let is_dead = |name: &String| {
        let Ok(file) = folder.read(name) else { return false };
        let modified = file.metadata().and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|then| clock::wall().duration_since(then).ok());
        file.try_lock().is_ok() && (name.starts_with(PREFIX) || age.is_some_and(|age| age > LOCKED))
    };
    others(folder, own).filter(is_dead).collect()
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
