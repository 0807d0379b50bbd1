//! What a frame says.

use serde::{Deserialize, Serialize};

use super::envelope::{Envelope, QueueId};

/// Whether a message may be delivered now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// As soon as there is room.
    #[default]
    Ready,
    /// Not before this time, in milliseconds since 1970.
    Deferred(u64),
    /// When an operator says so.
    Held,
}

/// A record of the journal. Later records count; a message's own record may be written again, with
/// all that was said of it meanwhile, to empty an old segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
pub(super) enum Record {
    /// A message; its content follows.
    Message {
        id: QueueId,
        envelope: Box<Envelope>,
        #[serde(default)]
        standing: Standing,
        /// Places of recipients for whom all is done.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        settled: Vec<u32>,
        /// Its sender was told that it takes long.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        warned: bool,
    },
    /// All is done for these recipients.
    Settled { id: QueueId, recipients: Vec<u32> },
    /// When it may be delivered.
    Standing { id: QueueId, standing: Standing },
    /// The sender was told that it takes long.
    Warned { id: QueueId },
    /// There is nothing left to do.
    Gone { id: QueueId },
    /// Whatever is in this segment from `from` on was refused: its sync failed.
    Void { generation: u32, number: u32, from: u64 },
}

impl Record {
    /// As it is written.
    pub(super) fn write(&self) -> Vec<u8> {
        // A record has no value that JSON cannot express.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None` for what this version does not know.
    pub(super) fn read(octets: &[u8]) -> Option<Self> {
        serde_json::from_slice(octets).ok()
    }
}
