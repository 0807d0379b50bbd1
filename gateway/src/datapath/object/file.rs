//! The object file: where it is, and whether root may trust it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::Error;
use crate::datapath::source;

/// Names another object file than the installed one.
pub const OBJECT_VARIABLE: &str = "GATEWAY_EBPF_OBJECT";
/// The object file's name beside the executable.
const BESIDE_EXECUTABLE: &str = "gateway-ebpf.o";
/// Where packages put it.
const INSTALLED: &str = "/usr/lib/gateway/gateway-ebpf.o";

/// Where the object file is.
pub(super) fn find() -> Result<PathBuf, Error> {
    let mut looked = Vec::new();
    if let Some(named) = std::env::var_os(OBJECT_VARIABLE) {
        looked.push(PathBuf::from(named));
    } else {
        let executable = std::env::current_exe().ok();
        looked.extend(executable.and_then(|path| Some(path.parent()?.join(BESIDE_EXECUTABLE))));
        looked.push(PathBuf::from(INSTALLED));
    }
    match looked.iter().find(|path| path.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(Error::Absent { looked }),
    }
}

/// Reads an object file that nobody but its owner may have written.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    if let Some(mode) = source::lets_others_write(&file).map_err(failed)? {
        return Err(Error::Writable { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::privilege::user;

    #[test]
    fn an_object_that_others_may_write_is_refused_to_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(BESIDE_EXECUTABLE);
        fs::write(&path, "an object").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o646)).unwrap();
        assert_eq!(matches!(read(&path), Err(Error::Writable { mode: 0o646, .. })), user::is_root());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&path).unwrap(), b"an object");
        assert!(matches!(read(&folder.path().join("absent")), Err(Error::Read { .. })));
    }
}
