//! What a process may still touch that has given up its power: Landlock, then seccomp.
//!
//! Owns the rules and their order. Both hold for the calling thread and for whatever it starts, can
//! be widened by nobody, and so are set before the first further thread. Never decides which files
//! a process needs: the caller says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::file::Sandbox;

mod files;
mod system_calls;
#[cfg(test)]
mod tests;

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Landlock said no.
    #[error("cannot keep the process from files that it does not need; `process.sandbox: off` does without")]
    Files(#[from] landlock::RulesetError),
    /// The kernel has less of Landlock than is asked for.
    #[error("the kernel does not enforce all of Landlock; `process.sandbox: best-effort` takes what it has")]
    Incomplete,
    /// seccomp said no.
    #[error(
        "cannot keep the process from system calls that it does not need; `process.sandbox: off` does without"
    )]
    SystemCalls(#[from] seccompiler::Error),
    /// The rules for seccomp cannot be compiled.
    #[error("the rules for system calls are wrong")]
    Rules(#[from] seccompiler::BackendError),
}

/// What a process needs besides the descriptors that it was handed. UNIX sockets with a name are not of it:
/// there is no rule for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Folders in which it makes, reads, writes and removes files.
    folders: BTreeMap<PathBuf, Option<Identity>>,
    /// Files it reads, and folders in which it reads all files.
    reads: BTreeMap<PathBuf, Option<Identity>>,
    /// Whether it asks for the addresses of this machine (`getifaddrs(3)`).
    pub interfaces: bool,
}

/// Device and inode: a rule holds for a file, and not for another one that gets its name. None where there
/// is no such file.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Reach {
    /// It makes, reads, writes and removes files in this folder.
    pub fn makes_files_in(&mut self, folder: &Path) {
        self.folders.insert(folder.to_owned(), identity(folder));
    }

    /// It reads this file, or all files in this folder.
    pub fn reads(&mut self, path: &Path) {
        self.reads.insert(path.to_owned(), identity(path));
    }

    /// The first folder or file of `wanted` that this reach does not have. What is not there is not lacking:
    /// who needs it says so.
    #[must_use]
    pub fn lacks<'w>(&self, wanted: &'w Self) -> Option<&'w Path> {
        let has = |own: &BTreeMap<PathBuf, Option<Identity>>, path: &Path| {
            path.ancestors().any(|at| own.get(at).is_some_and(|known| *known == identity(at)))
        };
        let folders = wanted.folders.keys().filter(|path| !has(&self.folders, path));
        let reads = wanted
            .reads
            .iter()
            .filter(|(path, there)| there.is_some() && !has(&self.folders, path) && !has(&self.reads, path));
        folders.chain(reads.map(|(path, _)| path)).next().map(PathBuf::as_path)
    }
}

/// How much the kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforced {
    /// Nothing: it is switched off.
    Off,
    /// System calls only: this kernel has no Landlock, or does not use it.
    SystemCalls,
    /// System calls, and of the rules for files what this kernel has.
    Partly,
    /// Everything.
    Fully,
}

impl Enforced {
    /// One word for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::SystemCalls => "system-calls",
            Self::Partly => "partly",
            Self::Fully => "fully",
        }
    }
}

/// Leaves this thread, and those it starts, no more than `reach` and the system calls of a process
/// that serves sessions. Called behind [`super::give_up`], which makes calls that are forbidden here.
///
/// # Errors
///
/// When it cannot, or with [`Sandbox::Require`] when the kernel does not enforce all of it.
pub fn enter(reach: &Reach, sandbox: Sandbox) -> Result<Enforced, Error> {
    if sandbox == Sandbox::Off {
        return Ok(Enforced::Off);
    }
    let enforced = files::restrict(reach)?;
    if sandbox == Sandbox::Require && enforced != Enforced::Fully {
        return Err(Error::Incomplete);
    }
    system_calls::restrict(reach.interfaces)?;
    Ok(enforced)
}
