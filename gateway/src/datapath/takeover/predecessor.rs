//! The new process's view of the old one: what it hands over, and what it is told.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use serde::Deserialize;
use tokio::time::timeout;

use super::elders::Elder;
use super::{Error, Thing, ToPredecessor, ToSuccessor, VERSION};
use crate::datapath::listener::Listener;
use crate::datapath::namespace::NamespaceLock;
use crate::ipc::{self, Channel, memfile};

/// How long the old process may take to hand everything over.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the channel to the old process from standard input.
///
/// Also becomes a child of the service manager, which must hear of this process's end while the old
/// process is still there. To be called before any thread.
///
/// # Errors
///
/// [`Error::NoChannel`] when there is none.
pub fn arrive() -> Result<OwnedFd, Error> {
    let channel = ipc::channel::take_stdin().map_err(Error::NoChannel)?;
    // A parent that ends makes its child one of the nearest service manager or init.
    nix::unistd::daemon(true, true).map_err(|errno| Error::NoChannel(errno.into()))?;
    Ok(channel)
}

/// Everything that was handed over.
#[derive(Debug)]
pub struct Inheritance {
    /// The text of the configuration in force.
    pub configuration: String,
    /// The old process itself.
    pub process: OwnedFd,
    /// The lock on the network namespace, where there is one.
    pub lock: Option<NamespaceLock>,
    /// The listeners in the order of `listen`.
    pub listeners: Vec<Listener>,
    /// The control socket's listener, and whether the gateway has made its folder.
    pub control: Option<(UnixListener, bool)>,
    /// Older processes that drain.
    pub elders: Vec<Elder>,
}

/// The old process.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
}

impl Predecessor {
    /// Greets it.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub async fn greet(channel: OwnedFd) -> Result<Self, Error> {
        let channel = Channel::new(channel)?;
        let pid = getpid();
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(ipc::Error::from)?;
        let hello =
            ToPredecessor::Hello { pid: std::process::id(), release: env!("CARGO_PKG_VERSION").to_owned() };
        channel.send(&hello, &[process.as_fd()]).await?;
        Ok(Self { channel })
    }

    /// Takes everything over.
    ///
    /// # Errors
    ///
    /// When the old process hands over in another version, or not what it says.
    pub async fn inherit(&self) -> Result<Inheritance, Error> {
        timeout(PATIENCE, self.take_all()).await.unwrap_or(Err(Error::NothingGiven))
    }

    async fn take_all(&self) -> Result<Inheritance, Error> {
        self.check_version().await?;
        let mut taken = Taken::default();
        loop {
            let (message, descriptors) = self.channel.receive().await?.ok_or(Error::NothingGiven)?;
            match message {
                ToSuccessor::Give { what } => {
                    let descriptor = descriptors.into_iter().next().ok_or(Error::NothingGiven)?;
                    taken.take(what, descriptor)?;
                }
                ToSuccessor::Given => return taken.complete(),
                ToSuccessor::Offer { .. }
                | ToSuccessor::Draining { .. }
                | ToSuccessor::LockChanges { .. }
                | ToSuccessor::FlowsEnded { .. } => return Err(Error::NothingGiven),
            }
        }
    }

    /// The first message is read for its version alone: in another one, the rest may be different.
    async fn check_version(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Offer {
            version: u64,
        }
        let (offer, _) = self.channel.receive::<Offer>().await?.ok_or(Error::NothingGiven)?;
        if offer.version == u64::from(VERSION) {
            Ok(())
        } else {
            Err(Error::Version { theirs: offer.version })
        }
    }

    /// Tells it why it must go on alone.
    pub async fn fail(&self, problem: String) {
        if let Err(error) = self.channel.send(&ToPredecessor::Failed { problem }, &[]).await {
            tracing::debug!(%error, "the old process is gone");
        }
    }

    /// Tells it to drain. One that has died meanwhile leaves everything to this one all the same.
    pub async fn succeed(self, process: OwnedFd) -> Option<Elder> {
        match self.channel.send(&ToPredecessor::Serving, &[]).await {
            Ok(()) => Some(Elder::new(self.channel, process)),
            Err(error) => {
                tracing::warn!(%error, "the old process is gone");
                None
            }
        }
    }
}

/// Tells the old process why this one ends, without a runtime.
pub fn refuse(channel: &OwnedFd, problem: String) {
    if let Err(error) = ipc::channel::send_now(channel, &ToPredecessor::Failed { problem }) {
        tracing::debug!(%error, "the old process is gone");
    }
}

#[derive(Default)]
struct Taken {
    configuration: Option<String>,
    process: Option<OwnedFd>,
    lock: Option<NamespaceLock>,
    listeners: Vec<Listener>,
    control: Option<(UnixListener, bool)>,
    elder: Option<Channel>,
    elders: Vec<Elder>,
}

impl Taken {
    fn take(&mut self, what: Thing, descriptor: OwnedFd) -> Result<(), Error> {
        let mistaken = |source: io::Error| Error::Mistaken { what, source };
        match what {
            Thing::Configuration => self.configuration = Some(memfile::read(descriptor)?),
            Thing::Process => self.process = Some(descriptor),
            Thing::Lock => self.lock = Some(NamespaceLock::inherit(descriptor).map_err(mistaken)?),
            Thing::Listener => self.listeners.push(Listener::inherit(descriptor).map_err(mistaken)?),
            Thing::Control | Thing::ControlWithFolder => {
                let listener = UnixListener::from(descriptor);
                listener.local_addr().map_err(mistaken)?;
                self.control = Some((listener, what == Thing::ControlWithFolder));
            }
            Thing::ElderChannel => self.elder = Some(Channel::new(descriptor)?),
            Thing::ElderProcess => {
                let channel = self.elder.take().ok_or(Error::NothingGiven)?;
                self.elders.push(Elder::new(channel, descriptor));
            }
        }
        Ok(())
    }

    fn complete(self) -> Result<Inheritance, Error> {
        let Self { configuration, process, lock, listeners, control, elders, .. } = self;
        let configuration = configuration.ok_or(Error::NothingGiven)?;
        let process = process.ok_or(Error::NothingGiven)?;
        Ok(Inheritance { configuration, process, lock, listeners, control, elders })
    }
}
