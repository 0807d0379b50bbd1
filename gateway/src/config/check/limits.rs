//! Ceilings and deadlines, and what RFC 5321 section 4.5.3 asks of them.

use super::Findings;
use crate::config::file::{Config, Limits};
use crate::config::units::{ByteCount, Span};

/// Longest command line that is held in memory for each session.
const LONGEST_COMMAND: ByteCount = ByteCount::kib(64);

/// How long a client waits for the reply to the end of data (RFC 5321 section 4.5.3.2.6).
const END_OF_DATA: Span = Span::minutes(10);

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    limits(&config.limits, findings);
    timeouts(config, findings);
}

fn limits(limits: &Limits, findings: &mut Findings<'_>) {
    if limits.sessions == 0 {
        findings.error(&["limits.sessions"], "no session at all; write 1 or more");
    } else {
        for (key, ceiling) in [
            ("sessions-per-client", limits.sessions_per_client),
            ("sessions-per-identity", limits.sessions_per_identity),
            ("sessions-per-prefix", limits.sessions_per_prefix),
        ] {
            if ceiling > limits.sessions {
                let key_here = format!("limits.{key}");
                let message = format!("`{key}` is never reached: `sessions` is {}", limits.sessions);
                findings.warn(&[&key_here, "limits.sessions"], message);
            }
        }
    }
    prefixes(limits, findings);
    if limits.max_load.is_negative() {
        findings.error(&["limits.max-load"], "a load average is never below 0; write 0 for no limit");
    }
    let size = limits.message_size;
    if size.bytes() != 0 && size < ByteCount::kib(64) {
        findings.warn(
            &["limits.message-size"],
            format!("{size} is less than the 64KiB that every server must take (RFC 5321 section 4.5.3.1.7)"),
        );
    }
    if limits.recipients == 0 {
        findings.error(&["limits.recipients"], "no recipient at all; write 100 or more");
    } else if limits.recipients < 100 {
        findings.warn(
            &["limits.recipients"],
            format!(
                "{} is less than the 100 that every server must take (RFC 5321 section 4.5.3.1.8)",
                limits.recipients
            ),
        );
    }
    let line = limits.command_line;
    if line < ByteCount::new(512) {
        findings.error(
            &["limits.command-line"],
            format!(
                "{line} is shorter than commands may be; write `512B` or more (RFC 5321 section 4.5.3.1.4)"
            ),
        );
    } else if line > LONGEST_COMMAND {
        findings.error(
            &["limits.command-line"],
            format!(
                "{line} for each session is more than any command needs; write at most `{LONGEST_COMMAND}`"
            ),
        );
    }
    if limits.hard_errors == 0 {
        findings.error(&["limits.hard-errors"], "no error at all would be allowed; write 1 or more");
    } else if limits.soft_errors > limits.hard_errors {
        findings.error(
            &["limits.soft-errors", "limits.hard-errors"],
            format!(
                "`soft-errors` {} is more than `hard-errors` {}: the delay would never be used",
                limits.soft_errors, limits.hard_errors
            ),
        );
    }
    if limits.error_delay >= Span::minutes(1) {
        findings.warn(
            &["limits.error-delay"],
            format!(
                "{} for every reply keeps sessions open for long; write for example `1s`",
                limits.error_delay
            ),
        );
    }
}

fn prefixes(limits: &Limits, findings: &mut Findings<'_>) {
    for (key, bits, longest) in
        [("ipv4-prefix", limits.ipv4_prefix, 32), ("ipv6-prefix", limits.ipv6_prefix, 128)]
    {
        if bits == 0 || bits > longest {
            let message = format!("{bits} bits name no network of addresses; write 1 to {longest}");
            findings.error(&[&format!("limits.{key}")], message);
        }
    }
}

fn timeouts(config: &Config, findings: &mut Findings<'_>) {
    let timeouts = &config.timeouts;
    // RFC 5321 section 4.5.3.2 gives minimum waits to those who act as client or server.
    let all = [
        ("connect", timeouts.connect, None),
        ("greeting", timeouts.greeting, Some((Span::minutes(5), "4.5.3.2.1"))),
        ("command", timeouts.command, Some((Span::minutes(5), "4.5.3.2.7"))),
        ("reply", timeouts.reply, Some((Span::minutes(5), "4.5.3.2.2 and 4.5.3.2.3"))),
        ("checks", timeouts.checks, None),
        ("data-block", timeouts.data_block, Some((Span::minutes(3), "4.5.3.2.5"))),
        ("scan", timeouts.scan, None),
        ("end-of-data", timeouts.end_of_data, Some((END_OF_DATA, "4.5.3.2.6"))),
        ("idle", timeouts.idle, Some((END_OF_DATA, "4.5.3.2.6, which also holds inside TLS"))),
        ("takeover", timeouts.takeover, None),
        ("message", timeouts.message, None),
        ("session", timeouts.session, None),
    ];
    for (name, span, least) in all {
        let key = format!("timeouts.{name}");
        if span == Span::default() {
            findings.error(&[&key], format!("`{name}` 0 ends everything at once; write for example `5m`"));
        } else if let Some((least, section)) = least
            && span < least
        {
            findings.warn(&[&key], format!("{span} is less than the {least} of RFC 5321 section {section}"));
        }
    }
    if timeouts.scan > END_OF_DATA {
        findings.warn(
            &["timeouts.scan"],
            format!(
                "clients wait {END_OF_DATA} for the reply to a message (RFC 5321 section 4.5.3.2.6); \
                 after a scan of {} they have sent it again",
                timeouts.scan
            ),
        );
    }
    for (name, span, within, whole) in [
        ("message", timeouts.message, "session", timeouts.session),
        ("data-block", timeouts.data_block, "message", timeouts.message),
        ("command", timeouts.command, "session", timeouts.session),
        ("takeover", timeouts.takeover, "session", timeouts.session),
    ] {
        if span > whole && whole != Span::default() {
            let keys = [format!("timeouts.{name}"), format!("timeouts.{within}")];
            let keys = keys.each_ref().map(String::as_str);
            findings.warn(&keys, format!("`{name}` {span} is never reached: `{within}` is {whole}"));
        }
    }
}
