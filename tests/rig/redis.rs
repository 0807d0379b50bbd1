//! A real Redis, which forgets everything when it ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{self, Daemon};

/// How long Redis has to start, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running Redis at a UNIX socket, which is reached from every network namespace.
#[derive(Debug)]
pub struct Redis {
    socket: PathBuf,
    daemon: Daemon,
}

impl Redis {
    /// Starts one with its socket in `directory`.
    ///
    /// # Errors
    ///
    /// When it has not started within a minute.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        let socket = directory.join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--unixsocketperm", "777", "--save", "", "--appendonly", "no"]);
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(directory);
        let mut daemon = Daemon::start("redis", directory, &mut command)?;
        daemon.wait_until(START_LIMIT, |daemon| daemon.log().contains("accept connections"))?;
        Ok(Self { socket, daemon })
    }

    /// Its address, in the form of `redis.address`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Has it carry out a command, as another program would; returns its answer.
    ///
    /// # Errors
    ///
    /// When it refuses.
    pub fn command(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("redis-cli");
        process::done(command.arg("-e").arg("-s").arg(&self.socket).args(words))
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// When it has to be killed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.daemon.stop().map(|_| ())
    }
}
