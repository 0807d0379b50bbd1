//! The processes themselves: `process`.

use super::Findings;
use crate::config::file::Config;
use crate::config::units::ByteCount;

/// Less address space than the process takes before the first session.
const LEAST_ADDRESS_SPACE: ByteCount = ByteCount::mib(512);

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    let process = &config.process;
    if !(-20..=19).contains(&process.priority) {
        findings.error(
            &["process.priority"],
            format!("{} is no priority; write -20 (first) to 19 (last)", process.priority),
        );
    }
    if !process.pid_file.as_os_str().is_empty() && !process.pid_file.is_absolute() {
        findings.error(
            &["process.pid-file"],
            format!("`{}` does not begin with `/`; write a whole path", process.pid_file.display()),
        );
    }
    let space = process.address_space;
    if space.bytes() != 0 && space < LEAST_ADDRESS_SPACE {
        findings.error(
            &["process.address-space"],
            format!("{space} is less than one process for all sessions needs; write `{LEAST_ADDRESS_SPACE}` or more"),
        );
    }
    if matches!(process.group.as_str(), "root" | "0") {
        findings.error(
            &["process.group"],
            format!(
                "the proxy process reads strangers' mail and must not be in the group `{}`",
                process.group
            ),
        );
    }
}
