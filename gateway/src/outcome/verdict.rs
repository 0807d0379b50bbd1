//! What scanners say of a message, each and all together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::decimal::Decimal;

/// A scanner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scanner {
    /// clamd of ClamAV: viruses.
    Clamd,
    /// spamd of SpamAssassin: spam.
    Spamd,
    /// rspamd: spam.
    Rspamd,
}

impl Scanner {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Clamd, Self::Spamd, Self::Rspamd];

    /// Its name in records, metrics, the console and the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clamd => "clamd",
            Self::Spamd => "spamd",
            Self::Rspamd => "rspamd",
        }
    }

    /// Whether it looks for spam.
    #[must_use]
    pub const fn is_for_spam(self) -> bool {
        match self {
            Self::Clamd => false,
            Self::Spamd | Self::Rspamd => true,
        }
    }
}

/// What one scanner said of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanResult {
    /// Who.
    pub scanner: Scanner,
    /// What.
    pub finding: Finding,
    /// From the end of the message to this result; none for a result that came before.
    pub time: Duration,
}

/// What came of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Finding {
    /// No virus.
    Clean,
    /// A virus.
    Infected {
        /// The signature's name as the scanner gave it, in printable ASCII.
        signature: String,
    },
    /// How likely it is to be spam.
    Rated(Rating),
    /// Larger than the scanner takes.
    TooLarge,
    /// It was not asked.
    Skipped {
        /// Why.
        why: Skip,
    },
    /// It gave no answer that means anything.
    Failed {
        /// Why, for the operator.
        reason: String,
    },
}

impl Finding {
    /// One word for records and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Infected { .. } => "infected",
            Self::Rated(rating) => rating.action.name(),
            Self::TooLarge => "too-large",
            Self::Skipped { .. } => "skipped",
            Self::Failed { .. } => "failed",
        }
    }

    /// Every name there is.
    pub const NAMES: [&'static str; 13] = [
        "clean",
        "infected",
        "no-action",
        "greylist",
        "add-header",
        "rewrite-subject",
        "soft-reject",
        "reject",
        "quarantine",
        "discard",
        "too-large",
        "skipped",
        "failed",
    ];

    const fn kind(&self) -> Kind {
        match self {
            Self::Clean => Kind::Clean,
            Self::Infected { .. } => Kind::Infected,
            Self::Rated(rating) => rating.action.kind(),
            Self::TooLarge => Kind::TooLarge,
            Self::Skipped { .. } => Kind::NotScanned,
            Self::Failed { .. } => Kind::Failed,
        }
    }
}

/// Why a scanner was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skip {
    /// The load average is above `scan.max-load`.
    Load,
    /// The client is exempt from this kind of scan.
    Exempt,
}

impl Skip {
    /// One word for records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Exempt => "exempt",
        }
    }
}

/// What a spam scanner thinks of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rating {
    /// What it recommends; spamd knows `no action` and `reject` only.
    pub action: SpamAction,
    /// Points.
    pub score: Decimal,
    /// Points from which on it is spam.
    pub threshold: Decimal,
    /// The names of the rules that matched: the weightiest, or the first; printable ASCII.
    pub symbols: Vec<String>,
}

/// What rspamd recommends for a message; the words are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpamAction {
    /// `no action`.
    NoAction,
    /// `greylist`.
    Greylist,
    /// `add header`.
    AddHeader,
    /// `rewrite subject`.
    RewriteSubject,
    /// `soft reject`.
    SoftReject,
    /// `reject`.
    Reject,
    /// `quarantine`.
    Quarantine,
    /// `discard`.
    Discard,
}

impl SpamAction {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::NoAction,
        Self::Greylist,
        Self::AddHeader,
        Self::RewriteSubject,
        Self::SoftReject,
        Self::Reject,
        Self::Quarantine,
        Self::Discard,
    ];

    /// One word for records and metrics; rspamd's own words with hyphens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoAction => "no-action",
            Self::Greylist => "greylist",
            Self::AddHeader => "add-header",
            Self::RewriteSubject => "rewrite-subject",
            Self::SoftReject => "soft-reject",
            Self::Reject => "reject",
            Self::Quarantine => "quarantine",
            Self::Discard => "discard",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::NoAction => Kind::Clean,
            Self::Greylist | Self::AddHeader | Self::RewriteSubject | Self::SoftReject => Kind::Suspect,
            Self::Reject | Self::Quarantine | Self::Discard => Kind::Spam,
        }
    }
}

