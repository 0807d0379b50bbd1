//! What a client may be locked for.

use super::Cause;
use crate::config::decimal::Decimal;
use crate::outcome;
use crate::policy::quota::Quota;
use crate::smtp::refusal::Refusal;

/// Something that a client has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offence {
    /// Sent a virus.
    Virus {
        /// The signature's name.
        signature: String,
    },
    /// Sent spam.
    Spam {
        /// Its points.
        score: Decimal,
    },
    /// Opened more sessions than a client may have.
    MaxHost,
    /// Opened more sessions than an identity may have.
    MaxIdent,
    /// Is on block lists.
    Dnsbl {
        /// Their domains.
        lists: String,
    },
    /// Gave a name or an address that `filters` keeps out.
    Regex(outcome::Cause),
    /// Sends for a domain that does not let it.
    Spf {
        /// The domain.
        domain: String,
    },
    /// Spoke before the greeting.
    EarlyTalk,
    /// Has used up a quota.
    RateLimit {
        /// The quota.
        quota: Quota,
    },
    /// Connects to too many servers.
    FanOut {
        /// About how many, in the period that is counted, where that is known.
        servers: Option<u32>,
    },
}

impl Offence {
    /// What the client has done when it is refused for this; `None`: nothing it is locked for.
    #[must_use]
    pub fn of(refusal: &Refusal) -> Option<Self> {
        if let Refusal::Virus { signature } = refusal {
            Some(Self::Virus { signature: signature.clone() })
        } else if let Refusal::Spam { score } = refusal {
            Some(Self::Spam { score: *score })
        } else if let Refusal::Listed { lists }
        | Refusal::SenderListed { lists }
        | Refusal::ListedNow { lists } = refusal
        {
            Some(Self::Dnsbl { lists: lists.clone() })
        } else if let Refusal::SpfFail { domain, .. } = refusal {
            Some(Self::Spf { domain: domain.clone() })
        } else if let Refusal::OverQuota { quota, .. } = refusal {
            Self::over(quota)
        } else if let Refusal::Filtered(cause) = refusal {
            Self::noted(*cause)
        } else {
            (*refusal == Refusal::EarlyTalk).then_some(Self::EarlyTalk)
        }
    }

    /// The quota of this name is used up.
    fn over(name: &str) -> Option<Self> {
        let quota = Quota::ALL.into_iter().find(|quota| quota.name() == name)?;
        Some(if quota == Quota::Destinations {
            Self::FanOut { servers: None }
        } else {
            Self::RateLimit { quota }
        })
    }

    /// What the exchange has found itself and noted as `cause`; of what a check has found, its refusal
    /// says more.
    #[must_use]
    pub const fn noted(cause: outcome::Cause) -> Option<Self> {
        match cause {
            outcome::Cause::EarlyTalk => Some(Self::EarlyTalk),
            outcome::Cause::RegexHelo | outcome::Cause::RegexMailFrom | outcome::Cause::RegexRcptTo => {
                Some(Self::Regex(cause))
            }
            outcome::Cause::Dnsbl | outcome::Cause::Spf => None,
        }
    }

    /// The cause of a lock for it.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        match self {
            Self::Virus { .. } => Cause::Virus,
            Self::Spam { .. } => Cause::Spam,
            Self::MaxHost => Cause::MaxHost,
            Self::MaxIdent => Cause::MaxIdent,
            Self::Dnsbl { .. } => Cause::Dnsbl,
            Self::Regex(_) => Cause::Regex,
            Self::Spf { .. } => Cause::Spf,
            Self::EarlyTalk => Cause::EarlyTalk,
            Self::RateLimit { .. } => Cause::RateLimit,
            Self::FanOut { .. } => Cause::FanOut,
        }
    }

    /// What more there is to say.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Virus { signature } => signature.clone(),
            Self::Spam { score } => score.to_string(),
            Self::Dnsbl { lists } => lists.clone(),
            Self::Regex(cause) => cause.what().to_owned(),
            Self::Spf { domain } => domain.clone(),
            Self::FanOut { servers } => {
                servers.map(|servers| format!("{servers} servers")).unwrap_or_default()
            }
            Self::RateLimit { quota } => quota.name().to_owned(),
            Self::MaxHost | Self::MaxIdent | Self::EarlyTalk => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_is_refused_for_is_what_it_is_locked_for() {
        let offence = |refusal| Offence::of(&refusal).map(|offence| (offence.cause(), offence.detail()));
        let virus = Refusal::Virus { signature: "Eicar".to_owned() };
        assert_eq!(offence(virus), Some((Cause::Virus, "Eicar".to_owned())));
        let spam = Refusal::Spam { score: Decimal::whole(12) };
        assert_eq!(offence(spam), Some((Cause::Spam, "12".to_owned())));
        let sender = Refusal::Filtered(outcome::Cause::RegexMailFrom);
        assert_eq!(offence(sender), Some((Cause::Regex, "sender".to_owned())));
        assert_eq!(offence(Refusal::EarlyTalk), Some((Cause::EarlyTalk, String::new())));
        let lists = "bl.example".to_owned();
        let listed = Refusal::Listed { lists: lists.clone() };
        assert_eq!(offence(listed), Some((Cause::Dnsbl, lists)));
        let over = |quota| offence(Refusal::OverQuota { quota, closing: false });
        assert_eq!(over("recipients"), Some((Cause::RateLimit, "recipients".to_owned())));
        assert_eq!(over("destinations"), Some((Cause::FanOut, String::new())));
        let (domain, address) = ("a.example".to_owned(), "192.0.2.1".parse().unwrap());
        let spf = Refusal::SpfFail { domain, address, explanation: None };
        assert_eq!(offence(spf), Some((Cause::Spf, "a.example".to_owned())));
    }

    #[test]
    fn nobody_is_locked_for_what_is_not_the_clients_doing() {
        for refusal in [Refusal::ScannerFailed, Refusal::TooManySessions, Refusal::SpamSuspected] {
            assert_eq!(Offence::of(&refusal), None, "{refusal}");
        }
    }
}
