//! A real Dovecot: mailboxes behind LMTP, and passwords for a Postfix beside it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::{User, chown};

use crate::netns::Netns;
use crate::process::Daemon;
use crate::{sink, wait};

/// The only user, as a login and as a mailbox.
pub const USER: &str = "user@server.example";
/// His password.
pub const PASSWORD: &str = "correct horse";

/// A running Dovecot.
#[derive(Debug)]
pub struct Dovecot {
    home: PathBuf,
    daemon: Daemon,
}

impl Dovecot {
    /// Starts one whose LMTP is at `address`, with its files below `directory`.
    ///
    /// # Errors
    ///
    /// When it is not installed, or does not listen within 60 s.
    pub fn start(netns: &Netns, address: SocketAddr, directory: &Path) -> anyhow::Result<Self> {
        let home = directory.join("dovecot");
        for folder in ["run", "state", "mail"] {
            fs::create_dir_all(home.join(folder))?;
        }
        fs::set_permissions(home.join("run"), fs::Permissions::from_mode(0o755))?;
        let account = User::from_name("nobody")?.context("no account `nobody`")?;
        chown(&home.join("mail"), Some(account.uid), Some(account.gid))?;
        fs::write(home.join("users"), format!("{USER}:{{PLAIN}}{PASSWORD}::::::\n"))?;
        fs::write(home.join("dovecot.conf"), config(&home, address))?;
        let mut command = netns.command("dovecot");
        command.arg("-F").arg("-c").arg(home.join("dovecot.conf"));
        let mut daemon = Daemon::start("dovecot", directory, &mut command)?;
        let mut dovecot = {
            daemon.wait_until(Duration::from_secs(60), |_| sink::listens(netns, address))?;
            Self { home, daemon }
        };
        let auth = dovecot.auth();
        dovecot.daemon.wait_until(Duration::from_secs(60), |_| auth.exists())?;
        Ok(dovecot)
    }

    /// Where a Postfix asks about passwords (`smtpd_sasl_path`).
    #[must_use]
    pub fn auth(&self) -> PathBuf {
        self.home.join("auth")
    }

    /// The messages in the mailbox of [`USER`].
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn messages(&self) -> anyhow::Result<Vec<String>> {
        let folder = self.home.join("mail/user/new");
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
        entries.map(|entry| Ok(String::from_utf8_lossy(&fs::read(entry?.path())?).into_owned())).collect()
    }

    /// Waits for a message that contains `text`.
    ///
    /// # Errors
    ///
    /// When none has come within 60 s: then with what Dovecot wrote.
    pub fn wait_for(&self, text: &str) -> anyhow::Result<String> {
        wait::until(Duration::from_secs(60), &format!("a message with `{text}` in the mailbox"), || {
            Ok(self.messages()?.into_iter().find(|message| message.contains(text)))
        })
        .with_context(|| fs::read_to_string(self.home.join("dovecot.log")).unwrap_or_default())
    }
}

fn config(home: &Path, lmtp: SocketAddr) -> String {
    let home = home.display();
    format!(
        "base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/dovecot.log
protocols = lmtp
ssl = no
disable_plaintext_auth = no
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
mail_location = maildir:{home}/mail/%n
auth_mechanisms = plain login cram-md5 scram-sha-256
passdb {{
  driver = passwd-file
  args = username_format=%u {home}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {home}/users
  override_fields = uid=nobody gid=nogroup home={home}/mail/%n
}}
service lmtp {{
  inet_listener lmtp {{
    address = {}
    port = {}
  }}
}}
service auth {{
  unix_listener postfix {{
    path = {home}/auth
    mode = 0666
  }}
}}
",
        lmtp.ip(),
        lmtp.port()
    )
}
