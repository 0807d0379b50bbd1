//! A real Redis, which forgets everything when it ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::time::{ClockId, clock_gettime};

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
        Self::launch(directory, Command::new("redis-server"))
    }

    /// Starts one whose clock is `days` ahead of everybody else's.
    ///
    /// # Errors
    ///
    /// When it has not started within a minute, or has the right time.
    pub fn start_ahead(directory: &Path, days: u64) -> anyhow::Result<Self> {
        let mut command = Command::new("redis-server");
        // Its own allocator asks for the time before the library is ready, and that library asks for memory. Where
        // libraries lie, the loader knows.
        command.env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1 libc.so.6");
        command.env("FAKETIME", format!("+{days}d"));
        let redis = Self::launch(directory, command)?;
        let there: u64 = redis.command(&["TIME"])?.lines().next().context("no time")?.parse()?;
        let here = u64::try_from(clock_gettime(ClockId::CLOCK_REALTIME)?.tv_sec())?;
        let ahead = Duration::from_secs(there.saturating_sub(here));
        ensure!(
            ahead > Duration::from_secs(days * 86_400 / 2),
            "Redis is {ahead:?} ahead: is libfaketime there?"
        );
        Ok(redis)
    }

    fn launch(directory: &Path, mut command: Command) -> anyhow::Result<Self> {
        let socket = directory.join("redis.sock");
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
