//! Which clients are held off, until when, and why.
//!
//! Pure: times are seconds of the wall clock, passed in, so that a lock outlives the machine's
//! restart. The kernel program enforces what stands here; what reaches the proxy is asked here.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::file::{LockAction, LockKey, Locks, Network};
use crate::intercept::flow::{Flow, SessionId};
use crate::intercept::identity::Identity;

mod offence;
mod table;

pub use crate::config::file::LockCause as Cause;
pub use offence::Offence;
pub use table::{LockTable, MOST, MOST_EXEMPT, Outcome, Refused};

/// Octets of what is said of a cause.
pub const DETAIL_LENGTH: usize = 200;

/// Who is held off: `192.0.2.7`, `2001:db8::/64`, or `192.0.2.7-NAME` for an identity behind an
/// address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Who {
    /// Every client of a network.
    Net(IpNet),
    /// One identity behind an address.
    Identity(IpAddr, Identity),
}

impl Who {
    /// Whom a lock for an offence in `flow` holds off.
    #[must_use]
    pub fn of(flow: &Flow, rules: &Locks) -> Self {
        let client = flow.client.ip();
        match &flow.identity {
            Some(identity) if rules.key == LockKey::Identity => Self::Identity(client, identity.clone()),
            Some(_) | None => Self::Net(network(client, rules.ipv6_prefix)),
        }
    }

    /// Whether `flow` is one of theirs.
    #[must_use]
    pub fn is(&self, flow: &Flow) -> bool {
        match self {
            Self::Net(net) => net.contains(&flow.client.ip()),
            Self::Identity(client, identity) => {
                *client == flow.client.ip() && flow.identity.as_ref() == Some(identity)
            }
        }
    }

    /// The network, or that of the address alone.
    #[must_use]
    pub fn net(&self) -> IpNet {
        match self {
            Self::Net(net) => *net,
            Self::Identity(client, _) => IpNet::from(*client),
        }
    }

    /// The network, where the kernel can tell its flows from others.
    #[must_use]
    pub const fn in_kernel(&self) -> Option<IpNet> {
        match self {
            Self::Net(net) => Some(*net),
            Self::Identity(..) => None,
        }
    }

    /// The same without host bits.
    #[must_use]
    pub fn trunc(self) -> Self {
        match self {
            Self::Net(net) => Self::Net(net.trunc()),
            Self::Identity(..) => self,
        }
    }
}

/// The network that is locked with `client`.
fn network(client: IpAddr, ipv6_prefix: u8) -> IpNet {
    let whole = IpNet::from(client);
    let length = if client.is_ipv6() { ipv6_prefix.min(128) } else { 32 };
    IpNet::new(client, length).unwrap_or(whole).trunc()
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => Network(*net).fmt(f),
            Self::Identity(client, identity) => write!(f, "{client}-{identity}"),
        }
    }
}

impl TryFrom<String> for Who {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some((client, identity)) = text.split_once('-') else {
            return Network::try_from(text).map(|network| Self::Net(network.0));
        };
        let client = client.parse().ok().map(|client: IpAddr| client.to_canonical());
        let identity = Identity::new(identity.as_bytes());
        client.zip(identity).map(|(client, identity)| Self::Identity(client, identity)).ok_or_else(|| {
            format!(
                "`{text}` is nobody; write for example `192.0.2.0/24`, or `192.0.2.7-NAME` for an identity"
            )
        })
    }
}

impl From<Who> for String {
    fn from(who: Who) -> Self {
        who.to_string()
    }
}

/// Somebody who is held off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Who.
    pub who: Who,
    /// What becomes of their new flows.
    pub action: LockAction,
    /// Why.
    pub cause: Cause,
    /// What more is known of the cause: a signature, a score, an operator's words.
    pub detail: String,
    /// The session that it was set in; `None`: an operator set it.
    pub session: Option<SessionId>,
    /// When it was set: seconds since 1970.
    pub since: u64,
    /// When it ends: seconds since 1970; `None`: never by itself.
    pub until: Option<u64>,
    /// Offences while it held.
    pub offences: u64,
    /// New flows that the proxy refused for it.
    pub refused: u64,
    /// When it was changed last, where gateways share it: milliseconds since 1970, else 0.
    #[serde(default)]
    pub changed: u64,
}

impl Lock {
    /// Whether it counts at `now`.
    #[must_use]
    pub fn holds(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Which of two locks of the same client is the later one, whoever has set them: milliseconds since 1970.
    #[must_use]
    pub const fn version(&self) -> u64 {
        if self.changed == 0 { self.since.saturating_mul(1000) } else { self.changed }
    }

    /// Whether both hold the same client off in the same way. What was counted may differ.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let key = |lock: &Self| (lock.action, lock.cause, lock.since, lock.until);
        self.who == other.who && key(self) == key(other) && self.detail == other.detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::intercept::address::{ClientAddr, OriginalDst};

    pub(super) fn flow(client: &str, identity: Option<&str>) -> Flow {
        let client = ClientAddr::new(client.parse().unwrap());
        let destination = OriginalDst::new("198.51.100.1:25".parse().unwrap());
        let identity = identity.and_then(|text| Identity::new(text.as_bytes()));
        Flow { identity, ..Flow::new(SessionId::next(clock::wall()), client, destination) }
    }

    #[test]
    fn a_lock_is_keyed_by_address_prefix_or_identity() {
        let who = |client: &str, identity: Option<&str>, rules: &Locks| {
            Who::of(&flow(client, identity), rules).to_string()
        };
        let rules = Locks::default();
        assert_eq!(who("192.0.2.7:1025", None, &rules), "192.0.2.7");
        assert_eq!(who("[2001:db8:1:2:3::7]:1025", None, &rules), "2001:db8:1:2::/64");
        assert_eq!(who("192.0.2.7:1025", Some("10.0.0.5"), &rules), "192.0.2.7-10.0.0.5");
        let wide = Locks { ipv6_prefix: 48, key: LockKey::Address, ..Locks::default() };
        assert_eq!(who("[2001:db8:1:2:3::7]:1025", Some("bob"), &wide), "2001:db8:1::/48");
        let narrow = Locks { ipv6_prefix: 128, ..Locks::default() };
        assert_eq!(who("[2001:db8::7]:1025", None, &narrow), "2001:db8::7");
    }

    #[test]
    fn who_reads_back_as_it_prints() {
        for text in ["192.0.2.7", "192.0.2.0/24", "2001:db8::/64", "192.0.2.7-10.0.0.5", "2001:db8::1-a-b"] {
            assert_eq!(Who::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for text in ["", "bob", "192.0.2.7-", "-bob", "192.0.2.0/24-bob"] {
            assert!(Who::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
