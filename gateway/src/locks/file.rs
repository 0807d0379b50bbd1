//! The file in which locks outlive the gateway.
//!
//! Earlier releases wrote a plain list of what operators had locked; it is read, too.

use std::io::{self, Write as _};
use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::file::LockAction;
use crate::policy::lock::{Cause, Lock, Who};

/// The file's name in the spool folder.
pub const FILE: &str = "locks.json";

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) locks: Vec<Lock>,
    /// Networks that operators have exempted.
    pub(super) exempt: Vec<IpNet>,
}

/// A lock as earlier releases wrote it.
#[derive(Debug, Deserialize)]
struct Earlier {
    net: IpNet,
    action: LockAction,
    cause: String,
    since: u64,
    until: Option<u64>,
}

impl From<Earlier> for Lock {
    fn from(earlier: Earlier) -> Self {
        let Earlier { net, action, cause: detail, since, until } = earlier;
        let (who, cause) = (Who::Net(net), Cause::Operator);
        Self { who, action, cause, detail, session: None, since, until, offences: 0, refused: 0 }
    }
}

/// A file that cannot be read is told of, and no reason not to start.
pub(super) fn read(file: &Path) -> Kept {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Kept::default(),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "locks cannot be read; none are in force");
            return Kept::default();
        }
    };
    if let Ok(earlier) = serde_json::from_slice::<Vec<Earlier>>(&text) {
        return Kept { locks: earlier.into_iter().map(Lock::from).collect(), exempt: Vec::new() };
    }
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(file = %file.display(), %error, "locks cannot be understood; none are in force");
        Kept::default()
    })
}

/// Replaces the file in one step: whoever reads it finds all locks or those of before.
pub(super) fn write(file: &Path, kept: &Kept) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().prefix(".locks-").tempfile_in(folder)?;
    serde_json::to_writer(io::BufWriter::new(&mut new), kept)?;
    new.flush()?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_list_of_locks_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        std::fs::write(&file, b"{\"locks\":[{\"who\":\"no\"}],\"exempt\":[]}").unwrap();
        assert!(read(&file).locks.is_empty());
    }

    #[test]
    fn the_list_of_an_earlier_release_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let list = r#"[{"net":"192.0.2.0/24","action":"drop","cause":"spam","since":5,"until":null}]"#;
        std::fs::write(&file, list).unwrap();
        let Kept { locks, exempt } = read(&file);
        assert!(exempt.is_empty());
        assert_eq!((locks[0].who.to_string().as_str(), locks[0].detail.as_str()), ("192.0.2.0/24", "spam"));
        assert_eq!((locks[0].action, locks[0].cause), (LockAction::Drop, Cause::Operator));
    }
}
