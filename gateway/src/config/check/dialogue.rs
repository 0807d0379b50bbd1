//! What reaches the SMTP dialogue: `name`, `inspect`.

use super::Findings;
use crate::config::file::{Config, Inspect, Lane, NatHeaderKind, StartTls};

/// Longest domain name in a dialogue (RFC 5321 section 4.5.3.1.2).
const LONGEST_NAME: usize = 255;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    let name = config.name.as_str();
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let allowed = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (literal.is_some() && c == ':')
    };
    if name.len() > LONGEST_NAME || !literal.unwrap_or(name).chars().all(allowed) {
        findings.error(
            &["name"],
            format!("`{name}` cannot stand in a reply; write for example `gw.example.net`"),
        );
    }
    keywords(config, findings);
    nat_header(config, findings);
    for (index, rule) in config.lanes.iter().enumerate() {
        let key = format!("lanes.{index}.starttls");
        if rule.starttls.is_some() && rule.lane == Lane::Relay {
            let message = "the lane `relay` offers STARTTLS as `relay.tls` says; leave `starttls` out";
            findings.error(&[&key], message);
        } else if rule.starttls.is_some() && rule.lane != Lane::Inspect {
            findings.error(
                &[&key],
                format!("the lane `{}` does not look at STARTTLS; leave `starttls` out", rule.lane.name()),
            );
        }
    }
}

/// The header must be one (RFC 5322 section 2.2), in lines of at most 998 octets.
fn nat_header(config: &Config, findings: &mut Findings<'_>) {
    const LONGEST: usize = 200;
    let header = &config.nat_header;
    let is_name = |c: char| c.is_ascii_graphic() && c != ':';
    if header.name.is_empty() || header.name.len() > LONGEST || !header.name.chars().all(is_name) {
        findings.error(
            &["nat-header.name"],
            format!("`{}` is not the name of a header; write for example `X-Nat-Received`", header.name),
        );
    }
    if header.abuse.len() > LONGEST || !header.abuse.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        findings.error(
            &["nat-header.abuse"],
            format!("`{}` cannot stand in a header; write for example `abuse@example.net`", header.abuse),
        );
    } else if !header.abuse.is_empty() && header.kind != NatHeaderKind::Generic {
        findings.warn(&["nat-header.abuse"], "`abuse` is shown with `type: generic` only");
    }
}

fn keywords(config: &Config, findings: &mut Findings<'_>) {
    let known = Inspect::default().ehlo_keywords;
    let mut starttls = false;
    for (index, keyword) in config.inspect.ehlo_keywords.iter().enumerate() {
        let key = format!("inspect.ehlo-keywords.{index}");
        starttls |= keyword.eq_ignore_ascii_case("STARTTLS");
        // RFC 5321 section 4.1.1.1, ehlo-keyword.
        let well_formed = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
            && keyword.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !well_formed {
            findings.error(
                &[&key],
                format!("`{keyword}` is not an EHLO keyword; write the first word of the line alone, for example `SIZE`"),
            );
        } else if !known.iter().any(|known| known.eq_ignore_ascii_case(keyword)) {
            findings.warn(
                &[&key],
                format!(
                    "the gateway does not know what `{keyword}` changes; dialogues that use it may break"
                ),
            );
        }
    }
    if !starttls {
        let required = |choice: StartTls| choice == StartTls::Require;
        if required(config.inspect.starttls)
            || config.lanes.iter().any(|rule| rule.starttls.is_some_and(required))
        {
            findings.error(
                &["inspect.ehlo-keywords"],
                "with `starttls: require` clients must see `STARTTLS`; write it into the list",
            );
            return;
        }
        findings.warn(
            &["inspect.ehlo-keywords"],
            "without `STARTTLS` no session behind the gateway can be encrypted",
        );
    }
}
