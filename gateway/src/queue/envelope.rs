//! A message's envelope, as it is kept (RFC 5321 section 2.3.1).

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::crockford;
use crate::smtp::envelope::{Recipient, Ret};

/// The name of a message while it is in the queue: 13 characters of `[0-9A-Z]`, in the order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueueId(u64);

impl QueueId {
    /// None comes behind it.
    pub(super) const LAST: Self = Self(u64::MAX);

    /// The `count`th message of the queue's `generation`th owner.
    pub(super) const fn new(generation: u32, count: u32) -> Self {
        // Lossless: `From` is not const.
        Self((generation as u64) << 32 | count as u64)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crockford::write(self.0, f)
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that cannot be the name of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a message's name: write the {} letters and digits that `gateway queue list` shows",
    crockford::LENGTH
)]
pub struct BadQueueId;

impl FromStr for QueueId {
    type Err = BadQueueId;

    fn from_str(text: &str) -> Result<Self, BadQueueId> {
        crockford::read(text).map(Self).ok_or(BadQueueId)
    }
}

/// What the sender said the content is (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// Lines of ASCII.
    #[default]
    SevenBit,
    /// Lines of any octets.
    EightBitMime,
    /// Any octets, without lines.
    BinaryMime,
}

/// Where a message is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// To the mail exchangers of each recipient's domain.
    #[default]
    Mx,
    /// To this destination, in the syntax of Postfix's next-hop.
    Relay(String),
    /// To the server that the client meant to speak with.
    Original(SocketAddr),
}

/// Who brought a message (XFORWARD).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitter {
    /// Its address and port.
    pub address: SocketAddr,
    /// Its name in the DNS, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it said in HELO, EHLO or LHLO.
    pub helo: String,
    /// The protocol, as in a Received field (RFC 3848).
    pub protocol: String,
}

/// A message's envelope. The default is one to nobody, of the gateway's own, with nothing that need not be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// When it was taken, in milliseconds since 1970.
    pub arrived: u64,
    /// The reverse-path without brackets; empty for reports.
    pub sender: String,
    /// The recipients. Their places in this list are their names in the queue's records.
    pub recipients: Vec<Recipient>,
    /// Where it is to go.
    pub target: Target,
    /// Who brought it; `None`: the gateway itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter: Option<Submitter>,
    /// What its content is.
    pub body: Body,
    /// Whether it may be signed in the name of its author's domain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sign: bool,
    /// Whether addresses or headers are UTF-8 (RFC 6531).
    #[serde(default)]
    pub smtputf8: bool,
    /// `RET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<Ret>,
    /// `ENVID`, decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
}

#[cfg(test)]
impl Envelope {
    /// One for tests: to these recipients, with nothing that need not be there.
    pub(crate) fn to<A: Into<String>>(recipients: impl IntoIterator<Item = A>) -> Self {
        let recipients = recipients.into_iter().map(Recipient::new).collect();
        Self { sender: "s@example.org".to_owned(), recipients, ..Self::default() }
    }
}

impl Envelope {
    /// How long it has been here at `wall`; none if the clock was set back.
    #[must_use]
    pub fn age(&self, wall: SystemTime) -> Duration {
        let arrived = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.arrived));
        arrived.and_then(|arrived| wall.duration_since(arrived).ok()).unwrap_or_default()
    }
}
