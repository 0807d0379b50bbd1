//! What outlives this process: maps and links with a name in the BPF file system.
//!
//! Owns the folder they lie in, and whether what lies there can be taken over. The file system is
//! shared by network namespaces, so each has a folder of its own, and below it one for each version
//! of the kernel interface:
//!
//! ```text
//! /sys/fs/bpf/gateway/4026531840/abi-3/TRANSLATIONS
//!                                      links/2-ingress
//!                                      links/2-egress
//! ```

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData, MapError};
use gateway_common::flow::FlowKey;
use gateway_common::translation::Translation;
use gateway_common::{ABI_VERSION, name};
use nix::libc;
use nix::mount::{MsFlags, mount as mount_at};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

mod abandoned;

/// Where the BPF file system is, on every Linux.
const FILE_SYSTEM: &str = "/sys/fs/bpf";
/// The folder of all gateways.
const FOLDER: &str = "gateway";
/// What a folder's name begins with, before the version of the kernel interface.
const VERSION: &str = "abi-";
/// The folder of links.
const LINKS: &str = "links";

/// Which packets a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Those that come in.
    Ingress,
    /// Those that go out.
    Egress,
}

/// Why nothing can be pinned or taken over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("cannot use {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A map.
    #[error("cannot read the map at {}", path.display())]
    Map {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: MapError,
    },
    /// Flows are carried by a program of another version.
    #[error(
        "the kernel carries {} for a gateway whose program speaks version {found} of the kernel interface, \
         and this one speaks {ABI_VERSION}: let that gateway run until they have ended, or end them with \
         `gateway stop --drop-flows`",
        .carried.map_or_else(|| "flows".to_owned(), |carried| format!("{carried} flow{}", if carried == 1 { "" } else { "s" }))
    )]
    Version {
        /// The version of what is there.
        found: String,
        /// How many flows; `None`: they cannot be counted.
        carried: Option<usize>,
    },
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}

/// Makes sure that there is a BPF file system, as `bpftool` and iproute2 do. Needs
/// `CAP_SYS_ADMIN` where there is none yet.
///
/// # Errors
///
/// The kernel has none, or this process may not mount it.
pub fn mount() -> io::Result<()> {
    if is_mounted() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount_at(Some("bpf"), FILE_SYSTEM, Some("bpf"), flags, Some("mode=0700"))?)
}

/// Whether there is a BPF file system.
#[must_use]
pub fn is_mounted() -> bool {
    statfs(FILE_SYSTEM).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// The folder of this network namespace.
#[derive(Clone, Debug)]
pub struct Pins {
    /// That of all versions.
    namespace: PathBuf,
    /// That of the version this program speaks.
    folder: PathBuf,
}

impl Pins {
    /// The folder of the network namespace this process is in; `None`: there is no BPF file system.
    ///
    /// # Errors
    ///
    /// The namespace has no number.
    pub fn find() -> Result<Option<Self>, Error> {
        if !is_mounted() {
            return Ok(None);
        }
        let own = Path::new("/proc/self/ns/net");
        let number = own.metadata().map_err(file(own))?.ino();
        Ok(Some(Self::below(&Path::new(FILE_SYSTEM).join(FOLDER).join(number.to_string()))))
    }

    fn below(namespace: &Path) -> Self {
        Self { namespace: namespace.to_owned(), folder: namespace.join(format!("{VERSION}{ABI_VERSION}")) }
    }

    /// Makes the folder, and makes sure that flows are carried by no program of another version.
    /// What such a program left behind is removed if it carries none.
    ///
    /// # Errors
    ///
    /// [`Error::Version`], or the file system refuses.
    pub fn open(&self) -> Result<(), Error> {
        for (version, folder) in self.versions()? {
            if folder == self.folder {
                continue;
            }
            match carried(&folder)? {
                Some(0) => remove(&folder)?,
                carried => return Err(Error::Version { found: version, carried }),
            }
        }
        let links = self.folder.join(LINKS);
        DirBuilder::new().recursive(true).mode(0o700).create(&links).map_err(file(&links))
    }

    /// Removes what gateways have left in network namespaces that are gone. Returns in how many.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn remove_abandoned(&self) -> Result<usize, Error> {
        abandoned::sweep(self.namespace.parent().unwrap_or(&self.namespace), &self.namespace)
    }

    /// How many flows the kernel carries, whatever the version of the program; those that cannot
    /// be counted count as one.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn carried(&self) -> Result<usize, Error> {
        self.versions()?.iter().map(|(_, folder)| Ok(carried(folder)?.unwrap_or(1))).sum()
    }

    /// Removes all that is pinned here: a link that nobody holds is detached with its name.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn remove(&self) -> Result<(), Error> {
        remove(&self.namespace)?;
        // The folder of all gateways goes with the last of them.
        let all = self.namespace.parent().unwrap_or(&self.namespace);
        match fs::remove_dir(all) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTEMPTY)) => {
                Err(file(all)(error))
            }
            _ => Ok(()),
        }
    }

    /// The name of a map.
    #[must_use]
    pub fn map(&self, map: &str) -> PathBuf {
        self.folder.join(map)
    }

    /// The name of a link to the interface with this number.
    #[must_use]
    pub fn link(&self, interface: u32, way: Way) -> PathBuf {
        let way = match way {
            Way::Ingress => "ingress",
            Way::Egress => "egress",
        };
        self.folder.join(LINKS).join(format!("{interface}-{way}"))
    }

    /// The numbers of the interfaces that links have names for.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn linked(&self) -> Result<Vec<u32>, Error> {
        let number = |(name, _): (String, PathBuf)| name.split('-').next()?.parse().ok();
        Ok(entries(&self.folder.join(LINKS))?.into_iter().filter_map(number).collect())
    }

    /// Removes the names of links to all interfaces but those in `kept`. Returns how many there were.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn remove_links_except(&self, kept: &[u32]) -> Result<usize, Error> {
        let mut removed = 0;
        for (name, path) in entries(&self.folder.join(LINKS))? {
            let interface = name.split('-').next().and_then(|number| number.parse().ok());
            if interface.is_none_or(|interface| !kept.contains(&interface)) {
                remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Each version that something is pinned for.
    fn versions(&self) -> Result<Vec<(String, PathBuf)>, Error> {
        let named = |(name, path): (String, PathBuf)| Some((name.strip_prefix(VERSION)?.to_owned(), path));
        Ok(entries(&self.namespace)?.into_iter().filter_map(named).collect())
    }
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let read = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(file(folder))?,
    };
    read.map(|entry| {
        let entry = entry.map_err(file(folder))?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
    })
    .collect()
}

