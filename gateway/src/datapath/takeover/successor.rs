//! The old process's view of the new one: started, given everything, heard.
//!
//! Owns that there is never more than one that serves: a new process that does not say in time that
//! it serves is dead before this one goes on.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use tokio::process::Child;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::binary::Binary;
use super::{Error, Thing, ToPredecessor, ToSuccessor, VERSION};
use crate::ipc::flow::FlowReport;
use crate::ipc::lock::LockChange;
use crate::ipc::{self, Channel, memfile};

/// How long the new process may take to serve. It loads the kernel program and starts a proxy,
/// which may itself take 15 seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a message that must arrive may wait for room.
const ROOM: Duration = Duration::from_secs(2);
/// How long the kernel may take to end a killed process.
const BURIAL: Duration = Duration::from_secs(5);

/// Everything that is handed over.
#[derive(Debug, Default)]
pub struct Estate {
    things: Vec<(Thing, OwnedFd)>,
}

impl Estate {
    /// The configuration in force, and this process.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor left.
    pub fn new(configuration: &str) -> Result<Self, Error> {
        let process = pidfd_open(getpid(), PidfdFlags::empty()).map_err(ipc::Error::from)?;
        let configuration = memfile::seal(configuration)?;
        Ok(Self { things: vec![(Thing::Configuration, configuration), (Thing::Process, process)] })
    }

    /// Adds a copy of a descriptor.
    ///
    /// # Errors
    ///
    /// When the system has none left.
    pub fn add(&mut self, what: Thing, descriptor: &impl AsFd) -> Result<(), Error> {
        let copy = descriptor.as_fd().try_clone_to_owned().map_err(ipc::Error::from)?;
        self.things.push((what, copy));
        Ok(())
    }

    async fn give(&self, channel: &Channel) -> Result<(), Error> {
        channel.send(&ToSuccessor::Offer { version: VERSION }, &[]).await?;
        for (what, descriptor) in &self.things {
            channel.send(&ToSuccessor::Give { what: *what }, &[descriptor.as_fd()]).await?;
        }
        Ok(channel.send(&ToSuccessor::Given, &[]).await?)
    }
}

/// A new process that serves.
#[derive(Debug)]
pub struct Successor {
    channel: Channel,
    pid: u32,
    release: String,
}

/// What a successor says after it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Leave soon.
    Leave,
    /// It is gone, and says nothing more.
    Gone,
}

impl Successor {
    /// Starts `binary` with the configuration at `config_path`, hands everything over, and waits
    /// until it serves. Dropped before, it kills what it has started.
    ///
    /// # Errors
    ///
    /// Why nobody follows; the new process is dead then.
    pub async fn start(binary: Binary, config_path: PathBuf, estate: Estate) -> Result<Self, Error> {
        let release = binary.release().await?;
        let (ours, theirs) = ipc::channel::pair()?;
        let mut command = binary.command();
        command.args(["run", "--take-over", "-c"]).arg(&config_path);
        // The number is this process's: systemd's question is for whoever is asked to answer it.
        command.env_remove("WATCHDOG_PID").stdin(Stdio::from(theirs)).process_group(0);
        let path = binary.path();
        let child = command.spawn().map_err(|source| Error::Start { path: path.to_owned(), source })?;
        drop(command);
        info!(binary = %path.display(), release, "upgrade: a new process takes over");
        let channel = Channel::new(ours)?;
        let mut heir = Heir { child, process: None, spared: false };
        match timeout(PATIENCE, heir.settle(&channel, &estate)).await.unwrap_or(Err(Error::Slow(PATIENCE))) {
            Ok((pid, release)) => {
                heir.spared = true;
                Ok(Self { channel, pid, release })
            }
            Err(error) => {
                heir.bury(&channel).await;
                Err(error)
            }
        }
    }

    /// Its process number.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Its release.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What it wishes next. Cancelled, it loses nothing.
    pub async fn wish(&self) -> Wish {
        loop {
            match self.channel.receive::<ToPredecessor>().await {
                Ok(Some((ToPredecessor::Leave, _))) => return Wish::Leave,
                Ok(None) => return Wish::Gone,
                Ok(Some(_)) => {}
                Err(error) => warn!(%error, "the new process cannot be understood"),
            }
        }
    }

