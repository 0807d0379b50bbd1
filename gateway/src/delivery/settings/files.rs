//! What the section `delivery` names and does not hold: tables, certificates, keys.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{SettingsError, signers};
use crate::config::Config;
use crate::delivery::dkim::KeyError;
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

    /// The permission bits of a file.
    ///
    /// # Errors
    ///
    /// They are not known.
    fn mode(&self, path: &Path) -> io::Result<u32>;

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

    fn mode(&self, path: &Path) -> io::Result<u32> {
        Ok(fs::metadata(path)?.mode() & 0o7777)
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

/// What others than the owner and those of his group can do with a file, and his group to it.
const OPEN: u32 = 0o027;

/// A private key, which others may not have.
pub(super) fn secret(path: &Path, files: &impl Files) -> Result<Vec<u8>, KeyError> {
    let mode = files.mode(path)?;
    if mode & OPEN != 0 { Err(KeyError::Open(mode)) } else { Ok(files.read(path)?) }
}

/// The files of `delivery.dkim` that have no key that can sign: their keys in the configuration, and what is wrong with
/// each. Where nothing is delivered, none is read.
#[must_use]
pub fn unusable_keys(config: &Config, files: &impl Files) -> Vec<(String, SettingsError)> {
    let entries = if config.queue.directory.is_some() { config.delivery.dkim.as_slice() } else { &[] };
    let faults = entries.iter().enumerate().filter_map(|(number, entry)| {
        let error = signers(std::slice::from_ref(entry), files).err()?;
        Some((format!("delivery.dkim.{number}.key"), error))
    });
    faults.collect()
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
