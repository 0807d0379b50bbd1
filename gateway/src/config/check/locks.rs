//! Locks: `locks`.

use super::Findings;
use crate::config::file::{Config, LockCause, Locks};

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    let locks = &config.locks;
    if !(16..=128).contains(&locks.ipv6_prefix) {
        findings.error(
            &["locks.ipv6-prefix"],
            format!("/{} is not what one customer has; write 16 to 128, such as 64", locks.ipv6_prefix),
        );
    }
    for (index, cause) in locks.lock_on.iter().enumerate() {
        let key = format!("locks.lock-on.{index}");
        if *cause == LockCause::Operator {
            findings.error(&[&key, "locks.lock-on"], "an operator locks with `gateway lock add`");
        } else if locks.lock_on.iter().take(index).any(|earlier| earlier == cause) {
            findings.warn(&[&key, "locks.lock-on"], format!("`{}` stands here twice", cause.name()));
        }
    }
    by_cause(locks, findings);
}

fn by_cause(locks: &Locks, findings: &mut Findings<'_>) {
    for (index, rule) in locks.by_cause.iter().enumerate() {
        let key = format!("locks.by-cause.{index}.cause");
        let keys = [key.as_str(), "locks.by-cause"];
        let name = rule.cause.name();
        if locks.by_cause.iter().take(index).any(|earlier| earlier.cause == rule.cause) {
            findings.error(&keys, format!("`{name}` has two rules; write one"));
        } else if !locks.lock_on.contains(&rule.cause) {
            findings.warn(&keys, format!("`{name}` is not in `lock-on`: nobody is locked for it"));
        }
    }
}
