//! The process that runs the operator's script for locks, as this one sees it.
//!
//! Owns its start, which is when there is something to run, and its channel. What is run stands in
//! the configuration that this process has read; the proxy only says what has happened.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tracing::{info, warn};

use super::{Error as StartError, chain};
use crate::clock;
use crate::config::file::{Config, OnLock};
use crate::ipc::offender::{End, Errand, Offender, Report};
use crate::ipc::{self, Channel};
use crate::privilege::{self, Account};

/// Between two starts, so that a process that dies at once costs no more than that.
const REST: Duration = Duration::from_secs(1);

/// The runner of scripts.
#[derive(Debug, Default)]
pub(super) struct Actions {
    runner: Option<Runner>,
    started: Option<Instant>,
}

#[derive(Debug)]
struct Runner {
    /// It ends when its channel does; then it is reaped.
    _child: Child,
    channel: Channel,
    user: String,
}

/// Why a script is not run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot start the process that runs it")]
    Spawn(#[source] std::io::Error),
    #[error("cannot talk to the process that runs it")]
    Channel(#[from] ipc::Error),
    #[error("the process that runs it has died just now")]
    Resting,
}

/// Whether there is the account of a script that `config` names.
pub(super) fn check(config: &Config) -> Result<(), StartError> {
    if config.on_lock.script.as_os_str().is_empty() || !privilege::user::is_root() {
        return Ok(());
    }
    Account::find(&config.on_lock.user).map(drop).map_err(StartError::ScriptAccount)
}

impl Actions {
    /// Has the configured script run for `offender`, and never waits for it. Returns how it has ended
    /// where it is not run.
    pub(super) fn act(&mut self, rules: &OnLock, offender: Offender) -> Option<Report> {
        if rules.script.as_os_str().is_empty() {
            return None;
        }
        let lock = offender.lock.clone();
        let end = match self.send(rules, offender) {
            Ok(true) => return None,
            Ok(false) => End::LeftOut,
            Err(error) => {
                self.runner = None;
                End::Failed { reason: chain(&error) }
            }
        };
        Some(Report { lock, end })
    }

    fn send(&mut self, rules: &OnLock, offender: Offender) -> Result<bool, Error> {
        let runner = self.runner.take_if(|runner| runner.user == rules.user);
        let runner = match runner {
            Some(runner) => runner,
            None => self.start(&rules.user)?,
        };
        let (script, limit) = (rules.script.clone(), rules.time_limit.duration());
        let errand = Errand { script, limit, at_once: rules.at_once, offender };
        Ok(self.runner.insert(runner).channel.try_send(&errand)?)
    }

    fn start(&mut self, user: &str) -> Result<Runner, Error> {
        let now = clock::now();
        if self.started.is_some_and(|started| now.saturating_duration_since(started) < REST) {
            return Err(Error::Resting);
        }
        self.started = Some(now);
        Runner::start(user)
    }

    /// What became of something that was run. Cancelled, it loses nothing.
    pub(super) async fn report(&mut self) -> Report {
        loop {
            let Some(runner) = &self.runner else { return std::future::pending().await };
            match runner.channel.receive::<Report>().await {
                Ok(Some((report, _))) => return report,
                Ok(None) => warn!("the process that runs scripts has died"),
                Err(error) => warn!(error = chain(&error), "the process that runs scripts said nonsense"),
            }
            self.runner = None;
        }
    }
}

impl Runner {
    fn start(user: &str) -> Result<Self, Error> {
        let (ours, theirs) = ipc::channel::pair()?;
        // The same program, also when the file was replaced in the meantime.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("gateway").arg("action");
        if privilege::user::is_root() {
            command.args(["--account", user]);
        }
        command.env_clear().envs(std::env::var_os("TZ").map(|zone| ("TZ", zone)));
        command.current_dir("/").stdin(Stdio::from(theirs));
        let child = command.spawn().map_err(Error::Spawn)?;
        info!(pid = child.id(), "process for scripts started");
        Ok(Self { _child: child, channel: Channel::new(ours)?, user: user.to_owned() })
    }
}
