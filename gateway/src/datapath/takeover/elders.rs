//! Old processes that let their sessions end, as the one that serves sees them.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::successor::Estate;
use super::{ELDERS, Error, Thing, ToPredecessor, ToSuccessor};
use crate::ipc::Channel;
use crate::ipc::lock::LockChange;

/// Messages about locks that wait for the rest of this process.
const CHANGES_WAITING: usize = 8;

/// Changes of locks, and whether they were the last of those before the old process was told to drain.
pub type Changes = (Vec<LockChange>, bool);

/// An old process.
#[derive(Debug)]
pub struct Elder {
    channel: Arc<Channel>,
    process: OwnedFd,
    sessions: Arc<AtomicU64>,
    /// What it has changed of the locks.
    changes: mpsc::Receiver<Changes>,
    listening: JoinHandle<()>,
}

impl Elder {
    /// One that is listened to from here on.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(channel: Channel, process: OwnedFd) -> Self {
        let (channel, sessions) = (Arc::new(channel), Arc::new(AtomicU64::new(0)));
        let (changed, changes) = mpsc::channel(CHANGES_WAITING);
        let listening = tokio::spawn(listen(Arc::clone(&channel), Arc::clone(&sessions), changed));
        Self { channel, process, sessions, changes, listening }
    }

    fn is_gone(&self) -> bool {
        self.listening.is_finished() && self.changes.is_empty()
    }
}

impl Drop for Elder {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Listens until the other side has left.
async fn listen(channel: Arc<Channel>, sessions: Arc<AtomicU64>, changed: mpsc::Sender<Changes>) {
    loop {
        match channel.receive::<ToSuccessor>().await {
            Ok(Some((ToSuccessor::Draining { sessions: open }, _))) => {
                sessions.store(open, Ordering::Relaxed);
            }
            Ok(Some((ToSuccessor::LockChanges { changes, whole }, _))) => {
                if changed.send((changes, whole)).await.is_err() {
                    debug!("an old process changes locks while this one stops");
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => return info!("an old process has left"),
            Err(error) => {
                debug!(%error, "an old process cannot be understood");
                return;
            }
        }
    }
}

/// All old processes that are still there.
#[derive(Debug, Default)]
pub struct Elders {
    list: Vec<Elder>,
}

impl Elders {
    /// Adds one.
    pub fn add(&mut self, elder: Elder) {
        self.list.push(elder);
    }

    /// What one of them has changed of the locks. Cancelled, it loses nothing.
    pub async fn changes(&mut self) -> Changes {
        poll_fn(|context| {
            for elder in &mut self.list {
                if let Poll::Ready(Some(changes)) = elder.changes.poll_recv(context) {
                    return Poll::Ready(changes);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// How many there are, and how many sessions they have open.
    pub fn count(&mut self) -> (u64, u64) {
        self.list.retain(|elder| !elder.is_gone());
        let sessions = self.list.iter().map(|elder| elder.sessions.load(Ordering::Relaxed));
        (u64::try_from(self.list.len()).unwrap_or(u64::MAX), sessions.fold(0, u64::saturating_add))
    }

    /// Adds them to what a successor is given.
    ///
    /// # Errors
    ///
    /// [`Error::Crowd`] when this process would be one too many.
    pub fn bequeath(&mut self, estate: &mut Estate) -> Result<(), Error> {
        self.list.retain(|elder| !elder.is_gone());
        if self.list.len() >= ELDERS {
            return Err(Error::Crowd);
        }
        for elder in &self.list {
            estate.add(Thing::ElderChannel, elder.channel.as_ref())?;
            estate.add(Thing::ElderProcess, &elder.process)?;
        }
        Ok(())
    }

    /// Tells all of them to leave soon.
    pub fn hurry(&self) {
        for elder in &self.list {
            match elder.channel.try_send(&ToPredecessor::Leave) {
                Ok(true) => {}
                Ok(false) | Err(_) => debug!("an old process does not listen"),
            }
        }
    }

    /// Waits until all of them have left. Cancelled, it has lost nothing.
    pub async fn gone(&mut self) {
        while let Some(elder) = self.list.last_mut() {
            elder.changes.close();
            // A task that only listens does not fail.
            drop((&mut elder.listening).await);
            self.list.pop();
        }
    }

    /// Kills those that are still there.
    pub fn kill(self) {
        for elder in self.list.iter().filter(|elder| !elder.is_gone()) {
            match pidfd_send_signal(&elder.process, Signal::KILL) {
                Ok(()) => warn!("an old process did not leave in time"),
                Err(error) => debug!(%error, "an old process"),
            }
        }
    }
}
