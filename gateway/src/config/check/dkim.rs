//! Signatures on mail that leaves: `delivery.dkim`, and the lane rules that ask for them.

use super::Findings;
use crate::config::file::delivery::Dkim;
use crate::config::file::{Config, Lane, LaneRule};
use crate::config::units::Span;

/// The least `line-length-limit` with which a signature's lines are not folded in the middle of a word: two names of the DNS
/// and what stands around them.
const SHORTEST_LINE: usize = 600;
/// The least time that a signature holds: mail may wait in the queues of others.
const SHORTEST_LIFE: Span = Span::minutes(60);

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    let entries = &config.delivery.dkim;
    for (number, entry) in entries.iter().enumerate() {
        one(entry, number, findings);
        let twin = |other: &&Dkim| other.domain == entry.domain && other.selector == entry.selector;
        if entries.iter().take(number).any(|other| twin(&other)) {
            let message =
                "a key of this domain and selector is in the list already; each has a selector of its own";
            findings.error(&[&format!("delivery.dkim.{number}.selector")], message);
        }
    }
    for (index, rule) in config.lanes.iter().enumerate().filter(|(_, rule)| rule.sign) {
        lane(config, rule, index, findings);
    }
    if entries.is_empty() {
        return;
    }
    for (key, limit) in [
        ("delivery.compatibility.line-length-limit", config.delivery.compatibility.line_length_limit),
        (
            "delivery.lmtp.compatibility.line-length-limit",
            config.delivery.for_lmtp().compatibility.line_length_limit,
        ),
    ] {
        if findings.is_written(key) && limit != 0 && limit < SHORTEST_LINE {
            let message = format!(
                "lines this short cut signatures of `delivery.dkim` apart; write {SHORTEST_LINE} or more, or 0"
            );
            findings.error(&[key], message);
        }
    }
    if !config.lanes.iter().any(|rule| rule.sign) {
        let message =
            "no rule of `lanes` has `sign: true`, so that only the gateway's own reports are signed";
        findings.warn(&["delivery.dkim"], message);
    }
}

fn one(entry: &Dkim, number: usize, findings: &mut Findings<'_>) {
    let key = |name: &str| format!("delivery.dkim.{number}.{name}");
    if !entry.key.is_absolute() {
        let message = format!("`{}` does not begin with `/`; write a whole path", entry.key.display());
        findings.error(&[&key("key")], message);
    }
    let signs = |name: &str| entry.headers.iter().any(|header| header.as_str().eq_ignore_ascii_case(name));
    if !signs("From") {
        let message = "`From` is missing, without which a signature says nothing (RFC 6376 section 5.4)";
        findings.error(&[&key("headers")], message);
    }
    for name in ["Received", "Return-Path"] {
        if signs(name) {
            let message = format!("`{name}` changes on the way, and the signature breaks; leave it out");
            findings.warn(&[&key("headers")], message);
        }
    }
    if let Some(other) = entry.oversign.iter().find(|name| !signs(name.as_str())) {
        let message = format!("`{}` is not among `headers`", other.as_str());
        findings.error(&[&key("oversign"), &key("headers")], message);
    }
    if entry.expiry != Span::seconds(0) && entry.expiry < SHORTEST_LIFE {
        let message =
            format!("mail may be on its way for longer; write `{SHORTEST_LIFE}` or more, or 0 for ever");
        findings.error(&[&key("expiry")], message);
    }
}

fn lane(config: &Config, rule: &LaneRule, index: usize, findings: &mut Findings<'_>) {
    let key = |name: &str| format!("lanes.{index}.{name}");
    if rule.lane != Lane::Relay {
        let message = format!(
            "the lane `{}` passes mail as it is; leave `sign` out, or write `lane: relay`",
            rule.lane.name()
        );
        return findings.error(&[&key("sign")], message);
    }
    if config.delivery.dkim.is_empty() {
        let message = "there is no key to sign with; write `delivery.dkim`";
        findings.error(&[&key("sign")], message);
    }
    let everybody = rule.client.iter().any(|network| network.0.prefix_len() == 0);
    if (rule.client.is_empty() || everybody) && rule.interface.is_empty() {
        let message = "anybody could have mail signed in your name; name your clients in `client` or `interface`, for example \
                       `client: [192.0.2.0/24]`";
        findings.error(&[&key("sign")], message);
    }
}
