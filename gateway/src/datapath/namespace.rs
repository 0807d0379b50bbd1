//! The lock that one gateway of each network namespace has.
//!
//! It is on the namespace itself, so that there is no file to leave behind, and belongs to the open
//! file: processes that share it all have the lock, and the last one gives it back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FlockOperation, flock};

/// The lock, until it is dropped here and wherever it was handed.
#[derive(Debug)]
pub struct NamespaceLock {
    namespace: OwnedFd,
}

impl AsFd for NamespaceLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

impl NamespaceLock {
    /// Takes the lock; `None` when another gateway has it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn take() -> io::Result<Option<Self>> {
        let namespace = OwnedFd::from(File::open("/proc/self/ns/net")?);
        match flock(&namespace, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { namespace })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Shares the lock of another process.
    ///
    /// # Errors
    ///
    /// When it is none that this process shares.
    pub fn inherit(namespace: OwnedFd) -> io::Result<Self> {
        // To one that shares the lock, this changes nothing.
        flock(&namespace, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { namespace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_was_handed_on_outlives_its_first_holder() {
        // The unit tests share one namespace: a file does as well.
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || OwnedFd::from(File::open(file.path()).unwrap());
        let first = NamespaceLock::inherit(open()).unwrap();
        assert!(NamespaceLock::inherit(open()).is_err());
        let second = NamespaceLock::inherit(first.as_fd().try_clone_to_owned().unwrap()).unwrap();
        drop(first);
        assert!(NamespaceLock::inherit(open()).is_err());
        drop(second);
        assert!(NamespaceLock::inherit(open()).is_ok());
    }
}
