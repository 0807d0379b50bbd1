//! Messages that somebody takes by name, due or not.

use super::envelope::QueueId;
use super::{Queue, Standing};

/// A message that was taken by name. Dropped, it is given back as it is by then.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    queue: Queue,
    id: QueueId,
}

impl Queue {
    /// Takes one message, whether it is due or not; `None` when it is not there or somebody else has it.
    pub fn claim(&self, id: QueueId) -> Option<Claim> {
        let is_claimed = self.inner.index().claim(id);
        is_claimed.then(|| Claim { queue: self.clone(), id })
    }
}

impl Claim {
    /// Removes the message: something else stands for it.
    pub fn remove(self) {
        self.queue.remove(self.id);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let standing = self.queue.inner.index().unclaim(self.id);
        if matches!(standing, Some(Standing::Ready | Standing::Deferred(_))) {
            self.queue.inner.arrived.notify_one();
        }
    }
}
