//! Files for scripts: they find the old one or the new one, and never half of one.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes `text` to `path` in one step, over what is there. A missing folder is made, since what is below
/// `/run` is gone after each boot; the one above it has to be there.
///
/// # Errors
///
/// The folder cannot be made, or the file cannot be written.
pub(super) fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(folder).map_err(|error| {
        io::Error::new(error.kind(), format!("its folder {} cannot be made: {error}", folder.display()))
    })?;
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    let file: File = file.persist(path)?;
    // Not with the file itself: the mode of the process would take bits away.
    file.set_permissions(Permissions::from_mode(mode))
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        // For everybody to look into, whatever the mode of the process.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missing_folder_is_made_and_no_more() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("run");
        let file = folder.join("gateway.pid");
        for text in ["1\n", "2\n"] {
            replace(&file, text, 0o644).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&folder), mode(&file)), (0o755, 0o644));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let home = tempfile::tempdir().unwrap();
        let deep = replace(&home.path().join("a/b/gateway.pid"), "1\n", 0o644).unwrap_err();
        assert_eq!(deep.kind(), ErrorKind::NotFound);
        let folder = home.path().join("a/b");
        let told = format!("its folder {} cannot be made: No such file or directory", folder.display());
        assert!(deep.to_string().starts_with(&told), "{deep}");
        assert!(!home.path().join("a").exists());
        // A file where the folder should be.
        fs::write(home.path().join("run"), "").unwrap();
        assert!(replace(&home.path().join("run/gateway.pid"), "1\n", 0o644).is_err());
    }
}
