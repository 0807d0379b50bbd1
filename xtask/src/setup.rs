//! `cargo xtask setup`: everything that building and testing need.

use std::process::Command;

use anyhow::Context as _;

use crate::ebpf::{self, Toolchain};
use crate::machine::{self, Distribution};
use crate::packages::{self, Group};
use crate::{linker, say, step};

/// Installs what is missing.
pub(crate) fn all() -> anyhow::Result<()> {
    if packages_wanted() {
        packages::install(&lab_packages())?;
    }
    build_tools()
}

/// Installs what the bench compares the gateway with.
pub(crate) fn peers() -> anyhow::Result<()> {
    if packages_wanted() {
        packages::install(&[
            Group::new("peers for the bench", &["haproxy", "nginx-light", "libnginx-mod-stream"]),
            Group::new("filtering peers for the bench", &["postfix", "proxsmtp", "clamdscan"]),
        ])?;
    }
    Ok(())
}

/// Installs what `cargo xtask profile` watches the gateway with.
pub(crate) fn profilers() -> anyhow::Result<()> {
    if packages_wanted() {
        packages::install(&[Group::new("profilers", &["linux-perf", "strace"])])?;
    }
    Ok(())
}

/// Installs what building the eBPF object needs.
pub(crate) fn build_tools() -> anyhow::Result<()> {
    if ebpf::is_current() {
        return Ok(());
    }
    core_source()?;
    linker::install()
}

/// `XTASK_NO_PACKAGES=1` says that what the packages contain is there by other means.
fn packages_wanted() -> bool {
    std::env::var_os("XTASK_NO_PACKAGES").is_none()
}

fn lab_packages() -> Vec<Group> {
    vec![
        Group::new("networks and certificates", &["iproute2", "nftables", "openssl", "ca-certificates"]),
        Group::new("the console beside the demo", &["tmux"]),
        Group::new("a real virus scanner", &["clamav-daemon"]),
        Group::new("a real spam scanner", &["spamassassin", "spamd", "spamc"]),
        Group::new("another real spam scanner", &["rspamd"]),
        Group::new("a real DNS server", &["nsd"]),
        Group::new("a real verifier of signatures", &["python3-dkim", "python3-dnspython", "python3-nacl"]),
        Group::new("a real Redis, and clocks that differ", &["redis-server", "libfaketime"]),
        Group::new("real SMTP servers and a load generator", &["postfix", "haproxy"]),
        Group::new("disks that fail, and system calls that do", &["e2fsprogs", "util-linux", "strace"]),
        Group::new("a real IMAP server, for LMTP and SASL", &["dovecot-core", "dovecot-lmtpd"]),
        Group::new("a real SMTP client", &["swaks", "libnet-ssleay-perl", "libio-socket-inet6-perl"]),
    ]
}

/// A `core` for the BPF target: its source for the compiler in use, or one of the other ways.
pub(crate) fn core_source() -> anyhow::Result<()> {
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
    if Distribution::here().is_debian_like && pair.iter().all(|name| packages::is_offered(name)) {
        packages::install(&[Group {
            purpose: "a compiler with a ready-built core for BPF",
            names: pair.to_vec(),
        }])?;
    }
    Toolchain::find().map(|_| ()).context(ebpf::HOW_TO_GET_CORE)
}
