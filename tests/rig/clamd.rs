//! A real clamd with one hand-written signature, so that nothing has to be downloaded.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::Lab;
use crate::message;
use crate::netns::Netns;
use crate::process::Daemon;

/// How long clamd has to load its signature and listen.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running clamd.
#[derive(Debug)]
pub struct Clamd {
    socket: PathBuf,
    tcp: Option<SocketAddr>,
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
        Self::launch(netns.command("clamd"), directory, stream_max_length, None)
    }

    /// Starts one in this namespace, which listens on a free port of 127.0.0.1, too.
    ///
    /// # Errors
    ///
    /// When it does not listen within 30 s.
    pub fn here(directory: &Path, stream_max_length: &str) -> anyhow::Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Self::launch(Command::new("clamd"), directory, stream_max_length, Some(free))
    }

    fn launch(
        mut command: Command,
        directory: &Path,
        stream_max_length: &str,
        tcp: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let home = directory.join("clamd");
        let socket = home.join("clamd.sock");
        fs::create_dir_all(home.join("db"))?;
        let mut signature = format!("{}:0:*:", message::EICAR_SIGNATURE);
        for octet in message::eicar().bytes() {
            write!(signature, "{octet:02x}")?;
        }
        fs::write(home.join("db/test.ndb"), signature + "\n")?;
        let mut config = format!(
            "Foreground yes\nLogFile {home}/clamd.log\nDatabaseDirectory {home}/db\n\
             LocalSocket {socket}\nLocalSocketMode 666\nTemporaryDirectory {home}\nMaxThreads 12\n\
             StreamMaxLength {stream_max_length}\nMaxScanSize 60M\nMaxFileSize 60M\n\
             AlertExceedsMax yes\nReadTimeout 30\n\
             CommandReadTimeout 30\nSelfCheck 0\nBytecode no\nUser root\n",
            home = home.display(),
            socket = socket.display(),
        );
        if let Some(tcp) = tcp {
            write!(config, "TCPAddr {}\nTCPSocket {}\n", tcp.ip(), tcp.port())?;
        }
        fs::write(home.join("clamd.conf"), config)?;
        let mut daemon = Daemon::start("clamd", directory, command.arg("-c").arg(home.join("clamd.conf")))?;
        daemon.wait_until(START_LIMIT, |_| UnixStream::connect(&socket).is_ok())?;
        Ok(Self { socket, tcp, daemon })
    }

    /// Where it listens, as `scan.clamd.address` wants it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Every address it listens on, as `scan.clamd.address` wants them.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        std::iter::once(self.address()).chain(self.tcp.map(|tcp| format!("tcp:{tcp}"))).collect()
    }

    /// Sends it a signal, such as `SIGSTOP`.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.daemon.signal(signal)
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
