//! The spam scanners: `scan.spamd`, `scan.rspamd`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scan::{CircuitBreaker, ScannerAddress, Treatment, common, default_health_interval};
use crate::config::decimal::Decimal;
use crate::config::units::{ByteCount, Span};
use crate::outcome::SpamAction;

/// The spam scanner spamd of SpamAssassin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spamd {
    /// Where spamd listens: `tcp:127.0.0.1:783` or `unix:/run/spamd.sock`.
    pub address: ScannerAddress,
    /// Points from which on a message is spam. Left out: `required_score` of spamd.
    #[serde(default)]
    pub threshold: Option<Decimal>,
    /// What happens to spam. `pass` only records it.
    #[serde(default = "Treatment::reject")]
    pub on_spam: Treatment,
    /// Account whose preferences spamd uses. Empty: its own.
    #[serde(default)]
    pub user: String,
    /// Largest message that is scanned: spam is small, and spamd is slow.
    #[serde(default = "Spamd::default_max_size")]
    pub max_size: ByteCount,
    /// What happens to a larger message. `tempfail` makes clients try again in vain.
    #[serde(default = "Treatment::pass")]
    pub on_too_large: Treatment,
    /// What happens to a message that spamd could not scan.
    #[serde(default = "Treatment::tempfail")]
    pub on_failure: Treatment,
    /// Scans at the same time; not more than `--max-children` of spamd.
    #[serde(default = "Spamd::default_concurrency")]
    pub concurrency: usize,
    /// Until its answer, from the end of the message on; `timeouts.scan` ends all scans.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
    /// Pause between two checks of spamd's health.
    #[serde(default = "default_health_interval")]
    pub health_interval: Span,
    /// When spamd does not answer, it is left alone for a while, as clamd is.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
}

common!(Spamd);

impl Spamd {
    fn default_max_size() -> ByteCount {
        ByteCount::kib(512)
    }
    fn default_concurrency() -> usize {
        5
    }
}

fn default_deadline() -> Span {
    Span::seconds(60)
}

/// The spam scanner rspamd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rspamd {
    /// Where a `normal` worker of rspamd listens: `tcp:127.0.0.1:11333` or
    /// `unix:/run/rspamd/worker.sock`.
    pub address: ScannerAddress,
    /// Password, where the worker wants one. Left out: none.
    #[serde(default)]
    pub password: Option<Secret>,
    /// What happens to a message for each action that rspamd recommends. The gateway changes no
    /// message: where rspamd would mark one, it passes, and the record tells. An action that has no
    /// key here is a failure of the scanner.
    #[serde(default)]
    pub actions: Actions,
    /// Largest message that is scanned; not more than `max_message` of rspamd.
    #[serde(default = "Rspamd::default_max_size")]
    pub max_size: ByteCount,
    /// What happens to a larger message. `tempfail` makes clients try again in vain.
    #[serde(default = "Treatment::pass")]
    pub on_too_large: Treatment,
    /// What happens to a message that rspamd could not scan.
    #[serde(default = "Treatment::tempfail")]
    pub on_failure: Treatment,
    /// Scans at the same time.
    #[serde(default = "Rspamd::default_concurrency")]
    pub concurrency: usize,
    /// Until its answer, from the end of the message on; more than `task_timeout` of rspamd.
    /// `timeouts.scan` ends all scans.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
    /// Pause between two checks of rspamd's health.
    #[serde(default = "default_health_interval")]
    pub health_interval: Span,
    /// When rspamd does not answer, it is left alone for a while, as clamd is.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
}

common!(Rspamd);

impl Rspamd {
    fn default_max_size() -> ByteCount {
        ByteCount::mib(2)
    }
    fn default_concurrency() -> usize {
        20
    }
}

/// What happens to a message for each action that rspamd recommends.
///
/// The gateway changes no message: where rspamd would mark one, it passes, and the record tells. An
/// action that has no key here is taken as a failure of the scanner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Actions {
    /// `no action`: there is nothing to say against it.
    pub no_action: Treatment,
    /// `greylist`: honest clients try again later.
    pub greylist: Treatment,
    /// `add header`: probably spam.
    pub add_header: Treatment,
    /// `rewrite subject`: probably spam.
    pub rewrite_subject: Treatment,
    /// `soft reject`: not now, such as by a rate limit.
    pub soft_reject: Treatment,
    /// `reject`: spam.
    pub reject: Treatment,
    /// `quarantine`: spam, which rspamd would have kept.
    pub quarantine: Treatment,
    /// `discard`: spam, which rspamd would have the server drop without a word.
    pub discard: Treatment,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            no_action: Treatment::Pass,
            greylist: Treatment::Tempfail,
            add_header: Treatment::Pass,
            rewrite_subject: Treatment::Pass,
            soft_reject: Treatment::Tempfail,
            reject: Treatment::Reject,
            quarantine: Treatment::Reject,
            discard: Treatment::Reject,
        }
    }
}

impl Actions {
    /// What happens to a message on `action`.
    #[must_use]
    pub const fn on(&self, action: SpamAction) -> Treatment {
        match action {
            SpamAction::NoAction => self.no_action,
            SpamAction::Greylist => self.greylist,
            SpamAction::AddHeader => self.add_header,
            SpamAction::RewriteSubject => self.rewrite_subject,
            SpamAction::SoftReject => self.soft_reject,
            SpamAction::Reject => self.reject,
            SpamAction::Quarantine => self.quarantine,
            SpamAction::Discard => self.discard,
        }
    }
}

/// A text that is never shown: in no log, in no error, and by `gateway config show` as asterisks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Secret(String);

/// What is shown in place of a secret.
pub(crate) const MASK: &str = "********";

impl TryFrom<String> for Secret {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == MASK {
            return Err("this stands for a secret that was not shown; write the secret itself");
        }
        Ok(Self(text))
    }
}

impl From<Secret> for String {
    fn from(_: Secret) -> Self {
        MASK.to_owned()
    }
}

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
