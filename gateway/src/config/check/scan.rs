//! Files, scanners and accounts: `spool`, `scan`, `control`, `user`.

use std::path::Path;

use super::Findings;
use crate::config::file::{Clamd, Config, LeaveOn, OnFailure, ScannerAddress};
use crate::config::units::Span;

/// Longest path of a UNIX socket in bytes (unix(7): 108, less the final NUL).
const LONGEST_SOCKET_PATH: usize = 107;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    spool(config, findings);
    if let Some(clamd) = &config.scan.clamd {
        scanner(clamd, config, findings);
    }
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
    let leave_on = &config.spool.leave_on;
    if leave_on.contains(&LeaveOn::Always) && leave_on.len() > 1 {
        findings.warn(&["spool.leave-on"], "`always` includes the others");
    }
}

fn scanner(clamd: &Clamd, config: &Config, findings: &mut Findings<'_>) {
    match &clamd.address {
        ScannerAddress::Tcp(addr) if addr.port() == 0 => {
            findings.error(&["scan.clamd.address"], "port 0 does not exist; clamd usually has 3310");
        }
        ScannerAddress::Unix(path) => socket_path("scan.clamd.address", path, findings),
        ScannerAddress::Tcp(_) => {}
    }
    if clamd.max_size.bytes() == 0 {
        findings.error(&["scan.clamd.max-size"], "nothing would be scanned; write for example `25MiB`");
    } else if clamd.on_too_large == OnFailure::Reject && config.limits.message_size > clamd.max_size {
        findings.warn(
            &["limits.message-size", "scan.clamd.max-size"],
            format!(
                "messages up to `message-size` {} are invited, but those above `max-size` {} are refused \
                 with `on-too-large: reject`",
                config.limits.message_size, clamd.max_size
            ),
        );
    }
    if clamd.on_too_large == OnFailure::Tempfail {
        findings.warn(
            &["scan.clamd.on-too-large"],
            "a message that is too large stays so: clients try for days in vain; write `reject` or `pass`",
        );
    }
    if clamd.on_failure == OnFailure::Reject {
        findings.warn(
            &["scan.clamd.on-failure"],
            "mail is refused for good whenever clamd restarts; `tempfail` has clients try again",
        );
    }
    if clamd.concurrency == 0 {
        findings.error(&["scan.clamd.concurrency"], "nothing could be scanned; write 1 or more");
    }
    if clamd.health_interval == Span::default() {
        findings
            .error(&["scan.clamd.health-interval"], "0 would check without a pause; write for example `10s`");
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
