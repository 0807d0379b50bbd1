//! The file with the process number, for scripts that want one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::publish;

/// Readable for everybody: scripts and monitors run under accounts of their own.
const MODE: u32 = 0o644;

/// A file that holds this process's number until it is dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file in one step, over one that a killed predecessor left. Nothing is written
    /// when `path` is empty.
    ///
    /// # Errors
    ///
    /// The folder cannot be made or written.
    pub fn write(path: &Path) -> io::Result<Option<Self>> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        publish::replace(path, &own(), MODE)?;
        Ok(Some(Self(path.to_owned())))
    }
}

fn own() -> String {
    format!("{}\n", std::process::id())
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A successor may have put its own number there.
        if fs::read_to_string(&self.0).is_ok_and(|text| text == own())
            && let Err(error) = fs::remove_file(&self.0)
        {
            warn!(path = %self.0.display(), %error, "cannot remove the pid file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_while_the_process_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.pid");
        fs::write(&path, "1\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), own());
        drop(file);
        assert!(!path.exists());
        assert!(PidFile::write(Path::new("")).unwrap().is_none());
    }

    #[test]
    fn a_successors_number_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.pid");
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }
}
