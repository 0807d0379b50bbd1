//! Files, scanners and accounts: `spool`, `queue`, `scan`, `control`, `user`.

use std::path::Path;

use super::Findings;
use crate::config::decimal::Decimal;
use crate::config::file::{CircuitBreaker, Common, Config, LeaveOn, ScannerAddress, Secret, Treatment};
use crate::config::units::Span;
use crate::outcome::Scanner;

/// Longest path of a UNIX socket in bytes (unix(7): 108, less the final NUL).
const LONGEST_SOCKET_PATH: usize = 107;

/// Longest name of a header field: a line has at most 78 characters (RFC 5322 section 2.1.1).
const LONGEST_FIELD_NAME: usize = 76;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    spool(config, findings);
    queue(config, findings);
    for (name, common) in config.scan.scanners() {
        scanner(name, &common, config, findings);
    }
    spam(config, findings);
    control(config, findings);
    user(config, findings);
}

fn spool(config: &Config, findings: &mut Findings<'_>) {
    let directory = &config.spool.directory;
    if !directory.is_absolute() || directory == Path::new("/") {
        findings.error(
            &["spool.directory"],
            format!(
                "`{}` is not a folder of the gateway's own; write for example `/var/spool/gateway`",
                directory.display()
            ),
        );
    }
    let header = &config.spool.header;
    // RFC 5322 section 2.2: printable ASCII but the colon.
    if header.len() > LONGEST_FIELD_NAME
        || header.bytes().any(|octet| !octet.is_ascii_graphic() || octet == b':')
    {
        findings.error(
            &["spool.header"],
            "is not the name of a header field; write for example `X-Proxy-Spool-Info`, without a colon",
        );
    }
    let leave_on = &config.spool.leave_on;
    if leave_on.contains(&LeaveOn::Always) && leave_on.len() > 1 {
        findings.warn(&["spool.leave-on"], "`always` includes the others");
    }
}

fn queue(config: &Config, findings: &mut Findings<'_>) {
    let Some(directory) = &config.queue.directory else { return };
    let shown = directory.display();
    if !directory.is_absolute() || directory == Path::new("/") {
        let message = format!(
            "`{shown}` is not a folder of the gateway's own; write for example `/var/spool/gateway/queue`"
        );
        findings.error(&["queue.directory"], message);
    } else if *directory == config.spool.directory || *directory == config.state_directory {
        let message = format!(
            "`{shown}` is the folder of other files already; write for example `{}`",
            directory.join("queue").display()
        );
        findings.error(&["queue.directory"], message);
    }
}

fn scanner(scanner: Scanner, common: &Common<'_>, config: &Config, findings: &mut Findings<'_>) {
    let name = scanner.name();
    let key = |key: &str| format!("scan.{name}.{key}");
    match common.address {
        ScannerAddress::Tcp(addr) if addr.port() == 0 => {
            let usual = match scanner {
                Scanner::Clamd => 3310,
                Scanner::Spamd => 783,
                Scanner::Rspamd => 11333,
            };
            let message = format!("port 0 does not exist; {name} usually has {usual}");
            findings.error(&[&key("address")], message);
        }
        ScannerAddress::Unix(path) => socket_path(&key("address"), path, findings),
        ScannerAddress::Tcp(_) => {}
    }
    sizes(scanner, common, config, findings);
    if common.on_failure == Treatment::Reject {
        let message =
            format!("mail is refused for good whenever {name} restarts; `tempfail` has clients try again");
        findings.warn(&[&key("on-failure")], message);
    }
    if common.concurrency == 0 {
        findings.error(&[&key("concurrency")], "nothing could be scanned; write 1 or more");
    }
    if common.health_interval == Span::default() {
        let message = "0 would check without a pause; write for example `10s`";
        findings.error(&[&key("health-interval")], message);
    }
    if common.deadline == Span::default() {
        let message = "0 would leave no time for a scan; write for example `60s`";
        findings.error(&[&key("deadline")], message);
    } else if common.deadline > config.timeouts.scan {
        let message = format!("`timeouts.scan` {} ends every scan earlier than this", config.timeouts.scan);
        findings.warn(&[&key("deadline"), "timeouts.scan"], message);
    }
    breaker(&key("circuit-breaker"), &common.circuit_breaker, findings);
}

