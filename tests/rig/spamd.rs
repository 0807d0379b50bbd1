//! A real spamd of SpamAssassin with the packaged rules, and no question to the network.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use nix::unistd::{User, chown};

use crate::lab::Lab;
use crate::process::Daemon;

/// How long spamd has to compile its rules and listen.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Messages of the lab have a date of their own, which the rules would think more of each day.
const LOCAL_RULES: &str = "use_bayes 0\nreport_safe 0\nrequired_score 5.0\n\
    score DATE_IN_PAST_03_06 0\nscore DATE_IN_PAST_06_12 0\nscore DATE_IN_PAST_12_24 0\n\
    score DATE_IN_PAST_24_48 0\nscore DATE_IN_PAST_96_XX 0\nscore DATE_IN_FUTURE_03_06 0\n\
    score DATE_IN_FUTURE_06_12 0\nscore DATE_IN_FUTURE_12_24 0\nscore DATE_IN_FUTURE_24_48 0\n\
    score DATE_IN_FUTURE_48_96 0\nscore DATE_IN_FUTURE_96_XX 0\nscore RDNS_NONE 0\n\
    score RCVD_ILLEGAL_IP 0\n";

/// The account of the package, which it gives itself up to.
const USER: &str = "debian-spamd";

/// A running spamd.
#[derive(Debug)]
pub struct Spamd {
    socket: PathBuf,
    tcp: Option<SocketAddr>,
    daemon: Daemon,
}

impl Spamd {
    /// Starts one for a lab, on a UNIX socket.
    ///
    /// # Errors
    ///
    /// When it does not listen within 60 s.
    pub fn start(lab: &Lab) -> anyhow::Result<Self> {
        Self::launch(lab.router().command("spamd"), lab.directory(), None)
    }

    /// Starts one in this namespace, which listens on a free port of 127.0.0.1, too.
    ///
    /// # Errors
    ///
    /// When it does not listen within 60 s.
    pub fn here(directory: &Path) -> anyhow::Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Self::launch(Command::new("spamd"), directory, Some(free))
    }

    fn launch(mut command: Command, directory: &Path, tcp: Option<SocketAddr>) -> anyhow::Result<Self> {
        let home = directory.join("spamd");
        let (site, state) = (home.join("site"), home.join("state"));
        fs::create_dir_all(&site)?;
        fs::create_dir_all(&state)?;
        for entry in fs::read_dir("/etc/spamassassin").context("SpamAssassin is not installed")? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|end| end == "pre"))
            {
                fs::copy(&path, site.join(name))?;
            }
        }
        fs::write(site.join("local.cf"), LOCAL_RULES)?;
        let account = User::from_name(USER)?.with_context(|| format!("no account `{USER}`"))?;
        chown(&state, Some(account.uid), Some(account.gid))?;
        // Its children must reach their folders.
        for folder in [directory, &home] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }

        let socket = home.join("spamd.sock");
        command.args([
            "--local",
            "--nouser-config",
            "--syslog=stderr",
            "--min-children=2",
            "--max-children=4",
        ]);
        command.arg(format!("--username={USER}")).arg(format!("--groupname={USER}"));
        command.arg("--socketpath").arg(&socket).arg("--socketmode=0666");
        command.arg(format!("--siteconfigpath={}", site.display()));
        command.arg(format!("--helper-home-dir={}", state.display()));
        if let Some(tcp) = tcp {
            command.arg(format!("--listen={tcp}")).arg("--allowed-ips=127.0.0.1");
        }
        let mut daemon = Daemon::start("spamd", directory, &mut command)?;
        daemon.wait_until(START_LIMIT, |_| UnixStream::connect(&socket).is_ok())?;
        Ok(Self { socket, tcp, daemon })
    }

    /// Where it listens, as `scan.spamd.address` wants it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Every address it listens on, as `scan.spamd.address` wants them.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        std::iter::once(self.address()).chain(self.tcp.map(|tcp| format!("tcp:{tcp}"))).collect()
    }

    /// Sends it and its children a signal, such as `SIGSTOP`.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.daemon.signal_group(signal)
    }

    /// Ends it; its socket refuses from then on.
    ///
    /// # Errors
    ///
    /// When it has to be killed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.daemon.stop().map(|_| ())
    }
}