    /// Tells it what has become of locks.
    pub async fn tell_locks(&self, changes: Vec<LockChange>, whole: bool) {
        if !self.tell(&ToSuccessor::LockChanges { changes, whole }).await {
            warn!("the process that took over does not hear of locks that were changed here");
        }
    }

    /// Tells it of flows that are over.
    pub async fn tell_ended(&self, flows: Vec<FlowReport>) {
        let number = flows.len();
        if !self.tell(&ToSuccessor::FlowsEnded { flows }).await {
            warn!(number, "the process that took over does not hear of sessions that are over");
        }
    }

    async fn tell(&self, news: &ToSuccessor) -> bool {
        matches!(timeout(ROOM, self.channel.send(news, &[])).await, Ok(Ok(())))
    }

    /// Tells it how many sessions are still open here.
    pub fn mention(&self, sessions: u64) {
        // It counts again in a second, and a successor that is gone asks for nothing.
        self.channel.try_send(&ToSuccessor::Draining { sessions }).unwrap_or_default();
    }
}

/// A new process that does not serve yet; killed when dropped, unless it is spared.
#[derive(Debug)]
struct Heir {
    /// The new process, until it has become a child of the service manager; then it has ended.
    child: Child,
    /// The new process from then on.
    process: Option<OwnedFd>,
    spared: bool,
}

impl Heir {
    /// Waits until it serves.
    async fn settle(&mut self, channel: &Channel, estate: &Estate) -> Result<(u32, String), Error> {
        let (pid, release) = self.greeted(channel).await?;
        if let Err(error) = estate.give(channel).await {
            // It has left; its last word says why.
            debug!(%error, "the new process takes nothing");
        }
        match last_word(channel).await? {
            Some((ToPredecessor::Serving, _)) => Ok((pid, release)),
            Some((ToPredecessor::Failed { problem }, _)) => Err(Error::Failed(problem)),
            Some((ToPredecessor::Hello { .. } | ToPredecessor::Leave, _)) => Err(Error::OutOfTurn),
            None => Err(Error::Ended("it closed its channel".to_owned())),
        }
    }

    async fn greeted(&mut self, channel: &Channel) -> Result<(u32, String), Error> {
        let received = tokio::select! {
            // What it said comes before its end.
            biased;
            received = channel.receive::<ToPredecessor>() => received?,
            // A good end: it goes on as a child of the service manager.
            status = self.child.wait() => match status {
                Ok(status) if status.success() => channel.receive::<ToPredecessor>().await?,
                Ok(status) => return Err(Error::Ended(status.to_string())),
                Err(error) => return Err(Error::Ended(error.to_string())),
            },
        };
        match received {
            Some((ToPredecessor::Hello { pid, release }, descriptors)) => {
                self.process = Some(descriptors.into_iter().next().ok_or(Error::OutOfTurn)?);
                Ok((pid, release))
            }
            Some((ToPredecessor::Failed { problem }, _)) => Err(Error::Failed(problem)),
            Some((ToPredecessor::Serving | ToPredecessor::Leave, _)) => Err(Error::OutOfTurn),
            None => Err(Error::Ended(match timeout(BURIAL, self.child.wait()).await {
                Ok(Ok(status)) => status.to_string(),
                Ok(Err(_)) | Err(_) => "it closed its channel".to_owned(),
            })),
        }
    }

    /// Makes sure that it is dead.
    async fn bury(mut self, channel: &Channel) {
        self.kill();
        let silent = async { while matches!(channel.receive::<ToPredecessor>().await, Ok(Some(_))) {} };
        if timeout(BURIAL, silent).await.is_err() {
            warn!("the killed new process does not end");
        }
    }

    fn kill(&mut self) {
        let killed = self.process.take().map(|process| pidfd_send_signal(process, Signal::KILL));
        if let Some(Err(error)) = killed.filter(|killed| *killed != Err(rustix::io::Errno::SRCH)) {
            warn!(%error, "cannot kill the new process");
        }
        // One that has ended needs no more.
        self.child.start_kill().unwrap_or_default();
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        if !self.spared {
            self.kill();
        }
    }
}

/// What a process says last. If it has left without reading all it was told, the kernel says so
/// first, once, and only then what it had said.
async fn last_word(channel: &Channel) -> Result<Option<(ToPredecessor, Vec<OwnedFd>)>, ipc::Error> {
    match channel.receive().await? {
        None => channel.receive().await,
        word => Ok(word),
    }
}
