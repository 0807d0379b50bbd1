//! What the section `delivery` names and does not hold: tables, certificates, keys.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::SettingsError;
use crate::table::{Maps, TableSpec};

/// Largest file that is read, in octets; the certificates of all authorities that there are have 230,000.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Files by name.
pub trait Files {
    /// What a file holds.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The files of a folder.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// Those of this host.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // A device would have no end.
        let about = fs::metadata(path)?;
        if !about.is_file() || about.len() > LARGEST {
            let message = format!("no file of at most {LARGEST} octets");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        fs::read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                found.push(path);
            }
        }
        // The same order each time: what is told of them does not change.
        found.sort();
        Ok(found)
    }
}

pub(super) fn read(path: &Path, files: &impl Files) -> Result<Vec<u8>, SettingsError> {
    files.read(path).map_err(|error| SettingsError::Read { path: path.display().to_string(), error })
}

/// The tables that a key names.
pub(super) fn maps(specs: &[TableSpec], files: &impl Files) -> Result<Maps, SettingsError> {
    let mut tables = Vec::new();
    for spec in specs {
        let text = match spec.file() {
            Some(path) => String::from_utf8_lossy(&read(path, files)?).into_owned(),
            None => String::new(),
        };
        tables.push(spec.table(&text)?);
    }
    Ok(Maps::new(tables))
}

/// What a file of certificates and all files of a folder hold. In the folder there may be others (`CApath`).
pub(super) fn authorities(
    file: Option<&Path>,
    folder: Option<&Path>,
    files: &impl Files,
) -> Result<Vec<u8>, SettingsError> {
    let mut all = match file {
        Some(path) => read(path, files)?,
        None => Vec::new(),
    };
    if let Some(folder) = folder {
        let listed = files.list(folder);
        let error = |error| SettingsError::Read { path: folder.display().to_string(), error };
        for path in listed.map_err(error)? {
            let octets = read(&path, files)?;
            if octets.windows(MARK.len()).any(|window| window == MARK) {
                all.push(b'\n');
                all.extend(octets);
            }
        }
    }
    Ok(all)
}

/// What a certificate in PEM form begins with (RFC 7468 section 5.1).
const MARK: &[u8] = b"-----BEGIN CERTIFICATE-----";
