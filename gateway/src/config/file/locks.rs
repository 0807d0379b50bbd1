//! The section `locks`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::condition::Network;
use crate::config::units::Span;

/// Locks: clients whose new flows are held off for a time, set with `gateway lock` or for what
/// they have done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Locks {
    /// What a client is locked for. Empty: only operators lock.
    pub lock_on: Vec<LockCause>,
    /// What becomes of a locked client's new flows, unless the lock or its cause says otherwise.
    pub action: LockAction,
    /// How long a lock holds, unless it or its cause says otherwise.
    #[serde(rename = "for")]
    pub duration: LockSpan,
    /// Causes whose locks are others.
    pub by_cause: Vec<CauseRule>,
    /// What comes of a further offence of a client that is locked already, as from a session that was
    /// open before. It never changes an operator's lock.
    pub repeat: Repeat,
    /// Who is locked for what a client has done.
    pub key: LockKey,
    /// Length of the IPv6 network that is locked for what one of its addresses has done, since one
    /// customer has many: 64, or what you give out to each.
    pub ipv6_prefix: u8,
    /// Networks that no lock touches: your own mail servers, the machine you administer from.
    pub exempt: Vec<Network>,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            lock_on: Vec::new(),
            action: LockAction::Reset,
            duration: LockSpan::For(Span::seconds(3600)),
            by_cause: Vec::new(),
            repeat: Repeat::Keep,
            key: LockKey::Identity,
            ipv6_prefix: 64,
            exempt: Vec::new(),
        }
    }
}

impl Locks {
    /// What a lock for `cause` does, and how long it holds; `None`: for ever.
    #[must_use]
    pub fn on(&self, cause: LockCause) -> (LockAction, Option<Duration>) {
        let rule = self.by_cause.iter().find(|rule| rule.cause == cause);
        let action = rule.and_then(|rule| rule.action).unwrap_or(self.action);
        let span = rule.and_then(|rule| rule.duration).unwrap_or(self.duration);
        (action, span.duration())
    }
}

/// The locks for one cause. What is left out is as for all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CauseRule {
    /// The cause.
    pub cause: LockCause,
    /// How long they hold.
    #[serde(default, rename = "for")]
    pub duration: Option<LockSpan>,
    /// What becomes of the client's new flows.
    #[serde(default)]
    pub action: Option<LockAction>,
}

/// A length of time such as `1h`, or `forever`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9]+ ?(ms|s|m|h|d)$|^forever$"))]
pub enum LockSpan {
    /// It ends.
    For(Span),
    /// It holds until an operator removes it.
    Forever,
}

impl LockSpan {
    /// The span; `None`: for ever.
    #[must_use]
    pub const fn duration(self) -> Option<Duration> {
        match self {
            Self::For(span) => Some(span.duration()),
            Self::Forever => None,
        }
    }
}

impl TryFrom<String> for LockSpan {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<Span>() {
            _ if text == "forever" => Ok(Self::Forever),
            Ok(span) if span.duration().is_zero() => {
                Err("a lock of 0 would be over at once; write for example `1h`, or `forever`".to_owned())
            }
            Ok(span) => Ok(Self::For(span)),
            Err(_) => Err(format!("`{text}` is not a length of time; write for example `1h`, or `forever`")),
        }
    }
}

impl From<LockSpan> for String {
    fn from(span: LockSpan) -> Self {
        match span {
            LockSpan::For(span) => span.to_string(),
            LockSpan::Forever => "forever".to_owned(),
        }
    }
}

/// What a client is locked for.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum LockCause {
    /// A message with a virus.
    Virus,
    /// A message that was refused as spam.
    Spam,
    /// More sessions than `limits.sessions-per-client`.
    MaxHost,
    /// More sessions than `limits.sessions-per-identity`.
    MaxIdent,
    /// Block lists have the client: `dnsbl`.
    Dnsbl,
    /// A name or address that `filters` keeps out.
    Regex,
    /// SPF says that the client may not send for this domain.
    Spf,
    /// The client spoke before the greeting: `inspect.early-talk`.
    EarlyTalk,
    /// One of `quotas` is used up.
    RateLimit,
    /// Connections to more servers than `quotas.limits.destinations`, or than `clients.limits.destinations`
    /// where `clients.on-excess` is `refuse`.
    FanOut,
    /// An operator has locked it.
    #[schemars(skip)]
    #[clap(skip)]
    Operator,
}

impl LockCause {
    /// All there are.
    pub const ALL: [Self; 11] = [
        Self::Virus,
        Self::Spam,
        Self::MaxHost,
        Self::MaxIdent,
        Self::Dnsbl,
        Self::Regex,
        Self::Spf,
        Self::EarlyTalk,
        Self::RateLimit,
        Self::FanOut,
        Self::Operator,
    ];

    /// The name in `gateway.yaml`, in metrics and in lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Virus => "virus",
            Self::Spam => "spam",
            Self::MaxHost => "max-host",
            Self::MaxIdent => "max-ident",
            Self::Dnsbl => "dnsbl",
            Self::Regex => "regex",
            Self::Spf => "spf",
            Self::EarlyTalk => "early-talk",
            Self::RateLimit => "rate-limit",
            Self::FanOut => "fan-out",
            Self::Operator => "operator",
        }
    }
}

/// What comes of a further offence of a locked client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Repeat {
    /// The lock ends when it was to end.
    #[default]
    Keep,
    /// The time counts anew from there.
    Renew,
}

/// Who is locked for what a client has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LockKey {
    /// The identity behind the address where one is known, else the address. The kernel knows of no
    /// identities: the gateway refuses their new flows itself.
    #[default]
    Identity,
    /// The address, whoever is behind it.
    Address,
}

/// What becomes of a locked client's new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LockAction {
    /// The kernel drops them: the client waits in vain.
    Drop,
    /// The kernel answers with a reset: the client is told that nobody listens.
    Reset,
    /// The gateway answers with one SMTP reply, 4xx while the lock has an end.
    Reject,
}

impl LockAction {
    /// The name in `gateway.yaml`, in metrics and in the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reset => "reset",
            Self::Reject => "reject",
        }
    }
}