/// All results in one word; the later ones here count for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Nobody looked.
    NotScanned,
    /// Scanned, and nothing found.
    Clean,
    /// A spam scanner would have it marked or sent again.
    Suspect,
    /// Larger than a scanner takes.
    TooLarge,
    /// A scanner gave no answer.
    Failed,
    /// Spam.
    Spam,
    /// A virus.
    Infected,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::NotScanned,
        Self::Clean,
        Self::Suspect,
        Self::TooLarge,
        Self::Failed,
        Self::Spam,
        Self::Infected,
    ];

    /// One word for records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotScanned => "not-scanned",
            Self::Clean => "clean",
            Self::Suspect => "suspect",
            Self::TooLarge => "too-large",
            Self::Failed => "failed",
            Self::Spam => "spam",
            Self::Infected => "infected",
        }
    }
}

/// What all scanners said of a message. Empty: none is configured, or the message was not
/// completed. A refusal ends the scans, so the results of the others may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The results, as they came.
    pub results: Vec<ScanResult>,
}

impl Verdict {
    /// All in one word.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.results.iter().map(|result| result.finding.kind()).max().unwrap_or(Kind::NotScanned)
    }

    /// Whether some result is of this kind.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.results.iter().any(|result| result.finding.kind() == kind)
    }

    /// The name of the virus.
    #[must_use]
    pub fn signature(&self) -> Option<&str> {
        self.results.iter().find_map(|result| match &result.finding {
            Finding::Infected { signature } => Some(signature.as_str()),
            Finding::Clean
            | Finding::Rated(_)
            | Finding::TooLarge
            | Finding::Skipped { .. }
            | Finding::Failed { .. } => None,
        })
    }

    /// Why the first scanner that failed did, with its name.
    #[must_use]
    pub fn failure(&self) -> Option<(Scanner, &str)> {
        self.results.iter().find_map(|result| match &result.finding {
            Finding::Failed { reason } => Some((result.scanner, reason.as_str())),
            Finding::Clean
            | Finding::Rated(_)
            | Finding::TooLarge
            | Finding::Skipped { .. }
            | Finding::Infected { .. } => None,
        })
    }

    /// What the severest spam scanner thinks.
    #[must_use]
    pub fn rating(&self) -> Option<&Rating> {
        let ratings = self.results.iter().filter_map(|result| match &result.finding {
            Finding::Rated(rating) => Some(rating),
            Finding::Clean
            | Finding::Infected { .. }
            | Finding::TooLarge
            | Finding::Skipped { .. }
            | Finding::Failed { .. } => None,
        });
        ratings.max_by_key(|rating| rating.action.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(findings: Vec<Finding>) -> Verdict {
        let results = Scanner::ALL.into_iter().cycle().zip(findings);
        let result = |(scanner, finding)| ScanResult { scanner, finding, time: Duration::ZERO };
        Verdict { results: results.map(result).collect() }
    }

    fn rated(action: SpamAction, score: i32) -> Finding {
        let (score, threshold) = (Decimal::whole(score), Decimal::whole(5));
        Finding::Rated(Rating { action, score, threshold, symbols: vec![] })
    }

    #[test]
    fn the_worst_that_was_said_names_the_verdict() {
        let failed = || Finding::Failed { reason: "gone".to_owned() };
        let skipped = || Finding::Skipped { why: Skip::Load };
        let infected = || Finding::Infected { signature: "Eicar".to_owned() };
        for (findings, kind) in [
            (vec![], Kind::NotScanned),
            (vec![skipped()], Kind::NotScanned),
            (vec![Finding::Clean, skipped()], Kind::Clean),
            (vec![Finding::Clean, rated(SpamAction::NoAction, 1)], Kind::Clean),
            (vec![Finding::Clean, rated(SpamAction::Greylist, 4)], Kind::Suspect),
            (vec![rated(SpamAction::AddHeader, 4), Finding::TooLarge], Kind::TooLarge),
            (vec![failed(), Finding::Clean], Kind::Failed),
            (vec![failed(), rated(SpamAction::Reject, 9)], Kind::Spam),
            (vec![infected(), rated(SpamAction::Reject, 9)], Kind::Infected),
        ] {
            assert_eq!(verdict(findings.clone()).kind(), kind, "{findings:?}");
        }
    }

    #[test]
    fn the_severest_rating_is_the_one_that_is_told() {
        let both = verdict(vec![rated(SpamAction::Reject, 9), rated(SpamAction::NoAction, 1)]);
        assert_eq!(both.rating().unwrap().score, Decimal::whole(9));
        assert_eq!(verdict(vec![Finding::Clean]).rating(), None);
    }

    #[test]
    fn every_finding_has_one_of_the_known_names() {
        for action in SpamAction::ALL {
            assert!(Finding::NAMES.contains(&rated(action, 0).name()));
        }
    }
}