/// Removes a name, or a folder with all names in it.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(path)(error)),
        _ => Ok(()),
    }
}

/// How many flows the map of translations in a folder has; `None`: its layout is unknown.
fn carried(folder: &Path) -> Result<Option<usize>, Error> {
    let path = folder.join(name::TRANSLATIONS);
    if !path.exists() {
        return Ok(Some(0));
    }
    let failed = |source| Error::Map { path: path.clone(), source };
    let map = || MapData::from_pin(&path).map_err(failed);
    let info = map()?.info().map_err(failed)?;
    if info.key_size() as usize != size_of::<FlowKey>() {
        return Ok(None);
    }
    // Values of other versions may be of another size, and begin with the state like these.
    let counted = match info.value_size() {
        64 => count::<64>(map()?),
        72 => count::<72>(map()?),
        80 => count::<80>(map()?),
        88 => count::<88>(map()?),
        96 => count::<96>(map()?),
        _ => return Ok(None),
    };
    counted.map(Some).map_err(failed)
}

fn count<const SIZE: usize>(map: MapData) -> Result<usize, MapError> {
    let map: HashMap<_, FlowKey, [u8; SIZE]> = HashMap::try_from(Map::HashMap(map))?;
    let forwarding =
        |value: &[u8; SIZE]| value.get(Translation::STATE) == Some(&Translation::forwarding_state());
    let entries = map.keys().map_while(Result::ok).filter_map(|key| map.get(&key, 0).ok());
    // Each flow has two.
    Ok(entries.filter(forwarding).count().div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_named_with_what_to_do() {
        let error = |carried| Error::Version { found: "2".to_owned(), carried }.to_string();
        assert!(error(Some(1)).starts_with("the kernel carries 1 flow for a gateway"), "{}", error(Some(1)));
        assert!(
            error(Some(12)).contains("12 flows") && error(Some(12)).contains("gateway stop --drop-flows")
        );
        assert!(error(None).contains("carries flows for"));
    }

    #[test]
    fn links_of_other_interfaces_are_removed_and_the_folder_goes_with_all_in_it() {
        let root = tempfile::tempdir().unwrap();
        let pins = Pins::below(&root.path().join("gateway/1"));
        assert_eq!(pins.carried().unwrap(), 0);
        pins.open().unwrap();
        for link in [pins.link(2, Way::Ingress), pins.link(2, Way::Egress), pins.link(31, Way::Ingress)] {
            fs::write(link, "").unwrap();
        }
        assert_eq!(pins.remove_links_except(&[2]).unwrap(), 1);
        assert!(pins.link(2, Way::Egress).exists() && !pins.link(31, Way::Ingress).exists());
        pins.remove().unwrap();
        pins.remove().unwrap();
        assert!(!root.path().join("gateway").exists());
    }

    #[test]
    fn what_another_version_left_without_flows_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let pins = Pins::below(&root.path().join("gateway/1"));
        let other = root.path().join("gateway/1/abi-0");
        fs::create_dir_all(other.join(LINKS)).unwrap();
        pins.open().unwrap();
        assert!(!other.exists());
    }
}
