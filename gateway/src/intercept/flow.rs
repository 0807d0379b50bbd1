//! A flow: who speaks to whom, and what the kernel noted of its first packet.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::address::{ClientAddr, OriginalDst};
use super::identity::Identity;
use crate::crockford;
use crate::ipc::client::ClientFacts;

/// The stable name of a session in records, the console and control requests: 13 characters of
/// `[0-9A-Z]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// A name no other session of this process has, ordered by `wall` time.
    #[must_use]
    pub fn next(wall: SystemTime) -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed) & 0xf_ffff;
        let millis = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        // 44 bits of milliseconds reach into the year 2527.
        let millis = u64::try_from(millis & 0xfff_ffff_ffff).unwrap_or(0);
        Self(millis << 20 | count)
    }

    /// When it was given: seconds since 1970.
    #[must_use]
    pub const fn began(self) -> u64 {
        (self.0 >> 20) / 1_000
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crockford::write(self.0, f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that cannot be the name of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a session's name: write the {} letters and digits that `gateway sessions` shows",
    crockford::LENGTH
)]
pub struct BadSessionId;

impl std::str::FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, BadSessionId> {
        crockford::read(text).map(Self).ok_or(BadSessionId)
    }
}

impl TryFrom<String> for SessionId {
    type Error = BadSessionId;
    fn try_from(text: String) -> Result<Self, BadSessionId> {
        text.parse()
    }
}

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A flow that an intercepting socket accepted.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The session's name.
    pub id: SessionId,
    /// Where it comes from.
    pub client: ClientAddr,
    /// Where the client meant it to go.
    pub destination: OriginalDst,
    /// Who the client is behind an address that many share, where the origin tells.
    pub identity: Option<Identity>,
    /// The gateway's socket that accepted it.
    pub listener: Option<SocketAddr>,
}

impl Flow {
    /// A flow of which no more is known.
    #[must_use]
    pub const fn new(id: SessionId, client: ClientAddr, destination: OriginalDst) -> Self {
        Self { id, client, destination, identity: None, listener: None }
    }
}

/// What the kernel noted of a flow's first packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowFacts {
    /// Interface the flow came in on.
    pub interface: String,
    /// Sender's hardware address; absent on devices without a link header.
    pub mac: Option<[u8; 6]>,
    /// Outer and inner VLAN tag; 0: none.
    pub vlan: [u16; 2],
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Window of the SYN.
    pub window: u16,
    /// Maximum segment size option; 0: none.
    pub mss: u16,
    /// Window scale option.
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack: bool,
    /// Timestamps offered.
    pub timestamps: bool,
    /// What is known of the client.
    #[serde(default)]
    pub client: Option<ClientFacts>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_reads_back_as_it_prints() {
        let id = SessionId::next(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
        assert_eq!(id.to_string().len(), crockford::LENGTH);
    }

    #[test]
    fn a_path_is_not_a_session_id() {
        assert!("../../etc/pwd".parse::<SessionId>().is_err());
        assert!("".parse::<SessionId>().is_err());
    }
}
