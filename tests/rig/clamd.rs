//! A real clamd with one hand-written signature, so that nothing has to be downloaded.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::Lab;
use crate::message;
use crate::netns::Netns;
use crate::process::Daemon;

/// A running clamd.
#[derive(Debug)]
pub struct Clamd {
    socket: PathBuf,
    daemon: Daemon,
}

impl Clamd {
    /// Starts one for a lab.
    ///
    /// # Errors
    ///
    /// When it does not listen within 30 s.
    pub fn start(lab: &Lab) -> anyhow::Result<Self> {
        Self::with_limit(lab.router(), lab.directory(), "30M")
    }

    /// Starts one in a namespace, with its files below `directory` and this `StreamMaxLength`.
    ///
    /// # Errors
    ///
    /// When it does not listen within 30 s.
    pub fn with_limit(netns: &Netns, directory: &Path, stream_max_length: &str) -> anyhow::Result<Self> {
        let home = directory.join("clamd");
        let socket = home.join("clamd.sock");
        fs::create_dir_all(home.join("db"))?;
        let mut signature = format!("{}:0:*:", message::EICAR_SIGNATURE);
        for octet in message::eicar().bytes() {
            write!(signature, "{octet:02x}")?;
        }
        fs::write(home.join("db/test.ndb"), signature + "\n")?;
        let config = format!(
            "Foreground yes\nLogFile {home}/clamd.log\nDatabaseDirectory {home}/db\n\
             LocalSocket {socket}\nLocalSocketMode 666\nTemporaryDirectory {home}\nMaxThreads 12\n\
             StreamMaxLength {stream_max_length}\nMaxScanSize 60M\nMaxFileSize 60M\nReadTimeout 30\n\
             CommandReadTimeout 30\nSelfCheck 0\nBytecode no\nUser root\n",
            home = home.display(),
            socket = socket.display(),
        );
        fs::write(home.join("clamd.conf"), config)?;
        let mut command = netns.command("clamd");
        let mut daemon = Daemon::start("clamd", directory, command.arg("-c").arg(home.join("clamd.conf")))?;
        daemon.wait_until(Duration::from_secs(30), |_| UnixStream::connect(&socket).is_ok())?;
        Ok(Self { socket, daemon })
    }

    /// Where it listens, as `scan.clamd.address` wants it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Ends it; its socket refuses from then on.
    ///
    /// # Errors
    ///
    /// When it has to be killed.
    pub fn stop(self) -> anyhow::Result<()> {
        self.daemon.stop().map(|_| ())
    }
}