fn sizes(scanner: Scanner, common: &Common<'_>, config: &Config, findings: &mut Findings<'_>) {
    let key = |key: &str| format!("scan.{}.{key}", scanner.name());
    let max_size = common.max_size;
    if max_size.bytes() == 0 {
        let example = if scanner.is_for_spam() { "512KiB" } else { "25MiB" };
        findings
            .error(&[&key("max-size")], format!("nothing would be scanned; write for example `{example}`"));
    } else if common.on_too_large == Treatment::Reject && config.limits.message_size > max_size {
        findings.warn(
            &["limits.message-size", &key("max-size")],
            format!(
                "messages up to `message-size` {} are invited, but those above `max-size` {max_size} are \
                 refused with `on-too-large: reject`",
                config.limits.message_size
            ),
        );
    }
    if common.on_too_large == Treatment::Tempfail {
        findings.warn(
            &[&key("on-too-large")],
            "a message that is too large stays so: clients try for days in vain; write `reject` or `pass`",
        );
    }
}

fn breaker(key: &str, breaker: &CircuitBreaker, findings: &mut Findings<'_>) {
    if breaker.failures != 0 && breaker.pause == Span::default() {
        let message =
            "0 would leave the scanner alone for no time; write for example `10s`, or `failures: 0`";
        findings.error(&[&format!("{key}.pause")], message);
    } else if breaker.pause > breaker.longest_pause {
        let message = format!("is shorter than `pause`, which is {}", breaker.pause);
        findings.error(&[&format!("{key}.longest-pause"), &format!("{key}.pause")], message);
    }
}

fn spam(config: &Config, findings: &mut Findings<'_>) {
    let scan = &config.scan;
    if scan.max_load.is_negative() {
        findings.error(&["scan.max-load"], "a load average is never below 0; write 0 for no ceiling");
    } else if scan.max_load != Decimal::default() && scan.spamd.is_none() && scan.rspamd.is_none() {
        findings.warn(&["scan.max-load"], "has no use without `spamd` or `rspamd`");
    }
    if let Some(spamd) = &scan.spamd {
        if spamd.user.bytes().any(|octet| !octet.is_ascii_graphic()) {
            findings
                .error(&["scan.spamd.user"], "an account's name has no spaces and no letters beyond ASCII");
        }
        if spamd.threshold.is_some_and(|threshold| threshold <= Decimal::default()) {
            let message = "mail without any fault would be spam; SpamAssassin's own is `5`";
            findings.warn(&["scan.spamd.threshold"], message);
        }
    }
    if let Some(rspamd) = &scan.rspamd {
        let password = rspamd.password.as_ref().map_or("", Secret::reveal);
        if password.bytes().any(|octet| !matches!(octet, b' '..=b'~')) {
            findings.error(&["scan.rspamd.password"], "only printable ASCII can be sent to rspamd");
        }
        if rspamd.actions.no_action != Treatment::Pass {
            let message = "mail that rspamd finds nothing wrong with would not pass";
            findings.warn(&["scan.rspamd.actions.no-action"], message);
        }
    }
}

fn control(config: &Config, findings: &mut Findings<'_>) {
    let socket = &config.control.socket;
    if socket.as_os_str().is_empty() {
        if !config.control.group.is_empty() {
            findings.warn(&["control.group"], "`group` has no use without `socket`");
        }
    } else if socket.is_absolute() {
        socket_path("control.socket", socket, findings);
    } else {
        findings.error(
            &["control.socket"],
            format!(
                "`{}` is not an absolute path; write for example `/run/gateway/control.sock`",
                socket.display()
            ),
        );
    }
}

fn socket_path(key: &str, path: &Path, findings: &mut Findings<'_>) {
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        findings.error(&[key], format!("a socket's path has at most {LONGEST_SOCKET_PATH} bytes"));
    }
}

fn user(config: &Config, findings: &mut Findings<'_>) {
    if matches!(config.user.as_str(), "" | "root" | "0") {
        findings.error(
            &["user"],
            format!("the proxy process reads strangers' mail and must not run as `{}`; write for example `gateway`", config.user),
        );
    }
}
