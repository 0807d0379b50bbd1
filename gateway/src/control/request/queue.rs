//! Requests about mail in the queue.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::delivery::waiting::Destination;
use crate::queue::{Counts, Envelope, Standing, Summary, Target};

/// Messages that one answer lists at most.
pub const LISTED: usize = 1_000;

/// Query of `GET /v1/queue`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct QueueQuery {
    /// The message behind which the list begins; absent: at the oldest.
    pub after: Option<String>,
}

/// Answer to `GET /v1/queue`: at most [`LISTED`] messages, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueList {
    /// Messages that are to be delivered now, or under way.
    pub ready: usize,
    /// Messages that are tried again later.
    pub deferred: usize,
    /// Messages that wait for an operator.
    pub held: usize,
    /// Messages among these that are known to be damaged.
    #[serde(default)]
    pub damaged: usize,
    /// Some of them.
    pub messages: Vec<QueueEntry>,
    /// Whether there are more behind the last.
    pub more: bool,
}

impl QueueList {
    pub(crate) fn new(counts: Counts, damaged: usize, messages: Vec<QueueEntry>, more: bool) -> Self {
        let Counts { ready, deferred, held } = counts;
        Self { ready, deferred, held, damaged, messages, more }
    }
}

/// A message in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Its name.
    pub id: String,
    /// When it was taken, in milliseconds since 1970.
    pub arrived: u64,
    /// Octets of its content.
    pub size: u64,
    /// How many recipients are left.
    pub recipients: u32,
    /// When it is delivered: `ready`, `held`, or `deferred` until a time in milliseconds since 1970.
    pub standing: Standing,
    /// It is known not to be what was taken.
    #[serde(default)]
    pub damaged: bool,
}

impl QueueEntry {
    /// How long ago it was taken.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(time(self.arrived)).unwrap_or_default()
    }

    /// How long it is until it is tried again, where it waits for that.
    #[must_use]
    pub fn due(&self, now: SystemTime) -> Option<Duration> {
        match self.standing {
            Standing::Ready | Standing::Held => None,
            Standing::Deferred(due) => Some(time(due).duration_since(now).unwrap_or_default()),
        }
    }
}

/// So many milliseconds behind 1970.
fn time(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(SystemTime::UNIX_EPOCH)
}

impl From<Summary> for QueueEntry {
    fn from(summary: Summary) -> Self {
        let Summary { id, arrived, size, recipients, standing } = summary;
        Self { id: id.to_string(), arrived, size, recipients, standing, damaged: false }
    }
}

/// Answer to `GET /v1/queue/ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedMessage {
    /// What the list says of it.
    pub entry: QueueEntry,
    /// Its envelope.
    pub envelope: Envelope,
    /// Places of recipients for whom all is done.
    pub settled: Vec<u32>,
    /// Its sender was told that it takes long.
    pub warned: bool,
    /// Why the last attempt failed, if one of this process did.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Answer to `GET /v1/queue/destinations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationList {
    /// The destinations that mail waits for, most messages first.
    pub destinations: Vec<Destination>,
    /// Messages that were not looked at, younger than all others.
    pub unlooked: u64,
}

/// Body of `POST /v1/queue/retry`, `hold`, `release` and `delete`: names of messages, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Names.
    #[serde(default)]
    pub ids: Vec<String>,
    /// All to which it applies.
    #[serde(default)]
    pub all: bool,
}

/// Body of `POST /v1/queue/requeue`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requeue {
    /// A message.
    pub id: String,
    /// Where it goes from now on; absent: where it went.
    #[serde(default)]
    pub target: Option<Target>,
}

/// Body of `POST /v1/queue/flush`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flush {
    /// A domain or a next hop, as the records have it.
    pub destination: String,
}

/// Answer to all that change the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueChanged {
    /// How many messages.
    pub changed: usize,
    /// Names under which there is none, or none to which it applies.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The new name of a message.
    #[serde(default)]
    pub id: Option<String>,
}
