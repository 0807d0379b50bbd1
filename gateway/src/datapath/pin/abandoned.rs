//! What gateways have left in network namespaces that are gone.
//!
//! A namespace takes its interfaces along, and so all that its program could have carried; only the
//! names stay, and with them the memory of the maps. Whether a namespace is gone is asked twice: none
//! of the links holds an interface any more, and nobody is seen in it.

use std::fs;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};

use super::{Error, LINKS, entries, remove};

/// Removes the folders of namespaces that are gone, but for the one `own`. Returns how many.
pub(super) fn sweep(all: &Path, own: &Path) -> Result<usize, Error> {
    let mut removed = 0;
    for (name, folder) in entries(all)? {
        let Ok(number) = name.parse::<u64>() else { continue };
        // The links first: what is seen of processes is another moment's.
        if folder != own && holds_nothing(&folder)? && is_unseen(number) {
            remove(&folder)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether there are links, and none of them holds an interface.
fn holds_nothing(namespace: &Path) -> Result<bool, Error> {
    let mut links = Vec::new();
    for (_, version) in entries(namespace)? {
        links.extend(entries(&version.join(LINKS))?);
    }
    Ok(!links.is_empty() && links.iter().all(|(_, path)| is_loose(path)))
}

/// Whether a link holds no interface. One that cannot be read may.
fn is_loose(path: &Path) -> bool {
    let Ok(link) = PinnedLink::from_pin(path).map(FdLink::from) else { return false };
    let Ok(id) = link.info().map(|info| info.id()) else { return false };
    // The descriptor is this process's only one of that link.
    let Ok(descriptors) = fs::read_dir("/proc/self/fdinfo") else { return false };
    let mut told = descriptors.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let interface =
        told.find(|text| field(text, "link_id") == Some(id)).and_then(|text| field(&text, "ifindex"));
    interface == Some(0)
}

/// A number in `/proc/self/fdinfo/…`.
fn field(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

/// Whether no name leads to the network namespace with this number and no process is seen in it.
/// Of processes that cannot be looked at, only gateways count: it is their state that is removed.
fn is_unseen(number: u64) -> bool {
    let name = format!("net:[{number}]");
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return false };
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let Ok(own) = fs::read("/proc/self/comm") else { return false };
    let is_there = |process: &Path| match fs::read_link(process.join("ns/net")) {
        Ok(namespace) => namespace == Path::new(&name),
        Err(_) => fs::read(process.join("comm")).is_ok_and(|name| name == own),
    };
    let mut processes = processes.flatten().filter(|process| is_number(&process.file_name()));
    !mounts.split_whitespace().any(|word| word == name) && !processes.any(|process| is_there(&process.path()))
}

fn is_number(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_number_of_an_interface_is_read_from_what_the_kernel_tells_of_a_descriptor() {
        let told = "pos:\t0\nflags:\t02000002\nlink_type:\ttcx\nlink_id:\t31\nprog_id:\t7\nifindex:\t0\n";
        assert_eq!(
            (field(told, "link_id"), field(told, "ifindex"), field(told, "absent")),
            (Some(31), Some(0), None)
        );
    }

    #[test]
    fn a_folder_without_links_or_of_a_namespace_that_is_seen_stays() {
        let root = tempfile::tempdir().unwrap();
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert!(!is_unseen(own));
        for name in ["1", "name"] {
            fs::create_dir_all(root.path().join(name).join("abi-1").join(LINKS)).unwrap();
        }
        assert_eq!(sweep(root.path(), &root.path().join("7")).unwrap(), 0);
        assert!(root.path().join("1").exists());
    }
}
