//! The file in which earlier releases kept locks: it is read once, and put away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::recent::Subject;
use super::{Locks, seconds};
use crate::clock;
use crate::policy::lock::Lock;
use crate::store::Health;

/// The file's name in the spool folder.
pub const FILE: &str = "locks.json";
/// What becomes of its name.
const PUT_AWAY: &str = "json.imported";
/// Locks that are handed to the store in one go.
const TOGETHER: usize = 10_000;

/// What the file holds.
#[derive(Debug, Default, Deserialize)]
struct Kept<L, E> {
    locks: Vec<L>,
    exempt: Vec<E>,
}

/// A file whose locks are in the table, but not yet in the store.
#[derive(Debug)]
pub(super) struct Import {
    file: PathBuf,
    subjects: Vec<Subject>,
}

impl Locks {
    /// Takes in the locks that an earlier release has left in `file`, if it has; [`Self::run`] brings
    /// them into the store. Those that the store has kept count.
    pub fn import(&self, file: &Path) {
        let Some(kept) = read(file) else { return };
        let now = seconds(clock::wall());
        let mut subjects = Vec::with_capacity(kept.locks.len());
        let mut table = self.lock();
        for net in kept.exempt {
            match table.exempt(net) {
                Ok(_) => subjects.push(Subject::Exempt(net)),
                Err(refused) => tracing::debug!(%refused, "an exemption of an earlier release"),
            }
        }
        for lock in kept.locks {
            let who = lock.who.clone();
            if table.get(&who).is_some() {
                continue;
            }
            match table.add(lock, now) {
                Ok(()) => subjects.push(Subject::Lock(who)),
                Err(refused) => tracing::debug!(%refused, "a lock of an earlier release"),
            }
        }
        drop(table);
        let import = Import { file: file.to_owned(), subjects };
        *self.import.lock().unwrap_or_else(PoisonError::into_inner) = Some(import);
    }

    /// Brings what was imported into the store, then puts the file away. Until the store has taken all
    /// of it, the file stays, and so it does while an older process may still write it.
    pub(super) async fn finish_import(&self) {
        if !*self.whole.borrow() {
            return;
        }
        let import = self.import.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(import) = import else { return };
        for some in import.subjects.chunks(TOGETHER) {
            self.keep(some);
            self.store.flush().await;
        }
        if self.store.health() != Health::Kept {
            *self.import.lock().unwrap_or_else(PoisonError::into_inner) = Some(import);
            return;
        }
        let moved_to = import.file.with_extension(PUT_AWAY);
        let file = import.file.display();
        match std::fs::rename(&import.file, &moved_to) {
            Ok(()) => tracing::info!(
                %file,
                moved_to = %moved_to.display(),
                imported = import.subjects.len(),
                "locks of an earlier release are in the state store"
            ),
            Err(error) => tracing::warn!(
                %file,
                %error,
                "locks of an earlier release are in the state store, but their file cannot be renamed; remove \
                 it, or they are set again at the next start"
            ),
        }
    }
}

/// A file that cannot be read is told of, and no reason not to start.
fn read(file: &Path) -> Option<Kept<Lock, IpNet>> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "locks of an earlier release cannot be read");
            return None;
        }
    };
    let whole = serde_json::from_slice(&text);
    whole.or_else(|_| serde_json::from_slice(&text).map(|kept| understood(file, kept))).map_or_else(
        |error| {
            tracing::warn!(
                file = %file.display(),
                %error,
                "locks of an earlier release cannot be understood; mend the file, or remove it"
            );
            None
        },
        Some,
    )
}

/// What can be understood of a file one by one.
fn understood(file: &Path, kept: Kept<Value, Value>) -> Kept<Lock, IpNet> {
    fn each<T: DeserializeOwned>(values: Vec<Value>) -> Vec<T> {
        values.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect()
    }
    let all = kept.locks.len().saturating_add(kept.exempt.len());
    let known = Kept { locks: each(kept.locks), exempt: each(kept.exempt) };
    let left_out = all.saturating_sub(known.locks.len()).saturating_sub(known.exempt.len());
    tracing::warn!(file = %file.display(), left_out, "some locks of an earlier release make no sense");
    known
}
