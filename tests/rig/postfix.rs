//! A Postfix of the lab's own: STARTTLS with a certificate made for it, CHUNKING, and mail that
//! is accepted into its queue and then discarded.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::{User, chown};

use crate::netns::Netns;
use crate::process::{self, Daemon};
use crate::sink;

/// A running Postfix.
#[derive(Debug)]
pub struct Postfix {
    certificate: PathBuf,
    log: PathBuf,
    _daemon: Daemon,
}

impl Postfix {
    /// Starts one that listens at `address`, with everything it owns below `directory`.
    ///
    /// # Errors
    ///
    /// When Postfix is not installed or does not listen within 60 s.
    pub fn start(netns: &Netns, address: SocketAddr, directory: &Path) -> anyhow::Result<Self> {
        Self::start_with(netns, address, directory, "")
    }

    /// The same with further lines for its main.cf.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(
        netns: &Netns,
        address: SocketAddr,
        directory: &Path,
        more: &str,
    ) -> anyhow::Result<Self> {
        Self::start_services(netns, address, directory, more, "")
    }

    /// The same with further lines for its main.cf and its master.cf.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_services(
        netns: &Netns,
        address: SocketAddr,
        directory: &Path,
        main: &str,
        master: &str,
    ) -> anyhow::Result<Self> {
        let home = directory.join(format!("postfix-{}", address.port()));
        let config = home.join("etc");
        make_queue(&home)?;
        fs::create_dir(&config)?;
        let certificate = make_certificate(&config)?;
        let log = home.join("log/postfix.log");
        fs::write(config.join("main.cf"), main_cf(&home, &log) + main)?;
        fs::write(config.join("master.cf"), master_cf(address) + master)?;

        let mut command = netns.command("/usr/lib/postfix/sbin/master");
        // -d: stay in the foreground.
        command.arg("-d").arg("-c").arg(&config);
        let mut daemon = Daemon::start("postfix", directory, &mut command)?;
        daemon
            .wait_until(Duration::from_secs(60), |_| sink::listens(netns, address))
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Self { certificate, log, _daemon: daemon })
    }

    /// The server's certificate in PEM.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Whether it has taken responsibility for the message with this id: it is in the queue. The id
    /// alone is logged as soon as the header has come, also of messages that never end.
    #[must_use]
    pub fn has(&self, message_id: &str) -> bool {
        let log = self.log();
        let wanted = format!(": message-id=<{message_id}>");
        let queue_ids = log.lines().filter_map(|line| line.strip_suffix(&wanted)?.rsplit(' ').next());
        queue_ids.into_iter().any(|id| log.contains(&format!(" {id}: from=")))
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// SHA-256 fingerprint of a certificate in PEM, as `openssl` writes it.
///
/// # Errors
///
/// When it is not a certificate.
pub fn fingerprint(certificate: &Path) -> anyhow::Result<String> {
    let mut command = Command::new("openssl");
    let printed =
        process::done(command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(certificate))?;
    Ok(printed.trim().rsplit('=').next().unwrap_or_default().to_owned())
}

/// The folders that `postfix check` would make, with the owners it would give them.
fn make_queue(home: &Path) -> anyhow::Result<()> {
    let account = User::from_name("postfix")?.context("no account `postfix`: Postfix is not installed")?;
    fs::create_dir(home)?;
    fs::create_dir(home.join("log"))?;
    fs::create_dir(home.join("spool"))?;
    fs::create_dir(home.join("spool/pid"))?;
    let owned =
        ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved"];
    for folder in owned.map(|name| home.join("spool").join(name)).into_iter().chain([home.join("data")]) {
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        chown(&folder, Some(account.uid), None)?;
    }
    for name in ["maildrop", "public"] {
        let folder = home.join("spool").join(name);
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o730))?;
        chown(&folder, Some(account.uid), None)?;
    }
    Ok(())
}

fn make_certificate(config: &Path) -> anyhow::Result<PathBuf> {
    let certificate = config.join("cert.pem");
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    command.args(["-days", "2", "-subj", "/CN=mail.server.example", "-keyout"]);
    process::done(command.arg(config.join("key.pem")).arg("-out").arg(&certificate))?;
    Ok(certificate)
}

fn main_cf(home: &Path, log: &Path) -> String {
    let home = home.display();
    format!(
        "compatibility_level = 3.6
queue_directory = {home}/spool
data_directory = {home}/data
maillog_file = {}
maillog_file_prefixes = {home}
myhostname = mail.server.example
mydestination =
mynetworks = 0.0.0.0/0 [::]/0
alias_maps =
alias_database =
local_recipient_maps =
local_transport = discard:
default_transport = discard:
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
smtpd_tls_security_level = may
smtpd_tls_cert_file = {home}/etc/cert.pem
smtpd_tls_key_file = {home}/etc/key.pem
smtpd_client_connection_rate_limit = 0
smtpd_peername_lookup = no
message_size_limit = 204800000
inet_protocols = all
",
        log.display()
    )
}

fn master_cf(address: SocketAddr) -> String {
    format!(
        "{address} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
tlsmgr unix - - n 1000? 1 tlsmgr
discard unix - - n - - discard
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"
    )
}
