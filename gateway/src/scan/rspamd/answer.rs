//! What rspamd's answer to `/checkv2` means (its `protocol` documentation). Pure.
//!
//! Only the action decides. An action that is not known is no answer.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::decimal::Decimal;
use crate::outcome::{Rating, SpamAction};
use crate::scan::text::{printable, symbols};

/// Longest part of an unknown answer that is shown to the operator.
const EXCERPT_LENGTH: usize = 200;

#[derive(Deserialize)]
struct Answer {
    action: String,
    score: f64,
    #[serde(default)]
    required_score: Option<f64>,
    #[serde(default)]
    symbols: BTreeMap<String, Symbol>,
}

#[derive(Deserialize)]
struct Symbol {
    #[serde(default)]
    score: f64,
}

/// Reads a whole answer; else says what is wrong with it.
pub(super) fn parse(answer: &[u8]) -> Result<Rating, String> {
    let answer = answer.trim_ascii();
    let wrong = |what: &str| format!("{}: {}", shown(what), printable(answer, EXCERPT_LENGTH));
    // serde would take a list of the fields' values, too.
    if !answer.starts_with(b"{") {
        return Err(wrong("not a JSON object"));
    }
    let read: Answer = serde_json::from_slice(answer).map_err(|error| wrong(&error.to_string()))?;
    let action = action(&read.action).ok_or_else(|| format!("unknown action `{}`", shown(&read.action)))?;
    let number = |number: f64| Decimal::nearest(number).unwrap_or_default();
    let mut weighed: Vec<_> = read.symbols.iter().collect();
    // The heaviest first, in either direction; the names are in order already.
    weighed.sort_by(|(_, one), (_, other)| other.score.abs().total_cmp(&one.score.abs()));
    Ok(Rating {
        action,
        score: number(read.score),
        threshold: number(read.required_score.unwrap_or_default()),
        symbols: symbols(weighed.into_iter().map(|(name, _)| name.as_bytes())),
    })
}

fn shown(text: &str) -> String {
    printable(text.as_bytes(), EXCERPT_LENGTH)
}

fn action(name: &str) -> Option<SpamAction> {
    SpamAction::ALL.into_iter().find(|action| action.name().replace('-', " ") == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_of_a_real_rspamd_are_understood() {
        let gtube = br#"{"is_skipped":true,"score":15.0,"required_score":15.0,"action":"reject",
            "symbols":{"GTUBE":{"name":"GTUBE","score":0.0}},"messages":{"smtp_message":"Gtube pattern"}}"#;
        let rating = parse(gtube).unwrap();
        assert_eq!((rating.action, rating.score), (SpamAction::Reject, Decimal::whole(15)));
        assert_eq!(rating.symbols, ["GTUBE"]);
        let soft = br#"{"action":"soft reject","score":-0.1,"required_score":null,"milter":{"x":[1]}}"#;
        assert_eq!(parse(soft).unwrap().action, SpamAction::SoftReject);
    }

    #[test]
    fn the_heaviest_symbols_are_kept() {
        let many: Vec<_> = (0..1_000).map(|n| format!("\"S{n:03}\":{{\"score\":{n}}}")).collect();
        let answer = format!(
            "{{\"action\":\"add header\",\"score\":1,\"symbols\":{{\"GOOD\":{{\"score\":-5000}},{}}}}}",
            many.join(",")
        );
        let symbols = parse(answer.as_bytes()).unwrap().symbols;
        assert_eq!(symbols[..3], ["GOOD", "S999", "S998"]);
        assert!(symbols.len() < 100);
    }

    #[test]
    fn what_is_not_understood_is_never_ham() {
        for answer in [
            "",
            "pong",
            "{}",
            r#"{"error":"cannot parse","score":0}"#,
            r#"{"action":"no action"}"#,
            r#"{"action":"No Action","score":0}"#,
            r#"{"action":"no-action","score":0}"#,
            r#"{"action":"vanish","score":0}"#,
            r#"{"action":null,"score":0}"#,
            r#"{"action":"no action","score":"0"}"#,
            r#"{"action":"no action","action":"no action","score":0}"#,
            r#"{"action":"no action","score":0"#,
            r#"{"action":"no action","score":0} {"action":"reject","score":0}"#,
            r#"[{"action":"no action","score":0}]"#,
            r#"["no action",0]"#,
        ] {
            assert!(parse(answer.as_bytes()).is_err(), "{answer}");
        }
        let deep = format!("{{\"action\":\"no action\",\"score\":0,\"x\":{}", "[".repeat(100_000));
        assert!(parse(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_octets_give_an_answer_only_with_an_action(answer in prop::collection::vec(part(), 0..8)) {
            let answer = answer.concat();
            match parse(&answer) {
                Ok(rating) => {
                    let action = rating.action.name().replace('-', " ");
                    prop_assert!(answer.windows(action.len()).any(|window| window == action.as_bytes()));
                }
                Err(text) => prop_assert!(text.len() < 500 && text.is_ascii()),
            }
        }
    }

    fn part() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"{\"action\":\"".to_vec()),
            Just(b"no action\",\"score\":1".to_vec()),
            Just(b"reject\",\"score\":1".to_vec()),
            Just(b",\"symbols\":{\"A\":{}}".to_vec()),
            Just(b"}".to_vec()),
            prop::collection::vec(any::<u8>(), 0..6),
        ]
    }
}
