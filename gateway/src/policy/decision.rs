//! From what scanners say to what is done with the message.

use crate::config::file::{Scan, Treatment};
use crate::outcome::{Finding, Rating, ScanResult, Scanner, SpamAction};
use crate::smtp::refusal::Refusal;

/// Why a message is refused on this result, if `scan` asks for that. It passes when no result
/// refuses it.
#[must_use]
pub fn refusal(result: &ScanResult, scan: &Scan) -> Option<Refusal> {
    let common = scan.scanners().into_iter().find(|(scanner, _)| *scanner == result.scanner);
    let common = common.map(|(_, common)| common);
    match &result.finding {
        Finding::Clean | Finding::Skipped { .. } => None,
        Finding::Infected { signature } => Some(Refusal::Virus { signature: signature.clone() }),
        Finding::Rated(rating) => rated(rating, on_rating(result.scanner, rating.action, scan)),
        Finding::TooLarge => match common.map(|common| common.on_too_large) {
            Some(Treatment::Pass) => None,
            Some(Treatment::Tempfail) => Some(Refusal::TooLargeToScanNow),
            Some(Treatment::Reject) | None => Some(Refusal::TooLargeToScan),
        },
        Finding::Failed { .. } => match common.map(|common| common.on_failure) {
            Some(Treatment::Pass) => None,
            Some(Treatment::Reject) => Some(Refusal::NotScannable),
            Some(Treatment::Tempfail) | None => Some(Refusal::ScannerFailed),
        },
    }
}

/// What happens to a message for which `scanner` recommends `action`. A scanner that is not
/// configured passes nothing.
fn on_rating(scanner: Scanner, action: SpamAction, scan: &Scan) -> Treatment {
    let treatment = match scanner {
        Scanner::Spamd if action == SpamAction::NoAction => Some(Treatment::Pass),
        Scanner::Spamd => scan.spamd.as_ref().map(|spamd| spamd.on_spam),
        Scanner::Rspamd => scan.rspamd.as_ref().map(|rspamd| rspamd.actions.on(action)),
        Scanner::Clamd => None,
    };
    treatment.unwrap_or(Treatment::Tempfail)
}

fn rated(rating: &Rating, treatment: Treatment) -> Option<Refusal> {
    match (treatment, rating.action) {
        (Treatment::Pass, _) => None,
        (Treatment::Reject, _) => Some(Refusal::Spam { score: rating.score }),
        (Treatment::Tempfail, SpamAction::Greylist) => Some(Refusal::Greylisted),
        (Treatment::Tempfail, _) => Some(Refusal::SpamSuspected),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config;
    use crate::config::decimal::Decimal;
    use crate::outcome::Skip;

    fn scan(rules: &str) -> Scan {
        let text = format!(
            "origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\nscan: {{{rules}}}\n"
        );
        config::parse(&text, "test").unwrap().scan
    }

    fn on(scanner: Scanner, finding: Finding, rules: &str) -> Option<Refusal> {
        refusal(&ScanResult { scanner, finding, time: Duration::ZERO }, &scan(rules))
    }

    fn rating(action: SpamAction) -> Finding {
        let (score, threshold) = (Decimal::whole(8), Decimal::whole(5));
        Finding::Rated(Rating { action, score, threshold, symbols: vec![] })
    }

    fn failed() -> Finding {
        Finding::Failed { reason: "x".into() }
    }

    const ALL: &str =
        "clamd: {address: 'unix:/x'}, spamd: {address: 'unix:/y'}, rspamd: {address: 'unix:/z'}";

    #[test]
    fn the_default_never_passes_what_a_scanner_could_not_look_at() {
        for scanner in Scanner::ALL {
            assert_eq!(on(scanner, Finding::Clean, ALL), None);
            assert_eq!(on(scanner, failed(), ALL), Some(Refusal::ScannerFailed));
            assert_eq!(on(scanner, failed(), ""), Some(Refusal::ScannerFailed), "not configured");
            assert_eq!(on(scanner, Finding::Skipped { why: Skip::Load }, ALL), None);
        }
        let infected = Finding::Infected { signature: "Eicar".into() };
        let virus = Refusal::Virus { signature: "Eicar".into() };
        assert_eq!(on(Scanner::Clamd, infected, ALL), Some(virus));
    }

    #[test]
    fn the_default_passes_large_messages_past_the_spam_scanners_only() {
        assert_eq!(on(Scanner::Clamd, Finding::TooLarge, ALL), Some(Refusal::TooLargeToScan));
        assert_eq!(on(Scanner::Spamd, Finding::TooLarge, ALL), None);
        assert_eq!(on(Scanner::Rspamd, Finding::TooLarge, ALL), None);
    }

    #[test]
    fn each_scanner_has_its_own_policies() {
        let rules = "clamd: {address: 'unix:/x', on-failure: pass, on-too-large: tempfail}, \
                     spamd: {address: 'unix:/y', on-failure: reject, on-too-large: reject}";
        assert_eq!(on(Scanner::Clamd, failed(), rules), None);
        assert_eq!(on(Scanner::Clamd, Finding::TooLarge, rules), Some(Refusal::TooLargeToScanNow));
        assert_eq!(on(Scanner::Spamd, failed(), rules), Some(Refusal::NotScannable));
        assert_eq!(on(Scanner::Spamd, Finding::TooLarge, rules), Some(Refusal::TooLargeToScan));
        let infected = Finding::Infected { signature: "Eicar".into() };
        assert!(on(Scanner::Clamd, infected, rules).is_some(), "whatever happens on failure");
    }

    #[test]
    fn spamd_refuses_spam_or_records_it() {
        let spam = Refusal::Spam { score: Decimal::whole(8) };
        assert_eq!(on(Scanner::Spamd, rating(SpamAction::Reject), ALL), Some(spam));
        assert_eq!(on(Scanner::Spamd, rating(SpamAction::NoAction), ALL), None);
        let record = "spamd: {address: 'unix:/y', on-spam: pass}";
        assert_eq!(on(Scanner::Spamd, rating(SpamAction::Reject), record), None);
        let later = "spamd: {address: 'unix:/y', on-spam: tempfail}";
        assert_eq!(on(Scanner::Spamd, rating(SpamAction::Reject), later), Some(Refusal::SpamSuspected));
    }

    #[test]
    fn each_action_of_rspamd_has_its_treatment() {
        let spam = Some(Refusal::Spam { score: Decimal::whole(8) });
        for (action, expected) in [
            (SpamAction::NoAction, None),
            (SpamAction::Greylist, Some(Refusal::Greylisted)),
            (SpamAction::AddHeader, None),
            (SpamAction::RewriteSubject, None),
            (SpamAction::SoftReject, Some(Refusal::SpamSuspected)),
            (SpamAction::Reject, spam.clone()),
            (SpamAction::Quarantine, spam.clone()),
            (SpamAction::Discard, spam.clone()),
        ] {
            assert_eq!(on(Scanner::Rspamd, rating(action), ALL), expected, "{action:?}");
        }
        let rules = "rspamd: {address: 'unix:/z', actions: {add-header: reject, reject: pass}}";
        assert_eq!(on(Scanner::Rspamd, rating(SpamAction::AddHeader), rules), spam);
        assert_eq!(on(Scanner::Rspamd, rating(SpamAction::Reject), rules), None);
    }
}
