//! The configuration file, as a process with power must read it.
//!
//! Owns who may have written it, how long it may be, and which changes a running gateway can take.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::file::Config;
use crate::config::{self, Problems};
use crate::privilege::{Keep, user};

/// Mode bits that let others than the owner write.
const OTHERS_WRITE: u32 = 0o022;

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("cannot read {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others could make root do what they like.
    #[error(
        "{} can be written by others than its owner (mode {mode:04o}), and root acts on it: \
         run `chmod go-w {}`", path.display(), path.display()
    )]
    Writable {
        /// Its path.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What is in it.
    #[error("the configuration cannot be used\n{0}")]
    Problems(Problems),
    /// A good configuration that cannot replace the one in force.
    #[error("`{0}` cannot change while the gateway runs; restart it")]
    NeedsRestart(&'static str),
}

/// A configuration that was found good, with the text it was read from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it was read.
    pub path: PathBuf,
    /// What it says.
    pub config: Config,
    /// Its text, which the proxy reads for itself.
    pub text: String,
    /// What an operator should look at.
    pub warnings: Problems,
}

impl Source {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    ///
    /// The file, or everything that is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if let Some(mode) = lets_others_write(&file).map_err(failed)? {
            return Err(Error::Writable { path: path.to_owned(), mode });
        }
        let bytes = config::bytes_of(file).map_err(failed)?;
        let (config, warnings) =
            config::examine(&bytes, &path.display().to_string()).map_err(Error::Problems)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        Ok(Self { path: path.to_owned(), config, text, warnings })
    }

    /// Whether this configuration can follow the one whose text is `running`, in a process that takes
    /// over what that one has made.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsRestart`] for a change that a running gateway cannot take,
    /// [`Error::Problems`] when this release cannot read the old text.
    pub fn check_successor_of(&self, running: &str) -> Result<(), Error> {
        let old = config::parse(running, "the configuration in force").map_err(Error::Problems)?;
        fixed_key(&old, &self.config).map_or(Ok(()), |key| Err(Error::NeedsRestart(key)))
    }

    /// Reads the file again, for a gateway that runs with `self`.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and [`Error::NeedsRestart`] for a change that a running gateway cannot take.
    pub fn reread(&self) -> Result<Self, Error> {
        let new = Self::read(&self.path)?;
        match fixed_key(&self.config, &new.config) {
            Some(key) => Err(Error::NeedsRestart(key)),
            None => Ok(new),
        }
    }
}

/// The mode of a file on which root acts and which others than its owner may write; `None`: they
/// may not, or this process is not root.
pub(super) fn lets_others_write(file: &File) -> io::Result<Option<u32>> {
    let mode = file.metadata()?.mode();
    Ok((user::is_root() && mode & OTHERS_WRITE != 0).then_some(mode & 0o7777))
}

/// What the proxy of this configuration must keep: a socket that takes the client's address needs
/// a capability.
#[must_use]
pub fn keep(config: &Config) -> Keep {
    use crate::config::file::{Origin, SourceAddress};
    match (config.origin, config.source_address) {
        (Origin::Assign, SourceAddress::Preserve | SourceAddress::Auto) => Keep::TransparentSockets,
        (Origin::Assign, SourceAddress::Gateway)
        | (Origin::Netfilter | Origin::Fixed | Origin::Proxy | Origin::RemoteUdp | Origin::Remote, _) => {
            Keep::Nothing
        }
    }
}

/// Whether servers answer to the clients' own addresses, so that answers must be caught on their
/// way back.
#[must_use]
pub fn servers_answer_clients(config: &Config) -> bool {
    keep(config) == Keep::TransparentSockets
}

/// The first key with a change that takes a restart: what sockets, maps, routes and the account
/// were made from.
fn fixed_key(old: &Config, new: &Config) -> Option<&'static str> {
    let changes = [
        ("origin", old.origin != new.origin),
        ("listen", old.listen != new.listen),
        ("user", old.user != new.user),
        ("state", old.state != new.state),
        ("redis", old.redis != new.redis),
        ("state-directory", old.state_directory != new.state_directory),
        ("queue", old.queue != new.queue),
        ("source-address", keep(old) != keep(new)),
        ("control", old.control != new.control),
        ("process", old.process != new.process),
        ("limits.backlog", old.limits.backlog != new.limits.backlog),
        ("intercept.attach", old.intercept.attach != new.intercept.attach),
        ("intercept.routing", old.intercept.routing != new.intercept.routing),
        ("clients.table-size", old.clients.table_size != new.clients.table_size),
        ("intercept.flow-table-size", old.intercept.flow_table_size != new.intercept.flow_table_size),
    ];
    changes.into_iter().find(|(_, changed)| *changed).map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::file::{Origin, SourceAddress};

    #[test]
    fn a_file_that_others_may_write_is_refused_to_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, "name: gw.example\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        let read = Source::read(&path);
        assert_eq!(matches!(read, Err(Error::Writable { mode: 0o664, .. })), user::is_root());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Source::read(&path).unwrap().config.name, "gw.example");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_and_so_is_its_absence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        assert!(matches!(Source::read(&path), Err(Error::Read { .. })));
        fs::write(&path, "nmae: gw.example\n").unwrap();
        let error = Source::read(&path).unwrap_err().to_string();
        assert!(error.contains("gateway.yaml:1:1"), "{error}");
    }

    #[test]
    fn a_running_gateway_takes_a_new_name_but_no_new_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, "name: gw.example\n").unwrap();
        let source = Source::read(&path).unwrap();
        fs::write(&path, "name: mx.example\n").unwrap();
        assert_eq!(source.reread().unwrap().config.name, "mx.example");
        fs::write(&path, "listen: [127.0.0.1:2525]\n").unwrap();
        assert!(matches!(source.reread(), Err(Error::NeedsRestart("listen"))));
    }

    #[test]
    fn only_client_addresses_need_a_capability() {
        let config = |origin, source_address| Config { origin, source_address, ..Config::default() };
        assert_eq!(keep(&config(Origin::Assign, SourceAddress::Auto)), Keep::TransparentSockets);
        assert_eq!(keep(&config(Origin::Assign, SourceAddress::Gateway)), Keep::Nothing);
        assert_eq!(keep(&config(Origin::Fixed, SourceAddress::Preserve)), Keep::Nothing);
    }
}
