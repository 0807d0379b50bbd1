//! Pipes for splice(2), used again.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use tracing::debug;

use super::splice::PIPE_SIZE;

/// Empty pipes kept for the next burst: enough that busy sessions do not make their own each time.
const SPARE: usize = 64;

/// A pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

/// Empty pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    spare: Mutex<Vec<Pipe>>,
}

impl Pipes {
    /// An empty pipe.
    pub(super) fn take(&self) -> io::Result<Pipe> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(pipe) = spare {
            return Ok(pipe);
        }
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Beyond a user's `pipe-user-pages-soft` pipes stay small (pipe(7)); those serve too.
        let size = i32::try_from(PIPE_SIZE).unwrap_or(i32::MAX);
        if let Err(errno) = fcntl(&write, FcntlArg::F_SETPIPE_SZ(size)) {
            debug!(%errno, "F_SETPIPE_SZ");
        }
        Ok(Pipe { read, write })
    }

    /// Takes back a pipe, which must be empty: what is in it would reach another session.
    pub(super) fn give(&self, pipe: Pipe) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(pipe);
        }
    }

    /// How many empty pipes are kept.
    #[cfg(test)]
    pub(super) fn spare(&self) -> usize {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
