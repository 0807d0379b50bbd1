//! From a verdict to what is done with the message.

use crate::config::file::{OnFailure, Scan};
use crate::outcome::Verdict;
use crate::smtp::exchange::Decision;
use crate::smtp::refusal::Refusal;

/// What `scan` asks for on this verdict.
#[must_use]
pub fn decide(verdict: &Verdict, scan: &Scan) -> Decision {
    let clamd = scan.clamd.as_ref();
    match verdict {
        Verdict::Clean | Verdict::NotScanned => Decision::Pass,
        Verdict::Infected { signature } => Decision::Refuse(Refusal::Virus { signature: signature.clone() }),
        Verdict::TooLarge => match clamd.map(|clamd| clamd.on_too_large) {
            Some(OnFailure::Pass) => Decision::Pass,
            Some(OnFailure::Tempfail) => Decision::Refuse(Refusal::TooLargeToScanNow),
            Some(OnFailure::Reject) | None => Decision::Refuse(Refusal::TooLargeToScan),
        },
        Verdict::Failed { .. } => match clamd.map(|clamd| clamd.on_failure) {
            Some(OnFailure::Pass) => Decision::Pass,
            Some(OnFailure::Reject) => Decision::Refuse(Refusal::NotScannable),
            Some(OnFailure::Tempfail) | None => Decision::Refuse(Refusal::ScannerFailed),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn scan(rules: &str) -> Scan {
        let text = format!(
            "origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\n\
             scan: {{clamd: {{address: 'unix:/x'{rules}}}}}\n"
        );
        config::parse(&text, "test").unwrap().scan
    }

    #[test]
    fn the_default_never_passes_what_was_not_found_clean() {
        let scan = scan("");
        let failed = Verdict::Failed { reason: "x".into() };
        assert_eq!(decide(&Verdict::Clean, &scan), Decision::Pass);
        assert_eq!(decide(&failed, &scan), Decision::Refuse(Refusal::ScannerFailed));
        assert_eq!(decide(&Verdict::TooLarge, &scan), Decision::Refuse(Refusal::TooLargeToScan));
        let infected = Verdict::Infected { signature: "Eicar".into() };
        assert_eq!(decide(&infected, &scan), Decision::Refuse(Refusal::Virus { signature: "Eicar".into() }));
    }

    #[test]
    fn a_virus_is_refused_whatever_happens_on_failure() {
        let scan = scan(", on-failure: pass, on-too-large: pass");
        assert_eq!(decide(&Verdict::Failed { reason: "x".into() }, &scan), Decision::Pass);
        assert_eq!(decide(&Verdict::TooLarge, &scan), Decision::Pass);
        assert_ne!(decide(&Verdict::Infected { signature: "Eicar".into() }, &scan), Decision::Pass);
    }
}
