//! A folder whose file system failed and was taken away, for example to be repaired.
//!
//! A file system that the kernel has made read-only for an error can be used by nobody again before it was
//! unmounted, checked and mounted, and it can be checked by nobody while a process has something of it open.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::Folder;

impl Folder {
    /// Lets go of a folder that is not at its path any more and whose file system fails; says whether it did so now. From
    /// then on nothing can be done with it, nor with its clones. One that works is kept, wherever it is. Blocks.
    #[must_use]
    pub fn let_go_if_lost(&self) -> bool {
        self.is_held() && !self.is_shown() && self.fails() && self.fd.swap(None).is_some()
    }

    /// Whether it was not let go.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.fd.load().is_some()
    }

    /// Whether there is a folder of the gateway's at the path of one that was let go.
    #[must_use]
    pub fn is_back(&self) -> bool {
        let is_own = |found: &fs::Metadata| found.is_dir() && found.uid() == geteuid().as_raw();
        !self.is_held() && fs::metadata(&self.path).is_ok_and(|found| is_own(&found))
    }

    /// Whether it is what its path leads to. Where nobody can say, it is.
    fn is_shown(&self) -> bool {
        let Ok(own) = self.fd().and_then(|fd| fd.metadata()) else { return true };
        match fs::metadata(&self.path) {
            Ok(found) => (found.dev(), found.ino()) == (own.dev(), own.ino()),
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }

    /// Whether no file can be made for the file system's sake. One that is full does not fail.
    fn fails(&self) -> bool {
        let name = format!("probe-{}", std::process::id());
        let made = match self.create(&name) {
            Ok(_) => self.remove(&name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.remove(&name),
            Err(error) => Err(error),
        };
        let errno = made.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw);
        matches!(
            errno,
            Some(
                Errno::EROFS
                    | Errno::EIO
                    | Errno::ENODEV
                    | Errno::ENXIO
                    | Errno::ESHUTDOWN
                    | Errno::ESTALE
                    | Errno::EUCLEAN
            )
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_works_is_kept_wherever_it_is() {
        let root = tempfile::tempdir().unwrap();
        let (path, other) = (root.path().join("own"), root.path().join("other"));
        let folder = Folder::open(&path).unwrap();
        assert!(folder.is_shown());
        fs::rename(&path, &other).unwrap();
        assert!(!folder.is_shown() && !folder.fails());
        assert!(!folder.let_go_if_lost() && folder.is_held() && !folder.is_back());
        folder.create("file").unwrap();
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1, "and no probe is left");
    }

    #[test]
    fn one_that_was_let_go_is_of_no_use_and_may_come_back() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("own");
        let folder = Folder::open(&path).unwrap();
        folder.clone().fd.store(None);
        assert!(!folder.is_held() && folder.is_back() && !folder.let_go_if_lost());
        for result in [
            folder.create("file").map(drop),
            folder.read("file").map(drop),
            folder.names().map(drop),
            folder.free().map(drop),
            folder.sync(),
        ] {
            let error = result.unwrap_err();
            assert!(error.to_string().contains("was taken away"), "{error}");
        }
        fs::remove_dir(&path).unwrap();
        assert!(!folder.is_back());
    }
}
