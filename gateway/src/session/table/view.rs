//! A session as operators see it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::intercept::flow::{FlowFacts, SessionId};
use crate::outcome::Conduct;
use crate::smtp::stage::Stage;
use crate::tls::TlsFacts;

/// A session as operators see it at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// The session's name.
    pub id: SessionId,
    /// Client address and port.
    pub client: String,
    /// Original destination and port.
    pub destination: String,
    /// Where it is.
    pub stage: Stage,
    /// The client's HELO or EHLO name; bytes from the network.
    pub helo: String,
    /// Octets from the client.
    pub from_client: u64,
    /// Octets from the server.
    pub from_server: u64,
    /// Messages begun.
    pub messages: u32,
    /// Time since it was accepted.
    pub age: Duration,
    /// What the kernel noted of its first packet.
    pub facts: Option<FlowFacts>,
    /// What the client said of itself when it began TLS; the name is bytes from the network.
    pub tls: Option<TlsFacts>,
    /// Who it is behind an address that many share.
    #[serde(default)]
    pub identity: Option<String>,
    /// How far it has come with AUTH.
    #[serde(default)]
    pub auth: AuthState,
}

/// How far a client has come with AUTH (RFC 4954).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum AuthState {
    /// The server has not offered it.
    #[default]
    NotOffered,
    /// The server offers it.
    Offered,
    /// The server has accepted it.
    Accepted,
}

impl AuthState {
    const ALL: [Self; 3] = [Self::NotOffered, Self::Offered, Self::Accepted];

    /// The one with this number.
    pub(super) fn numbered(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// That of a client with this conduct.
    pub(super) const fn of(conduct: Conduct) -> Self {
        match (conduct.authenticated, conduct.auth_offered) {
            (true, _) => Self::Accepted,
            (false, true) => Self::Offered,
            (false, false) => Self::NotOffered,
        }
    }
}
