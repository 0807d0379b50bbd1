//! What is run when a client is locked: `on-lock`.

use super::Findings;
use crate::config::file::Config;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    let rules = &config.on_lock;
    if rules.at_once == 0 || rules.at_once > 64 {
        findings.error(&["on-lock.at-once"], format!("{} is out of range; write 1 to 64", rules.at_once));
    }
    if rules.time_limit.duration().is_zero() {
        findings
            .error(&["on-lock.time-limit"], "the script would be killed at once; write for example `30s`");
    }
    if let Some(webhook) = &rules.webhook {
        if webhook.timeout.duration().is_zero() {
            findings
                .error(&["on-lock.webhook.timeout"], "no attempt would have time; write for example `10s`");
        }
        if let Some(key) = &webhook.authorization
            && !key.reveal().bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic())
        {
            findings.error(&["on-lock.webhook.authorization"], "a header field is one line of ASCII");
        }
        if config.locks.lock_on.is_empty() {
            findings.warn(&["on-lock.webhook"], "it is never told: `locks.lock-on` is empty");
        }
    }
    if rules.script.as_os_str().is_empty() {
        return;
    }
    if !rules.script.is_absolute() {
        findings.error(
            &["on-lock.script"],
            format!("`{}` does not begin with `/`; write a whole path", rules.script.display()),
        );
    }
    if matches!(rules.user.as_str(), "" | "root" | "0") {
        findings.error(
            &["on-lock.user", "on-lock.script"],
            format!("`{}` must not run what strangers set off; name an account of its own", rules.user),
        );
    } else if rules.user == config.user {
        let message =
            "the script shares the account of the process that reads the mail; give it one of its own";
        findings.warn(&["on-lock.user", "on-lock.script"], message);
    }
    if config.locks.lock_on.is_empty() {
        findings.warn(&["on-lock.script"], "it is never run: `locks.lock-on` is empty");
    }
}
