//! The part of a report that people read.

use std::time::Duration;

use super::field::Fields;
use super::{Host, Kind, Told};

/// Writes it.
pub(super) fn write(out: &mut Fields, host: Host<'_>, kind: Kind, told: &[&Told<'_>]) {
    out.line("");
    let host_line = format!("This is a report of the mail gateway {}.", host.name);
    let delayed =
        format!("It tries for {} in all. You need not send the message again.", span(host.lifetime));
    let lines: &[&str] = match kind {
        Kind::Failure => &[
            &host_line,
            "",
            "Your message could not be delivered to the recipients below. It is returned",
            "in the last part of this mail, or its header alone if it is long.",
            "",
            "Who needs help may send this report to the postmaster.",
        ],
        Kind::Delay { .. } => &[
            &host_line,
            "",
            "Your message has not been delivered yet to the recipients below. The gateway",
            "goes on trying.",
            &delayed,
        ],
        Kind::Success => &[
            &host_line,
            "",
            "Your message was delivered to the recipients below, or was given to a mail",
            "system that sends no reports of its own.",
        ],
    };
    for line in lines {
        out.line(line);
    }
    for told in told {
        out.line("");
        out.paragraph(&format!("<{}>: {}", told.recipient.address, told.reason));
    }
}

/// A length of time in words.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    for (unit, length) in [("day", 86_400), ("hour", 3_600), ("minute", 60)] {
        if seconds >= length && seconds.is_multiple_of(length) {
            let number = seconds.checked_div(length).unwrap_or(0);
            return if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") };
        }
    }
    format!("{seconds} seconds")
}
