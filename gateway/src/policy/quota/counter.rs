//! What is counted.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::file::{Network, QuotaLimits};
use crate::config::units::ByteCount;
use crate::intercept::identity::Identity;
use crate::smtp::report::Rejected;

/// Who has quotas of his own: the clients of a network, or one identity behind it.
///
/// Written `192.0.2.7`, `2001:db8::/64` or `192.0.2.7 fd00::5`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Client {
    /// The network.
    pub net: IpNet,
    /// Who it is behind an address that many share.
    pub identity: Option<Identity>,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Network(self.net).fmt(f)?;
        match &self.identity {
            Some(identity) => write!(f, " {identity}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Client {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (net, identity) = match text.split_once(' ') {
            Some((net, identity)) => (net, Some(identity)),
            None => (text.as_str(), None),
        };
        let net = Network::try_from(net.to_owned())?.0;
        let identity = identity.map(|identity| identity.to_owned().try_into()).transpose();
        Ok(Self {
            net,
            identity: identity.map_err(|error: crate::intercept::identity::Empty| error.to_string())?,
        })
    }
}

impl From<Client> for String {
    fn from(client: Client) -> Self {
        client.to_string()
    }
}

/// Something a client may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quota {
    /// Connections.
    Connections,
    /// MAIL commands.
    Messages,
    /// RCPT commands.
    Recipients,
    /// Octets of messages.
    Bytes,
    /// MAIL commands that the server has refused.
    MailRejects,
    /// RCPT commands that the server has refused.
    RcptRejects,
    /// AUTH commands that the server has refused.
    AuthRejects,
    /// Distinct servers.
    Destinations,
}

impl Quota {
    /// All of them, in the order of `gateway.yaml`.
    pub const ALL: [Self; 8] = [
        Self::Connections,
        Self::Messages,
        Self::Recipients,
        Self::Bytes,
        Self::MailRejects,
        Self::RcptRejects,
        Self::AuthRejects,
        Self::Destinations,
    ];

    /// Those that count what servers refuse.
    pub const REJECTS: [Self; 3] = [Self::MailRejects, Self::RcptRejects, Self::AuthRejects];

    /// The quota of commands that servers refuse.
    #[must_use]
    pub const fn of(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Mail => Self::MailRejects,
            Rejected::Rcpt => Self::RcptRejects,
            Rejected::Auth => Self::AuthRejects,
        }
    }

    /// The name in `gateway.yaml`, in records and in lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Messages => "messages",
            Self::Recipients => "recipients",
            Self::Bytes => "bytes",
            Self::MailRejects => "mail-rejects",
            Self::RcptRejects => "rcpt-rejects",
            Self::AuthRejects => "auth-rejects",
            Self::Destinations => "destinations",
        }
    }

    /// Whether it counts what servers refuse.
    #[must_use]
    pub const fn is_rejects(self) -> bool {
        matches!(self, Self::MailRejects | Self::RcptRejects | Self::AuthRejects)
    }

    /// What `limits` say of it; 0: no limit.
    #[must_use]
    pub const fn limit(self, limits: &QuotaLimits) -> u64 {
        match self {
            Self::Connections => limits.connections,
            Self::Messages => limits.messages,
            Self::Recipients => limits.recipients,
            Self::Bytes => limits.bytes.bytes(),
            Self::MailRejects => limits.mail_rejects,
            Self::RcptRejects => limits.rcpt_rejects,
            Self::AuthRejects => limits.auth_rejects,
            Self::Destinations => limits.destinations,
        }
    }

    /// Changes what `limits` say of it.
    pub const fn set_limit(self, limits: &mut QuotaLimits, limit: u64) {
        match self {
            Self::Connections => limits.connections = limit,
            Self::Messages => limits.messages = limit,
            Self::Recipients => limits.recipients = limit,
            Self::Bytes => limits.bytes = ByteCount::new(limit),
            Self::MailRejects => limits.mail_rejects = limit,
            Self::RcptRejects => limits.rcpt_rejects = limit,
            Self::AuthRejects => limits.auth_rejects = limit,
            Self::Destinations => limits.destinations = limit,
        }
    }
}

/// A number that is kept of a client: of a quota, or of its connections to one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// An amount.
    Quota(Quota),
    /// Connections to this server; how many there are of these is [`Quota::Destinations`].
    Destination(IpAddr),
}

/// What precedes the server's address.
const DESTINATION: &str = "destination/";

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota(quota) => f.write_str(quota.name()),
            Self::Destination(server) => write!(f, "{DESTINATION}{server}"),
        }
    }
}

/// Not the name of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no counter has this name")]
pub struct UnknownCounter;

impl FromStr for Counter {
    type Err = UnknownCounter;

    fn from_str(text: &str) -> Result<Self, UnknownCounter> {
        if let Some(server) = text.strip_prefix(DESTINATION) {
            return server.parse().map(Self::Destination).map_err(|_| UnknownCounter);
        }
        let quota = Quota::ALL.into_iter().find(|quota| quota.name() == text);
        quota.map(Self::Quota).ok_or(UnknownCounter)
    }
}

/// Where an amount is kept: a counter of a client in a window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The client.
    pub client: Client,
    /// What is counted.
    pub counter: Counter,
    /// Length of the window in seconds.
    pub period: u64,
    /// Its beginning: seconds since 1970.
    pub start: u64,
}
