//! The thread that writes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::pending::{Batch, Queue};
use super::{Contents, Error, Health, News, set};

/// How long a store that cannot be used is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// How often somebody who waits is let go meanwhile.
const STEP: Duration = Duration::from_millis(200);

/// Where changes are kept.
pub(super) trait Backend: Send + 'static {
    /// How long changes are gathered before they are written: what a crash of the process may lose.
    const GATHER: Duration;

    /// How often [`Self::write`] is wanted without a change, for those of others.
    fn poll(&self) -> Option<Duration> {
        None
    }

    /// Opens it, and reads what is in it.
    fn begin(&mut self) -> Result<Contents, Error>;

    /// Writes `batch`, or looks whether that could be done when there is nothing to be written.
    /// What is left in it after an error was not written.
    fn write(&mut self, batch: &mut Batch) -> Result<Vec<News>, Error>;

    /// Tells that it cannot be used.
    fn lost(&self, error: &Error);

    /// Tells that it can be used again.
    fn back(&self);
}

pub(super) struct Writer<B> {
    backend: B,
    queue: Arc<Queue>,
    health: Arc<Mutex<Health>>,
    news: mpsc::UnboundedSender<News>,
    /// Its trouble was logged.
    told: bool,
}

impl<B: Backend> Writer<B> {
    pub(super) const fn new(
        backend: B,
        queue: Arc<Queue>,
        health: Arc<Mutex<Health>>,
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        Self { backend, queue, health, news, told: false }
    }

    pub(super) fn begin(&mut self) -> Contents {
        self.backend.begin().unwrap_or_else(|error| {
            self.fail(&error);
            Contents::default()
        })
    }

    /// Writes what is said, until the store is dropped.
    pub(super) fn run(mut self) {
        loop {
            if self.told {
                self.rest();
            } else if !self.queue.wait(self.backend.poll()) {
                self.queue.gather(B::GATHER);
            }
            let (mut batch, flushes) = self.queue.take();
            match self.backend.write(&mut batch) {
                Ok(news) => self.recover(news),
                Err(error) => {
                    self.queue.put_back(batch);
                    self.fail(&error);
                }
            }
            // Who waits is told, whether it was written or tried in vain.
            drop(flushes);
            if self.queue.is_closed() {
                return;
            }
        }
    }

    /// Leaves a store that cannot be used alone for a while; nobody waits for it meanwhile.
    fn rest(&self) {
        let mut left = RETRY;
        while !left.is_zero() && !self.queue.is_closed() {
            let step = left.min(STEP);
            std::thread::sleep(step);
            left = left.saturating_sub(step);
            self.queue.release();
        }
    }

    fn fail(&mut self, error: &Error) {
        set(&self.health, Health::MemoryOnly { reason: error.to_string() });
        if !std::mem::replace(&mut self.told, true) {
            self.backend.lost(error);
        }
    }

    fn recover(&mut self, news: Vec<News>) {
        if std::mem::take(&mut self.told) {
            set(&self.health, Health::Kept);
            self.backend.back();
        }
        for news in news {
            // Nobody listens once the process ends.
            self.news.send(news).ok();
        }
    }
}
