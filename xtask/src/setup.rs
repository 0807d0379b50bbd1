//! `cargo xtask setup`: everything that building and testing need.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use gateway_tests::process::done;

use crate::ebpf::{self, Toolchain};
use crate::machine::{self, Compiler, Distribution};
use crate::packages::{self, Group};
use crate::{say, step};

/// The linker's version that is known to work with the compiler in `rust-toolchain.toml`.
const LINKER_VERSION: &str = "0.13.0";

/// LLVM versions this linker version can be built with.
const LINKER_LLVM: [u32; 3] = [21, 22, 23];

/// Installs what is missing.
pub(crate) fn all() -> anyhow::Result<()> {
    if packages_wanted() {
        packages::install(&lab_packages())?;
    }
    build_tools()
}

/// Installs what building the eBPF object needs.
pub(crate) fn build_tools() -> anyhow::Result<()> {
    if ebpf::is_current() {
        return Ok(());
    }
    core_source()?;
    linker()
}

/// `XTASK_NO_PACKAGES=1` says that what the packages contain is there by other means.
fn packages_wanted() -> bool {
    std::env::var_os("XTASK_NO_PACKAGES").is_none()
}

fn lab_packages() -> Vec<Group> {
    vec![
        Group::new("networks and certificates", &["iproute2", "nftables", "openssl", "ca-certificates"]),
        Group::new("the console beside the demo", &["tmux"]),
        Group::new("a real scanner", &["clamav-daemon"]),
        Group::new("real SMTP servers and a load generator", &["postfix"]),
        Group::new("a real SMTP client", &["swaks", "libnet-ssleay-perl", "libio-socket-inet6-perl"]),
    ]
}

/// A `core` for the BPF target: its source for the compiler in use, or one of the other ways.
fn core_source() -> anyhow::Result<()> {
    if let Some(found) = Toolchain::find() {
        say::fine(&format!("core for BPF: {found}"));
        return Ok(());
    }
    let rustup = machine::find_program("rustup");
    if let Some(rustup) = rustup {
        let mut command = Command::new(rustup);
        command.args(["component", "add", "rust-src"]).current_dir(step::workspace());
        let added = step::run("add the source of Rust's core library", &mut command);
        if added.is_ok() && Toolchain::find().is_some() {
            return Ok(());
        }
    }
    let pair = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"].map(str::to_owned);
    if Distribution::here().is_debian_like
        && pair.iter().all(|name| packages::first_offered(std::slice::from_ref(name)).is_some())
    {
        packages::install(&[Group {
            purpose: "a compiler with a ready-built core for BPF",
            names: pair.to_vec(),
        }])?;
    }
    Toolchain::find().map(|_| ()).context(ebpf::HOW_TO_GET_CORE)
}

/// `bpf-linker`, built with an LLVM that reads what the compiler writes.
fn linker() -> anyhow::Result<()> {
    if let Some(path) = machine::find_program("bpf-linker") {
        let version = done(Command::new(&path).arg("--version"))?;
        say::fine(&format!("{} at {}", version.trim(), path.display()));
        return Ok(());
    }
    let compiler = Compiler::here()?;
    // LLVM reads what older versions write, never the reverse.
    let versions: Vec<u32> = LINKER_LLVM.into_iter().filter(|&version| version >= compiler.llvm).collect();
    let version = match versions.iter().find(|&&version| llvm_prefix(version).is_some()) {
        Some(&version) => version,
        None => install_llvm(&versions, compiler.llvm)?,
    };
    let prefix = llvm_prefix(version).context("LLVM was installed, but its llvm-config is not there")?;
    let feature = format!("llvm-{version}");
    let mut command = step::cargo(&["install", "bpf-linker", "--locked", "--version", LINKER_VERSION]);
    command.args(["--no-default-features", "--features", &feature]);
    command.env("LLVM_PREFIX", &prefix).env(format!("LLVM_SYS_{version}1_PREFIX"), &prefix);
    step::run(
        &format!("build bpf-linker {LINKER_VERSION} with LLVM {version}; about two minutes"),
        &mut command,
    )
}

/// Where Debian puts LLVM's development files.
fn llvm_prefix(version: u32) -> Option<PathBuf> {
    let prefix = Path::new("/usr/lib").join(format!("llvm-{version}"));
    prefix.join("bin/llvm-config").is_file().then_some(prefix)
}

fn install_llvm(versions: &[u32], wanted: u32) -> anyhow::Result<u32> {
    let names: Vec<_> = versions.iter().map(|version| format!("llvm-{version}-dev")).collect();
    let offered = if Distribution::here().is_debian_like { packages::first_offered(&names) } else { None };
    let Some(version) =
        offered.and_then(|name| versions.iter().find(|version| *name == format!("llvm-{version}-dev")))
    else {
        bail!(
            "no package source of this machine offers LLVM {wanted} or later, which bpf-linker needs. Either add the \
             source of https://apt.llvm.org for LLVM {wanted} and run this again, or put the released bpf-linker \
             {LINKER_VERSION} for this machine from https://github.com/aya-rs/bpf-linker/releases into a folder of PATH"
        )
    };
    let names = [format!("llvm-{version}-dev"), format!("libpolly-{version}-dev"), "libzstd-dev".to_owned()];
    packages::install(&[Group { purpose: "LLVM for bpf-linker", names: names.to_vec() }])?;
    Ok(*version)
}
