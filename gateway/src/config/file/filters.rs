//! Who may say what in HELO, MAIL and RCPT: `filters`, `auth`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::pattern::Pattern;

/// Regular expressions that names and addresses must or must not match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Filters {
    /// The name in HELO or EHLO.
    pub helo: Filter,
    /// The address in MAIL, without angle brackets; empty for bounces, which `^$` matches.
    pub mail: Filter,
    /// The address in RCPT, without angle brackets.
    pub rcpt: Filter,
    /// What is done with a command that is filtered out; it is answered with 550 in any case.
    pub on_match: OnMatch,
}

/// Regular expressions for one command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Filter {
    /// When there are any, one of these must match.
    pub enforce: Vec<Pattern>,
    /// None of these may match.
    pub reject: Vec<Pattern>,
}

/// What is done with a command that is filtered out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnMatch {
    /// The server is left, and the gateway takes no more mail in this session.
    #[default]
    Takeover,
    /// Only the command is refused.
    Refuse,
}

/// What AUTH (RFC 4954) is needed for, and what it changes. Inside TLS, AUTH cannot be seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Auth {
    /// Whether mail is taken only from clients whose AUTH the server has accepted; from others
    /// MAIL is refused with 530.
    pub require: AuthRequire,
    /// What is left out for clients whose AUTH the server has accepted.
    pub skip: Vec<AuthSkip>,
}

impl Auth {
    /// Whether `what` is left out in a session that is `authenticated`.
    #[must_use]
    pub fn skips(&self, what: AuthSkip, authenticated: bool) -> bool {
        authenticated && self.skip.contains(&what)
    }
}

/// Whether AUTH is required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthRequire {
    /// Never.
    #[default]
    No,
    /// When the server has announced AUTH to this client. A client that says HELO is announced
    /// nothing.
    IfSupported,
    /// Always, even if the server has no AUTH.
    Mandatory,
}

/// What authenticated clients are spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthSkip {
    /// All: the session goes on in the splice lane, unread.
    Direct,
    /// Scans for viruses.
    Antivirus,
    /// Scans for spam.
    Antispam,
    /// Block lists.
    Dnsbl,
    /// `filters`.
    Regex,
    /// SPF.
    Spf,
}
