//! `bpf-linker`, which makes an eBPF object of what the compiler writes.
//!
//! It has to be built with an LLVM that reads the compiler's bitcode. The compiler's own LLVM does
//! by definition, and lies in every toolchain of rustup that has it as a shared library: so that
//! comes first, and Debian's packages second.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use gateway_tests::process::done;

use crate::ebpf::Toolchain;
use crate::machine::{self, Compiler, Distribution};
use crate::packages::{self, Group};
use crate::{say, step};

/// The version that is known to work with the compiler in `rust-toolchain.toml`.
const VERSION: &str = "0.13.0";

/// LLVM versions it can be built with.
const LLVM: [u32; 3] = [21, 22, 23];

/// Where one of our own is installed: inside the clone, as it may be bound to its toolchain.
fn tools() -> PathBuf {
    step::target().join("tools")
}

/// One that runs and has the right version: our own, else that of `PATH`.
pub(crate) fn find() -> Option<PathBuf> {
    let own = tools().join("bin/bpf-linker");
    let mut candidates = [Some(own), machine::find_program("bpf-linker")].into_iter().flatten();
    // One that was built for a toolchain that is gone does not start.
    candidates.find(|path| done(Command::new(path).arg("--version")).is_ok_and(|said| said.contains(VERSION)))
}

/// Installs one unless it is there.
pub(crate) fn install() -> anyhow::Result<()> {
    if let Some(path) = find() {
        say::fine(&format!("bpf-linker {VERSION} at {}", path.display()));
        return Ok(());
    }
    let compiler = Toolchain::find().unwrap_or(Toolchain::Source).compiler()?;
    let (version, prefix) = match of_compiler(&compiler)? {
        Some(prefix) => (compiler.llvm, prefix),
        None => of_packages(&compiler)?,
    };
    let feature = format!("llvm-{version}");
    let mut command = step::cargo(&["install", "bpf-linker", "--locked", "--version", VERSION, "--root"]);
    command.arg(tools()).args(["--no-default-features", "--features", &feature]);
    command.env("LLVM_PREFIX", &prefix);
    let what =
        format!("build bpf-linker {VERSION} with LLVM {version} of {}; one or two minutes", prefix.display());
    step::run(&what, &mut command)?;
    find().map(|_| ()).context("bpf-linker was built, but does not run")
}

/// A folder that looks like an LLVM installation and holds the compiler's own library.
fn of_compiler(compiler: &Compiler) -> anyhow::Result<Option<PathBuf>> {
    let Some(library) = compiler.llvm_library().filter(|_| LLVM.contains(&compiler.llvm)) else {
        return Ok(None);
    };
    let prefix = tools().join("llvm");
    let folder = prefix.join("lib");
    fs::create_dir_all(&folder)?;
    // Once under the name that `-lLLVM` looks for, once under its own, which the program loads.
    let own_name = library.file_name().context("a library without a name")?;
    for name in [Path::new("libLLVM.so"), Path::new(own_name)] {
        let link = folder.join(name);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        symlink(&library, &link)?;
    }
    Ok(Some(prefix))
}

/// An LLVM of Debian's packages, installed unless it is there.
fn of_packages(compiler: &Compiler) -> anyhow::Result<(u32, PathBuf)> {
    // LLVM reads what older versions write, never the reverse.
    let versions: Vec<u32> = LLVM.into_iter().filter(|&version| version >= compiler.llvm).collect();
    let installed = versions.iter().find_map(|&version| Some((version, package_prefix(version)?)));
    if let Some(found) = installed {
        return Ok(found);
    }
    let is_offered = |version: &u32| packages::is_offered(&format!("llvm-{version}-dev"));
    let Some(version) =
        versions.iter().copied().find(is_offered).filter(|_| Distribution::here().is_debian_like)
    else {
        bail!(
            "this compiler brings no LLVM library, and no package source of this machine offers LLVM {} or later. \
             Either use a toolchain of rustup, or put the released bpf-linker {VERSION} for this machine from \
             https://github.com/aya-rs/bpf-linker/releases into a folder of PATH; then run this again",
            compiler.llvm
        )
    };
    let names = [format!("llvm-{version}-dev"), format!("libpolly-{version}-dev"), "libzstd-dev".to_owned()];
    packages::install(&[Group { purpose: "LLVM for bpf-linker", names: names.to_vec() }])?;
    let prefix = package_prefix(version).context("LLVM was installed, but its llvm-config is not there")?;
    Ok((version, prefix))
}

/// Where Debian puts LLVM's development files.
fn package_prefix(version: u32) -> Option<PathBuf> {
    let prefix = Path::new("/usr/lib").join(format!("llvm-{version}"));
    prefix.join("bin/llvm-config").is_file().then_some(prefix)
}
