//! A queue whose file system failed and was taken away to be repaired.
//!
//! It is let go, so that it can be checked. What comes back is read anew by a new process: a check may have changed it, and
//! the rules of Landlock, which nobody can add to, are about files of the file system as it was mounted before.

use std::fs;
use std::sync::PoisonError;

use super::Queue;
use super::segment;

impl Queue {
    /// Lets go of a folder that is lost: see [`Folder::let_go_if_lost`](crate::folder::Folder::let_go_if_lost). From then
    /// on nothing is taken and nothing delivered. Blocks.
    pub fn let_go_if_lost(&self) {
        let inner = &self.inner;
        if !inner.folder.let_go_if_lost() {
            if !self.is_held() {
                // One was being opened when the others were closed.
                inner.lent.take_back();
            }
            return;
        }
        inner.locks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        inner.journal.let_go();
        inner.lent.take_back();
        tracing::warn!(
            folder = %inner.folder.path().display(),
            "the file system of the queue failed and was taken away: nothing is taken or delivered until it is back"
        );
    }

    /// Whether its folder was not let go.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.inner.folder.is_held()
    }

    /// Whether a folder that was let go is back: the same, for it has the lock of this process.
    #[must_use]
    pub fn is_back(&self) -> bool {
        let inner = &self.inner;
        let lock = inner.folder.path().join(segment::lock_name(inner.journal.generation()));
        inner.folder.is_back() && fs::symlink_metadata(lock).is_ok()
    }
}
