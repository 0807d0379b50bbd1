//! Text handed to another process as a sealed memory file (`memfd_create(2)`).
//!
//! Owns that the reader sees exactly what the writer sealed: the file can neither change nor
//! shrink, so reading it is as good as reading memory.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags};

/// Octets of the largest text that is read.
pub const MAX_TEXT: usize = 1024 * 1024;

/// The seals that make a file unchangeable.
const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// Why a memory file could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("a memory file cannot be made or read")]
    File(#[from] io::Error),
    /// The sender may still change it.
    #[error("a memory file is not sealed")]
    NotSealed,
    /// Larger than [`MAX_TEXT`].
    #[error("a text is longer than {MAX_TEXT} octets")]
    TooLong,
    /// Not UTF-8.
    #[error("a text is not UTF-8")]
    NotText,
}

/// Puts `text` into a sealed memory file.
///
/// # Errors
///
/// [`Error::TooLong`], or what the system refuses.
pub fn seal(text: &str) -> Result<OwnedFd, Error> {
    if text.len() > MAX_TEXT {
        return Err(Error::TooLong);
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("gateway", flags).map_err(io::Error::from)?);
    file.write_all(text.as_bytes())?;
    rustix::fs::fcntl_add_seals(&file, SEALS).map_err(io::Error::from)?;
    Ok(file.into())
}

/// Reads the text that [`seal`] put there.
///
/// # Errors
///
/// [`Error::NotSealed`] for any other file; the others as they say.
pub fn read(file: OwnedFd) -> Result<String, Error> {
    let seals = rustix::fs::fcntl_get_seals(&file).map_err(|_| Error::NotSealed)?;
    if !seals.contains(SEALS) {
        return Err(Error::NotSealed);
    }
    let file = File::from(file);
    let length = usize::try_from(file.metadata()?.len()).map_err(|_| Error::TooLong)?;
    if length > MAX_TEXT {
        return Err(Error::TooLong);
    }
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, 0)?;
    String::from_utf8(text).map_err(|_| Error::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_as_often_as_it_is_read() {
        let file = seal("name: gw.example\n").unwrap();
        assert_eq!(read(file.try_clone().unwrap()).unwrap(), "name: gw.example\n");
        assert_eq!(read(file).unwrap(), "name: gw.example\n");
        assert_eq!(read(seal("").unwrap()).unwrap(), "");
    }

    #[test]
    fn a_sealed_text_cannot_be_changed() {
        let file = File::from(seal("one").unwrap());
        assert!(file.write_at(b"two", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(10).is_err());
    }

    #[test]
    fn a_file_without_seals_is_refused() {
        let plain = tempfile::tempfile().unwrap();
        assert!(matches!(read(plain.into()), Err(Error::NotSealed)));
        let open = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(matches!(read(open), Err(Error::NotSealed)));
    }

    #[test]
    fn a_text_that_is_too_long_or_not_text_is_refused() {
        assert!(matches!(seal(&"x".repeat(MAX_TEXT + 1)), Err(Error::TooLong)));
        let mut file = File::from(
            rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap(),
        );
        file.write_all(b"\xff").unwrap();
        rustix::fs::fcntl_add_seals(&file, SEALS).unwrap();
        assert!(matches!(read(file.into()), Err(Error::NotText)));
    }
}
