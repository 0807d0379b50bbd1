//! The machine this runs on.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use gateway_tests::process::done;
use nix::unistd::Uid;

/// Whether this runs as root.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// A Linux distribution, from `/etc/os-release` (os-release(5)).
#[derive(Debug)]
pub(crate) struct Distribution {
    /// How it calls itself.
    pub(crate) name: String,
    /// Whether it is Debian, or made from it.
    pub(crate) is_debian_like: bool,
}

impl Distribution {
    /// The one this machine runs.
    pub(crate) fn here() -> Self {
        Self::read(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn read(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let family = format!("{} {}", value("ID"), value("ID_LIKE"));
        Self {
            name: value("PRETTY_NAME"),
            is_debian_like: family.split_whitespace().any(|id| id == "debian" || id == "ubuntu"),
        }
    }
}

/// Where a program is, looked for in `PATH`, the system folders and cargo's own.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from).join("bin");
    let system = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    let folders = std::env::split_paths(&path).chain([cargo]).chain(system);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What a compiler says of itself.
#[derive(Debug)]
pub(crate) struct Compiler {
    /// Major version of its LLVM.
    pub(crate) llvm: u32,
    /// Its folder.
    sysroot: PathBuf,
}

impl Compiler {
    /// The compiler that this command runs.
    pub(crate) fn of(rustc: impl Fn() -> Command) -> anyhow::Result<Self> {
        let said = done(rustc().arg("-vV"))?;
        let sysroot = done(rustc().args(["--print", "sysroot"]))?;
        Ok(Self {
            llvm: llvm_major(&said).context("`rustc -vV` names no LLVM version")?,
            sysroot: PathBuf::from(sysroot.trim()),
        })
    }

    /// Its LLVM as a shared library: absent where the distribution built the compiler, or where the
    /// library is part of the compiler itself.
    pub(crate) fn llvm_library(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.sysroot.join("lib")).ok()?.flatten();
        let mut names =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("libLLVM.so."));
        names.next().map(|entry| entry.path())
    }

    /// Whether the source of `core` is there, which `-Z build-std` compiles.
    pub(crate) fn has_source(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
    }

    /// Whether a ready-built `core` for this target is there.
    pub(crate) fn has_core(&self, target: &str) -> bool {
        let folder = self.sysroot.join("lib/rustlib").join(target).join("lib");
        let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    }
}

fn llvm_major(said: &str) -> Option<u32> {
    let version = said.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ubuntu_counts_as_debian_and_fedora_does_not() {
        let ubuntu = "PRETTY_NAME=\"Ubuntu 24.04 LTS\"\nID=ubuntu\nID_LIKE=debian\n";
        assert!(Distribution::read(ubuntu).is_debian_like);
        assert_eq!(Distribution::read(ubuntu).name, "Ubuntu 24.04 LTS");
        assert!(!Distribution::read("ID=fedora\nPRETTY_NAME=\"Fedora Linux 43\"\n").is_debian_like);
    }

    #[test]
    fn the_llvm_version_is_read_from_what_rustc_says() {
        assert_eq!(llvm_major("rustc 1.95.0\nrelease: 1.95.0\nLLVM version: 22.1.2\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.95.0\n"), None);
    }
}
