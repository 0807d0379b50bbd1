//! `cargo xtask build-ebpf`: the object file that the gateway loads into the kernel.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::Context as _;

use crate::machine::Compiler;
use crate::{linker, say, step};

pub(crate) mod stack;

const TARGET: &str = "bpfel-unknown-none";

/// What to do on a machine that has no `core` for BPF.
pub(crate) const HOW_TO_GET_CORE: &str = "there is no Rust core library for BPF here. One of these makes one:\n    \
    rustup component add rust-src\n    \
    apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf    (Debian 12)\n    \
    rustup toolchain install nightly --component rust-src\n\
    then run `cargo xtask build-ebpf` again";

/// A way to a `core` for the BPF target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The compiler of this workspace builds `core` from source.
    Source,
    /// Debian's compiler for browsers has one ready-built.
    Debian,
    /// A nightly compiler builds it from source.
    Nightly,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "built from source by the compiler of this workspace (rust-src)",
            Self::Debian => "ready-built in Debian's libstd-rust-web-dev-bpf",
            Self::Nightly => "built from source by the nightly compiler",
        })
    }
}

impl Toolchain {
    /// The first way that is open here.
    pub(crate) fn find() -> Option<Self> {
        [Self::Source, Self::Debian, Self::Nightly].into_iter().find(|way| way.is_open())
    }

    fn is_open(self) -> bool {
        let Ok(compiler) = self.compiler() else { return false };
        match self {
            Self::Source | Self::Nightly => compiler.has_source(),
            Self::Debian => compiler.has_core(TARGET) && Path::new("/usr/bin/cargo").is_file(),
        }
    }

    /// Its compiler.
    pub(crate) fn compiler(self) -> anyhow::Result<Compiler> {
        Compiler::of(|| {
            let mut rustc = match self {
                Self::Source => Command::new("rustc"),
                Self::Debian => Command::new("/usr/bin/rustc"),
                Self::Nightly => {
                    let mut rustup = Command::new("rustup");
                    rustup.args(["run", "nightly", "rustc"]);
                    rustup
                }
            };
            rustc.current_dir(step::workspace());
            rustc
        })
    }

    /// Cargo with `verb` for the kernel crate.
    fn cargo(self, verb: &str) -> Command {
        let mut command = match self {
            Self::Source => step::cargo(&[verb]),
            Self::Debian => {
                let mut command = Command::new("/usr/bin/cargo");
                command.arg(verb).env("RUSTC", "/usr/bin/rustc").env_remove("RUSTUP_TOOLCHAIN");
                command
            }
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", verb]).env_remove("RUSTUP_TOOLCHAIN");
                command
            }
        };
        command.current_dir(step::workspace());
        command.args(["--package", "gateway-ebpf", "--release", "--target", TARGET]);
        if self != Self::Debian {
            command.args(["-Z", "build-std=core"]);
        }
        // `aya-ebpf` asks for an unstable feature, and `build-std` is one.
        command.env("RUSTC_BOOTSTRAP", "1");
        // How the gateway is linked is nothing to the program, which bpf-linker makes of all its parts.
        command.envs([("CARGO_PROFILE_RELEASE_LTO", "thin"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")]);
        command
    }
}

/// Builds the object unless it is newer than everything it is made of, and puts a copy beside
/// each place where the daemon is built.
pub(crate) fn build() -> anyhow::Result<()> {
    if is_current() {
        say::fine("eBPF object is newer than its sources");
        return publish();
    }
    let toolchain = Toolchain::find().context(HOW_TO_GET_CORE)?;
    let mut command = toolchain.cargo("build");
    let linker = linker::find().context("bpf-linker is not there: `cargo xtask setup` installs it")?;
    let flags = [rustflags(), vec![format!("-Clinker={}", linker.display()), "-Clink-arg=--btf".to_owned()]];
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.concat().join(SEPARATOR));
    step::run(&format!("build the eBPF object; core is {toolchain}"), &mut command)?;
    // Cargo leaves the object alone when only a comment of a manifest changed.
    fs::File::options().append(true).open(object())?.set_modified(now())?;
    publish()
}

/// Lints the kernel crate for its own target.
pub(crate) fn clippy() -> anyhow::Result<()> {
    let toolchain = Toolchain::find().context(HOW_TO_GET_CORE)?;
    let mut command = toolchain.cargo("clippy");
    command.env("CARGO_ENCODED_RUSTFLAGS", rustflags().join(SEPARATOR)).args(["--", "-D", "warnings"]);
    step::run("lint the eBPF program", &mut command)
}

/// Whether the object is newer than everything it is made of.
pub(crate) fn is_current() -> bool {
    let Some(built) = modified(&object()) else { return false };
    let workspace = step::workspace();
    ["gateway-ebpf", "gateway-common", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"]
        .iter()
        .all(|name| newest(&workspace.join(name)).is_none_or(|changed| changed <= built))
}

fn object() -> PathBuf {
    step::target().join(TARGET).join("release/gateway-ebpf")
}

fn publish() -> anyhow::Result<()> {
    // Test programs lie one folder below the daemon.
    for profile in ["debug", "debug/deps", "release"] {
        let folder = step::target().join(profile);
        fs::create_dir_all(&folder)?;
        // Renamed into place, so that a gateway that starts meanwhile reads a whole file.
        let fresh = folder.join("gateway-ebpf.o.new");
        fs::copy(object(), &fresh).context("cannot copy the eBPF object")?;
        fs::rename(&fresh, folder.join("gateway-ebpf.o"))?;
    }
    Ok(())
}

/// Cargo's separator of compiler flags, which cannot occur in one.
const SEPARATOR: &str = "\u{1f}";

/// What both building and linting tell the compiler.
fn rustflags() -> Vec<String> {
    vec![format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH), "-Cdebuginfo=2".to_owned()]
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file's time of change is compared with those of its sources"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// When a file, or anything below a folder, was last changed.
fn newest(path: &Path) -> Option<SystemTime> {
    let own = modified(path);
    let Ok(entries) = fs::read_dir(path) else { return own };
    entries.flatten().filter_map(|entry| newest(&entry.path())).chain(own).max()
}
