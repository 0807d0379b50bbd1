//! The file that is started in an upgrade.
//!
//! Owns where it is, whether it is another one than the one that runs, and whether root may start
//! it: what was checked is what is started, because it is started by its descriptor.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::Error;
use crate::privilege::user;

/// Mode bits that let others than the owner write.
const OTHERS_WRITE: u32 = 0o022;
/// Mode bits of a program.
const RUNS: u32 = 0o111;
/// How long a program may take to say its version.
const VERSION_TIME: Duration = Duration::from_secs(10);
/// Octets of what another program says that are shown.
const SHOWN: usize = 160;

/// The file that this process was started from.
#[derive(Clone, Debug)]
pub struct Own {
    path: PathBuf,
    running: Identity,
}

/// What tells a file from one that has taken its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Identity {
    fn from(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino(), modified: (file.mtime(), file.mtime_nsec()) }
    }
}

impl Own {
    /// Looks it up; to be called at the start, while the file is still there.
    #[must_use]
    pub fn find() -> Option<Self> {
        let running = Identity::from(&fs::metadata("/proc/self/exe").ok()?);
        let own = std::env::current_exe().ok();
        // The name it was started by comes first: it may be a link that an upgrade moves.
        let candidates = named(std::env::args_os().next()).into_iter().chain(own);
        let is_running =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|file| Identity::from(&file) == running);
        let path = candidates.into_iter().find(is_running)?;
        Some(Self { path, running })
    }

    /// Where it was, and where its next release is looked for.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether another file is in its place.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| Identity::from(&file) != self.running)
    }
}

/// The name of a program as a path that does not depend on the working directory.
fn named(name: Option<OsString>) -> Option<PathBuf> {
    let name = PathBuf::from(name?);
    // A bare name was looked up in `PATH`.
    name.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    std::path::absolute(name).ok()
}

/// A file that root may start.
#[derive(Debug)]
pub struct Binary {
    path: PathBuf,
    file: File,
}

impl Binary {
    /// Opens and checks it: as root, nobody else may have had a hand in it.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], [`Error::NotAProgram`] or [`Error::NotRoots`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() || found.mode() & RUNS == 0 {
            return Err(Error::NotAProgram(path.to_owned()));
        }
        if user::is_root() && (found.uid() != 0 || found.mode() & OTHERS_WRITE != 0) {
            return Err(Error::NotRoots(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that starts it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command.arg0(&self.path);
        // The descriptor closes when the program starts; until then it is the program's name.
        command
    }

    /// The release it says it is.
    ///
    /// # Errors
    ///
    /// [`Error::Start`], or [`Error::NotTheGateway`] with what it says: a library that is missing,
    /// mostly.
    pub async fn release(&self) -> Result<String, Error> {
        let path = self.path.clone();
        let failed = |source| Error::Start { path: path.clone(), source };
        let mut command = self.command();
        command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
        let output = match timeout(VERSION_TIME, command.output()).await {
            Ok(output) => output.map_err(failed)?,
            Err(_) => {
                let said = format!("nothing within {} seconds", VERSION_TIME.as_secs());
                return Err(Error::NotTheGateway { path, said });
            }
        };
        let said = String::from_utf8_lossy(&output.stdout);
        if let Some(release) = said.trim().strip_prefix("gateway ").filter(|_| output.status.success()) {
            return Ok(shorten(release));
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let said = match [said.trim(), complaint.trim()].join(" ") {
            text if text.trim().is_empty() => output.status.to_string(),
            text => format!("{}, {}", shorten(text.trim()), output.status),
        };
        Err(Error::NotTheGateway { path, said })
    }
}

/// The beginning of what a program says, without what could play with a terminal.
fn shorten(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn script(folder: &Path, text: &str, mode: u32) -> PathBuf {
        let path = folder.join("program");
        // A new file each time: one that is being written cannot be started.
        fs::remove_file(&path).ok();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn only_a_program_of_roots_own_is_started_by_root() {
        let folder = tempfile::tempdir().unwrap();
        let open = |mode| Binary::open(&script(folder.path(), "", mode));
        assert!(open(0o755).is_ok());
        assert!(matches!(open(0o644), Err(Error::NotAProgram(_))));
        assert_eq!(matches!(open(0o775), Err(Error::NotRoots(_))), user::is_root());
        assert!(matches!(Binary::open(folder.path()), Err(Error::NotAProgram(_))));
        let missing = Binary::open(&folder.path().join("missing")).unwrap_err();
        assert!(matches!(missing, Error::Open { .. }), "{missing}");
        let text = Error::NotRoots("/usr/bin/gateway".into()).to_string();
        assert!(text.contains("`chown root /usr/bin/gateway` and `chmod go-w /usr/bin/gateway`"), "{text}");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_started_is_refused_before_it_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let binary = Binary::open(&script(folder.path(), "no program\n", 0o755)).unwrap();
        assert!(matches!(binary.release().await, Err(Error::Start { .. })));
    }

    #[tokio::test]
    async fn another_program_is_refused_with_what_it_says() {
        let binary = Binary::open(Path::new("/bin/bash")).unwrap();
        let error = binary.release().await.unwrap_err().to_string();
        assert!(error.contains("does not say that it is the gateway, but: GNU bash"), "{error}");
    }

    #[test]
    fn a_file_that_took_the_place_of_the_running_one_is_noticed() {
        let own = Own::find().unwrap();
        assert!(!own.is_replaced());
        let folder = tempfile::tempdir().unwrap();
        let other = Own { path: script(folder.path(), "", 0o755), ..own.clone() };
        assert!(other.is_replaced());
        // Nothing in its place is no new release.
        let missing = Own { path: folder.path().join("missing"), ..own };
        assert!(!missing.is_replaced());
    }
}
