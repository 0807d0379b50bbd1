//! What the Sender Policy Framework (RFC 7208) says of a message's sender.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spf {
    /// The result.
    pub result: SpfResult,
    /// Whose policy was asked.
    pub identity: SpfIdentity,
    /// Its domain, in ASCII; empty where it can have no policy.
    pub domain: String,
    /// The address that was checked.
    pub address: IpAddr,
    /// Why there is no better result, for the operator.
    pub problem: Option<String>,
    /// Of `fail`, what the domain says about it, in printable ASCII.
    pub explanation: Option<String>,
}

/// A result (RFC 7208 section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpfResult {
    /// The domain has no policy.
    None,
    /// It does not say.
    Neutral,
    /// The address may send its mail.
    Pass,
    /// The address may not.
    Fail,
    /// The address probably may not.
    SoftFail,
    /// The DNS has no answer now.
    TempError,
    /// The domain's records are in error.
    PermError,
}

impl SpfResult {
    /// All of them, by discriminant.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Neutral, Self::Pass, Self::Fail, Self::SoftFail, Self::TempError, Self::PermError];

    /// The word of RFC 8601 section 2.7.2.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// Whose policy is asked (RFC 7208 section 2.2 and after).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpfIdentity {
    /// The domain of the reverse path.
    MailFrom,
    /// The HELO name, where the reverse path is empty.
    Helo,
}

impl SpfIdentity {
    /// The word of RFC 8601 section 2.7.2.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MailFrom => "mailfrom",
            Self::Helo => "helo",
        }
    }
}
