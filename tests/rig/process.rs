//! Commands that run to their end, and daemons in the foreground.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::wait;

/// How long a daemon has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// Runs a command to its end and returns what it wrote to standard output.
///
/// # Errors
///
/// When it cannot be started, or fails: then with what it wrote to standard error.
pub fn done(command: &mut Command) -> anyhow::Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        // Some programs tell of their troubles where others expect results.
        let told = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        let text = String::from_utf8_lossy(told);
        let last: Vec<&str> = text.trim().lines().rev().take(20).collect();
        bail!("{} failed: {}", shown(command), last.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command whose failure changes nothing, while cleaning up.
pub fn best_effort(command: &mut Command) {
    drop(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status());
}

/// What a command and its arguments look like in a message.
#[must_use]
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A process that runs until it is dropped; what it writes goes to a file.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    begins: u64,
}

impl Daemon {
    /// Starts a daemon in a process group of its own, its output in `directory/name.log`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(name: &str, directory: &Path, command: &mut Command) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let begins = output.metadata()?.len();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", shown(command)))?;
        Ok(Self { name: name.to_owned(), child, log, begins })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        // The kernel gives out process numbers as positive `pid_t`.
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        let written = fs::read(&self.log).unwrap_or_default();
        // What a daemon of the same name wrote before is not this one's.
        let own = usize::try_from(self.begins).ok().and_then(|begins| written.get(begins..));
        String::from_utf8_lossy(own.unwrap_or_default()).into_owned()
    }

    /// Empties the file that its output goes to.
    ///
    /// # Errors
    ///
    /// When the file is gone.
    pub fn forget_log(&self) -> anyhow::Result<()> {
        File::create(&self.log).map(drop).context("cannot empty the log")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.pid(), signal).with_context(|| format!("{} is gone", self.name))
    }

    /// Sends it and all its children a signal.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal_group(&self, signal: Signal) -> anyhow::Result<()> {
        killpg(self.pid(), signal).with_context(|| format!("{} is gone", self.name))
    }

    /// Waits until `ready` holds, and notices when the daemon ends instead.
    ///
    /// # Errors
    ///
    /// When it ends or is not ready within `limit`: then with the end of its log.
    pub fn wait_until(&mut self, limit: Duration, ready: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let what = format!("start of {}", self.name);
        let waited = wait::until(limit, &what, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}", self.name);
            }
            Ok(ready(self).then_some(()))
        });
        waited.with_context(|| format!("log of {}:\n{}", self.name, self.log_tail()))
    }

    /// Waits for a line of the log that contains `text`.
    ///
    /// # Errors
    ///
    /// When there is none within `limit`: then with the end of its log.
    pub fn wait_for_log(&self, limit: Duration, text: &str) -> anyhow::Result<String> {
        wait::until(limit, &format!("`{text}` in the log of {}", self.name), || {
            Ok(self.log().lines().find(|line| line.contains(text)).map(str::to_owned))
        })
        .with_context(|| format!("log of {}:\n{}", self.name, self.log_tail()))
    }

    /// Waits until it has ended by itself, with whatever status.
    ///
    /// # Errors
    ///
    /// When it has not within `limit`.
    pub fn wait_for_end(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        wait::until(limit, &format!("end of {}", self.name), || Ok(self.child.try_wait()?))
    }

    /// The last lines it has written.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n")
    }

    /// Asks it to end and waits for that; what is left of its process group is killed.
    ///
    /// # Errors
    ///
    /// When it has to be killed.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let ended = self.end();
        let status = self.child.wait()?;
        ended.with_context(|| format!("log of {}:\n{}", self.name, self.log_tail()))?;
        Ok(status)
    }

    /// Ends the whole process group, but leaves the leader's status to be collected: as long as
    /// it is not collected, its number belongs to no other process.
    fn end(&self) -> anyhow::Result<()> {
        let pid = self.pid();
        kill(pid, Signal::SIGTERM).ok();
        let ended = wait::until(GRACE, &format!("end of {}", self.name), || {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            match waitid(Id::Pid(pid), flags) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Ok(None),
                Ok(_) | Err(_) => Ok(Some(())),
            }
        });
        killpg(pid, Signal::SIGKILL).ok();
        ended
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After `stop` the status is collected and the number may belong to somebody else.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end().ok();
            self.child.wait().ok();
        }
    }
}
