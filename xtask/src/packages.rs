//! Debian packages: what is missing is installed, in small groups.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use gateway_tests::process::done;

use crate::interrupt::Interrupt;
use crate::machine::{self, Distribution};
use crate::{say, step};

/// Packages that are installed by one call, and what they are for.
#[derive(Debug)]
pub(crate) struct Group {
    /// What they are for.
    pub(crate) purpose: &'static str,
    /// Their names in Debian and Ubuntu.
    pub(crate) names: Vec<String>,
}

impl Group {
    /// A group of these packages.
    pub(crate) fn new(purpose: &'static str, names: &[&str]) -> Self {
        Self { purpose, names: names.iter().map(|&name| name.to_owned()).collect() }
    }
}

/// Installs what is missing of these groups.
pub(crate) fn install(groups: &[Group]) -> anyhow::Result<()> {
    let distribution = Distribution::here();
    let all = groups.iter().flat_map(|group| &group.names).cloned().collect::<Vec<_>>().join(" ");
    if !distribution.is_debian_like {
        bail!(
            "{} is not Debian or Ubuntu, and this tool knows the packages of no other system. Install \
             what these Debian packages contain, then run this again with XTASK_NO_PACKAGES=1 in the \
             environment: {all}",
            distribution.name
        );
    }
    let missing: Vec<_> = groups.iter().filter(|group| !is_installed(&group.names)).collect();
    if missing.is_empty() {
        say::fine(&format!("packages {all}"));
        return Ok(());
    }
    if !machine::is_root() {
        let names: Vec<_> = missing.iter().map(|group| group.names.join(" ")).collect();
        bail!(
            "packages are missing, and only root can install them; run\n    \
             sudo apt-get update && sudo apt-get install --no-install-recommends {}",
            names.join(" ")
        );
    }
    // From here on Ctrl-C ends apt, and this after it has put everything back.
    let interrupt = Interrupt::catch()?;
    let _quiet = NoStart::hold()?;
    step::run("fetch the list of packages", apt().arg("update").arg("-qq"))?;
    for group in missing {
        interrupt.check()?;
        install_group(group)?;
    }
    interrupt.check()
}

/// Whether this machine's sources offer a package.
pub(crate) fn is_offered(name: &str) -> bool {
    let policy = done(Command::new("apt-cache").args(["policy", name])).unwrap_or_default();
    policy.contains("Candidate: ") && !policy.contains("Candidate: (none)")
}

fn install_group(group: &Group) -> anyhow::Result<()> {
    let names = group.names.join(" ");
    if group.names.iter().any(|name| name == "postfix") {
        preseed("postfix postfix/main_mailer_type select No configuration\n")?;
    }
    // A second MTA would push the first one out; that is for the machine's owner to decide.
    let mut command = apt();
    command.args(["install", "-y", "-qq", "--no-install-recommends", "--no-remove"]).args(&group.names);
    let what = format!("install {names} ({})", group.purpose);
    step::run(&what, &mut command).with_context(|| {
        format!("if apt wants to remove a package, such as another mail server, remove it yourself or install {names} elsewhere")
    })?;
    leave_switched_off(&group.names)
}

/// Daemons that packages would start at the next boot: the lab starts its own.
fn leave_switched_off(names: &[String]) -> anyhow::Result<()> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    let units: &[&str] = if names.iter().any(|name| name == "clamav-daemon") {
        &["clamav-daemon.service", "clamav-daemon.socket", "clamav-freshclam.service"]
    } else if names.iter().any(|name| name == "spamd") {
        &["spamd.service"]
    } else if names.iter().any(|name| name == "rspamd") {
        &["rspamd.service"]
    } else if names.iter().any(|name| name == "postfix") {
        &["postfix.service"]
    } else if names.iter().any(|name| name == "nsd") {
        &["nsd.service"]
    } else if names.iter().any(|name| name == "redis-server") {
        &["redis-server.service"]
    } else {
        return Ok(());
    };
    step::run(
        &format!("leave {} switched off: the lab starts its own", units.join(", ")),
        Command::new("systemctl").args(["--quiet", "disable", "--now"]).args(units),
    )
}

fn is_installed(names: &[String]) -> bool {
    let mut command = Command::new("dpkg-query");
    let listed = done(command.args(["-W", "-f", "${db:Status-Status}\n"]).args(names));
    listed
        .is_ok_and(|text| text.lines().count() >= names.len() && text.lines().all(|line| line == "installed"))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    // Somebody else may be installing: wait for the lock.
    command.args(["-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"]);
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

fn preseed(answers: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut child = Command::new("debconf-set-selections").stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("no pipe to debconf")?.write_all(answers.as_bytes())?;
    if !child.wait()?.success() {
        bail!("debconf-set-selections failed");
    }
    Ok(())
}

/// While it lives, installed daemons are not started: Debian's `invoke-rc.d` asks this file.
/// A file of the machine's owner is left as it is.
struct NoStart {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoStart {
    fn hold() -> anyhow::Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(
            POLICY,
            "#!/bin/sh\n# Made by `cargo xtask setup` while it installs packages.\nexit 101\n",
        )?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoStart {
    fn drop(&mut self) {
        if self.ours {
            fs::remove_file(POLICY).ok();
        }
    }
}
