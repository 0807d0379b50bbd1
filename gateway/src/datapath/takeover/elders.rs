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
use crate::ipc::flow::FlowReport;
use crate::ipc::lock::LockChange;

/// Messages that wait for the rest of this process.
const WAITING: usize = 8;

/// What is heard of an old process.
#[derive(Debug)]
pub enum News {
    /// What it has changed of the locks.
    Locks {
        /// A few at a time.
        changes: Vec<LockChange>,
        /// Whether these were the last of those before it was told to drain.
        whole: bool,
    },
    /// Flows that are over, and whose sessions are this process's.
    FlowsEnded(Vec<FlowReport>),
    /// It has left, with the last of its sessions that has sockets.
    Left,
}

/// An old process.
#[derive(Debug)]
pub struct Elder {
    channel: Arc<Channel>,
    process: OwnedFd,
    sessions: Arc<AtomicU64>,
    /// What it leaves to this process.
    news: mpsc::Receiver<News>,
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
        let (told, news) = mpsc::channel(WAITING);
        let listening = tokio::spawn(listen(Arc::clone(&channel), Arc::clone(&sessions), told));
        Self { channel, process, sessions, news, listening }
    }

    fn is_gone(&self) -> bool {
        self.listening.is_finished() && self.news.is_empty()
    }
}

impl Drop for Elder {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Listens until the other side has left.
async fn listen(channel: Arc<Channel>, sessions: Arc<AtomicU64>, told: mpsc::Sender<News>) {
    loop {
        let news = match channel.receive::<ToSuccessor>().await {
            Ok(Some((ToSuccessor::Draining { sessions: open }, _))) => {
                sessions.store(open, Ordering::Relaxed);
                continue;
            }
            Ok(Some((ToSuccessor::LockChanges { changes, whole }, _))) => News::Locks { changes, whole },
            Ok(Some((ToSuccessor::FlowsEnded { flows }, _))) => News::FlowsEnded(flows),
            Ok(Some(_)) => continue,
            Ok(None) => return info!("an old process has left"),
            Err(error) => {
                debug!(%error, "an old process cannot be understood");
                return;
            }
        };
        if told.send(news).await.is_err() {
            debug!("an old process has news while this one stops");
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

    /// What is heard of one of them. Cancelled, it loses nothing.
    pub async fn news(&mut self) -> News {
        poll_fn(|context| {
            for place in 0..self.list.len() {
                let Some(elder) = self.list.get_mut(place) else { break };
                if let Poll::Ready(news) = elder.news.poll_recv(context) {
                    return Poll::Ready(news.unwrap_or_else(|| {
                        self.list.remove(place);
                        News::Left
                    }));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// How many there are, and how many sessions they have open.
    pub fn count(&self) -> (u64, u64) {
        let there = || self.list.iter().filter(|elder| !elder.is_gone());
        let sessions = there().map(|elder| elder.sessions.load(Ordering::Relaxed));
        (u64::try_from(there().count()).unwrap_or(u64::MAX), sessions.fold(0, u64::saturating_add))
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
            elder.news.close();
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
