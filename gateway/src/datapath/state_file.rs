//! The file that says how the gateway is, for scripts.

use std::io;
use std::os::fd::OwnedFd;

use tracing::warn;

use super::publish;
use crate::config::file::StateFile;
use crate::ipc::memfile;

/// Writes what the proxy has brought to where the configuration wants it, in one step: a reader
/// sees the old file or the new one. Trouble is told in the log and changes nothing else.
pub(super) fn write(config: &StateFile, brought: Vec<OwnedFd>) {
    let path = &config.path;
    if path.as_os_str().is_empty() {
        return;
    }
    let text = brought.into_iter().next().ok_or(memfile::Error::NotSealed).and_then(memfile::read);
    let written = match text {
        Ok(text) => publish::replace(path, &text, config.mode.bits()),
        Err(error) => Err(io::Error::other(error)),
    };
    if let Err(error) = written {
        warn!(path = %path.display(), %error, "cannot write the state file; see `state-file.path`");
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_replaced_and_has_the_mode_it_should() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, "older and longer").unwrap();
        let config = StateFile {
            path: path.clone(),
            mode: "0664".to_owned().try_into().unwrap(),
            ..StateFile::default()
        };
        write(&config, vec![memfile::seal("version: 1\n").unwrap()]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "version: 1\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o664);
        // What no proxy sends leaves the file as it is.
        write(&config, vec![]);
        write(&config, vec![File::open(&path).unwrap().into()]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "version: 1\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
