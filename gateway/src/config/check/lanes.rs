//! Lane rules that can never decide anything.

use ipnet::IpNet;
use jiff::civil::Time;

use super::Findings;
use crate::config::file::{Config, DayTimes, InterfacePattern, LaneRule, Network, Origin};

/// Comparisons after which rules are no longer compared, so that a file of a hundred thousand
/// networks is read at once. A few hundred rules stay far below.
const MOST_COMPARISONS: usize = 2_000_000;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    let errors = findings.errors();
    for (index, rule) in config.lanes.iter().enumerate() {
        conditions(config, index, rule, findings);
    }
    // What a rule with an error will match is not known yet.
    if findings.errors() == errors {
        shadowed(&config.lanes, findings);
    }
}

fn conditions(config: &Config, index: usize, rule: &LaneRule, findings: &mut Findings<'_>) {
    let empty = [
        ("client", rule.client.is_empty()),
        ("server", rule.server.is_empty()),
        ("port", rule.port.is_empty()),
        ("interface", rule.interface.is_empty()),
        ("time", rule.time.is_empty()),
    ];
    for (name, is_empty) in empty {
        let key = format!("lanes.{index}.{name}");
        if is_empty && findings.is_written(&key) {
            findings.error(
                &[&key],
                format!(
                    "an empty `{name}` would hold for every flow; write what it is to match, or leave it out"
                ),
            );
        }
    }
    let assign = config.origin == Origin::Assign;
    for (position, port) in rule.port.iter().enumerate() {
        let key = format!("lanes.{index}.port.{position}");
        if *port == 0 {
            findings.error(&[&key], "port 0 does not exist; write for example `25`");
        } else if assign && !config.intercept.ports.contains(port) {
            findings.warn(
                &[&key, "intercept.ports"],
                format!("port {port} is not among the intercepted `ports`; the rule is never asked for it"),
            );
        }
    }
    for (position, interface) in rule.interface.iter().enumerate() {
        let key = format!("lanes.{index}.interface.{position}");
        if !assign {
            findings.warn(&[&key, "origin"], "the interface of a flow is known with `origin: assign` only");
        } else if interface.is_name()
            && !config.intercept.interfaces.is_empty()
            && !config.intercept.interfaces.iter().any(|pattern| pattern.matches(interface.as_str()))
        {
            findings.warn(
                &[&key, "intercept.interfaces"],
                format!("`{interface}` is not among the `interfaces` on which flows are intercepted"),
            );
        }
    }
}

fn shadowed(rules: &[LaneRule], findings: &mut Findings<'_>) {
    let mut left = MOST_COMPARISONS;
    for (index, rule) in rules.iter().enumerate() {
        for (earlier_index, earlier) in rules.iter().enumerate().take(index) {
            left = left.saturating_sub(cost(earlier, rule));
            if left == 0 {
                return;
            }
            if covers(earlier, rule) {
                let key = format!("lanes.{index}");
                let earlier_key = format!("lanes.{earlier_index}");
                let before = findings.line(&earlier_key).unwrap_or_default();
                findings.warn(
                    &[&key, &earlier_key],
                    format!("this rule never matches: the rule in line {before} takes all its flows before"),
                );
                break;
            }
        }
    }
}

/// Comparisons that [`covers`] may need.
fn cost(earlier: &LaneRule, rule: &LaneRule) -> usize {
    let pairs = |a: usize, b: usize| a.saturating_mul(b);
    1 + pairs(earlier.client.len(), rule.client.len())
        + pairs(earlier.server.len(), rule.server.len())
        + pairs(earlier.port.len(), rule.port.len())
        + pairs(earlier.interface.len(), rule.interface.len())
        + if earlier.time.is_empty() { 0 } else { pairs(1_440, earlier.time.len() + rule.time.len()) }
}

/// Whether `earlier` matches every flow that `rule` matches.
fn covers(earlier: &LaneRule, rule: &LaneRule) -> bool {
    each_within(&earlier.client, &rule.client, contains)
        && each_within(&earlier.server, &rule.server, contains)
        && each_within(&earlier.port, &rule.port, |a, b| a == b)
        && each_within(&earlier.interface, &rule.interface, includes)
        && always_within(&earlier.time, &rule.time)
}

/// Whether each of `inner` is within one of `outer`; an empty condition holds for everything.
fn each_within<T>(outer: &[T], inner: &[T], within: impl Fn(&T, &T) -> bool) -> bool {
    outer.is_empty() || (!inner.is_empty() && inner.iter().all(|i| outer.iter().any(|o| within(o, i))))
}

fn contains(outer: &Network, inner: &Network) -> bool {
    match (outer.0, inner.0) {
        (IpNet::V4(outer), IpNet::V4(inner)) => outer.contains(&inner),
        (IpNet::V6(outer), IpNet::V6(inner)) => outer.contains(&inner),
        (IpNet::V4(_), IpNet::V6(_)) | (IpNet::V6(_), IpNet::V4(_)) => false,
    }
}

fn includes(outer: &InterfacePattern, inner: &InterfacePattern) -> bool {
    outer == inner || outer.as_str() == "*" || (inner.is_name() && outer.matches(inner.as_str()))
}

fn always_within(outer: &[DayTimes], inner: &[DayTimes]) -> bool {
    let any = |times: &[DayTimes], time| times.is_empty() || times.iter().any(|part| part.contains(time));
    outer.is_empty() || minutes().all(|time| any(outer, time) || !any(inner, time))
}

fn minutes() -> impl Iterator<Item = Time> {
    (0..24).flat_map(|hour| (0..60).map(move |minute| jiff::civil::time(hour, minute, 0, 0)))
}
