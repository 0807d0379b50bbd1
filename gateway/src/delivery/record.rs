//! What the log says of each recipient of each delivery, with Postfix's fields in their order.

use std::fmt;
use std::time::Duration;

use crate::smtp::client::{Status, quoted};

/// How a delivery ended for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server has it.
    Sent,
    /// It is tried again.
    Deferred,
    /// It is returned to the sender.
    Bounced,
    /// A probe: the server would take it.
    Deliverable,
    /// A probe: the server would not.
    Undeliverable,
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Sent, Self::Deferred, Self::Bounced, Self::Deliverable, Self::Undeliverable];

    /// One word for records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Deferred => "deferred",
            Self::Bounced => "bounced",
            Self::Deliverable => "deliverable",
            Self::Undeliverable => "undeliverable",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// In the queue, before the schedule had it.
    pub queued: Duration,
    /// In the schedule, waiting for its turn.
    pub scheduled: Duration,
    /// Look-ups, connections and handshakes; earlier servers with all they took.
    pub connecting: Duration,
    /// The transaction, from MAIL on.
    pub transmitting: Duration,
}

impl Delays {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> Duration {
        let parts = [self.queued, self.scheduled, self.connecting, self.transmitting];
        parts.into_iter().fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// A record; it is printed as Postfix prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The recipient.
    pub to: String,
    /// The recipient before its address was rewritten.
    pub original_to: String,
    /// The server, `HOST[ADDRESS]:PORT`; `None`: no connection came about.
    pub relay: Option<String>,
    /// How many deliveries its connection has carried with this one.
    pub connection_use: u32,
    /// Where the time went.
    pub delays: Delays,
    /// Digits behind the decimal point, at most (`delay-logging-resolution-limit`).
    pub digits: u32,
    /// The enhanced status code.
    pub status: Status,
    /// How it ended.
    pub ending: Ending,
    /// What the server said, or what happened.
    pub reason: String,
}

impl Record {
    /// How long it took in all, in seconds.
    #[must_use]
    pub fn delay(&self) -> String {
        seconds(self.delays.total(), self.digits)
    }

    /// Where the time went: `a/b/c/d`, in seconds.
    #[must_use]
    pub fn parts(&self) -> String {
        let Delays { queued, scheduled, connecting, transmitting } = self.delays;
        let parts = [queued, scheduled, connecting, transmitting].map(|part| seconds(part, self.digits));
        parts.join("/")
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to=<{}>", printable(&quoted(&self.to, true)))?;
        if !self.original_to.eq_ignore_ascii_case(&self.to) && !self.original_to.is_empty() {
            write!(f, ", orig_to=<{}>", printable(&quoted(&self.original_to, true)))?;
        }
        write!(f, ", relay={}", self.relay.as_deref().map_or("none".to_owned(), printable))?;
        if self.connection_use > 1 {
            write!(f, ", conn_use={}", self.connection_use)?;
        }
        write!(f, ", delay={}, delays={}", self.delay(), self.parts())?;
        write!(f, ", dsn={}, status={} ({})", self.status, self.ending, printable(&self.reason))
    }
}

/// The text in one line, without what could steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Seconds with two significant digits, and at most `digits` behind the point.
fn seconds(time: Duration, digits: u32) -> String {
    let digits = digits.min(6);
    let whole = time.as_secs();
    let wanted = match (whole, time.subsec_micros()) {
        (10.., _) => 0,
        (1.., _) => 1,
        (0, 100_000..) => 2,
        (0, 10_000..) => 3,
        (0, 1_000..) => 4,
        (0, 100..) => 5,
        (0, _) => 6,
    };
    let decimals = wanted.min(digits);
    // What is less than the last digit that may be shown is nothing.
    let unit = 1_000_000u32.checked_div(10u32.pow(decimals)).unwrap_or(1).max(1);
    let least = 1_000_000u32.checked_div(10u32.pow(digits)).unwrap_or(1).max(1);
    if whole == 0 && time.subsec_micros() < least {
        return "0".to_owned();
    }
    let rounded = time.saturating_add(Duration::from_micros(u64::from(unit / 2)));
    let (whole, part) = (rounded.as_secs(), rounded.subsec_micros().checked_div(unit).unwrap_or(0));
    if part == 0 || decimals == 0 {
        return whole.to_string();
    }
    let width = usize::try_from(decimals).unwrap_or(0);
    let text = format!("{whole}.{part:0width$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Specification section 16, number format.
    #[test]
    fn delays_have_two_significant_digits() {
        for (micros, digits, expected) in [
            (0, 2, "0"),
            (9_999, 2, "0"),
            (10_000, 2, "0.01"),
            (23_456, 2, "0.02"),
            (23_456, 3, "0.023"),
            (23_456, 0, "0"),
            (123_456, 2, "0.12"),
            (500_000, 2, "0.5"),
            (1_000_000, 2, "1"),
            (1_260_000, 2, "1.3"),
            (9_960_000, 2, "10"),
            (22_300_000, 2, "22"),
            (123_456_000, 2, "123"),
            (123_456_000, 6, "123"),
            (7, 6, "0.000007"),
            (700_000, 0, "0"),
            (1_600_000, 0, "2"),
        ] {
            assert_eq!(seconds(Duration::from_micros(micros), digits), expected, "{micros} {digits}");
        }
    }

    fn record() -> Record {
        Record {
            to: "a@rcpt4.test".to_owned(),
            original_to: "A@rcpt4.test".to_owned(),
            relay: Some("127.0.0.1[127.0.0.1]:2603".to_owned()),
            connection_use: 1,
            delays: Delays {
                queued: Duration::from_secs(22),
                scheduled: Duration::from_millis(20),
                ..Delays::default()
            },
            digits: 2,
            status: Status::transient(3, 0),
            ending: Ending::Deferred,
            reason: "host 127.0.0.1[127.0.0.1] said: 450 4.3.0 Error: command failed (in reply to RCPT TO command)"
                .to_owned(),
        }
    }

    // Specification section 16, the second of the examples that were seen.
    #[test]
    fn a_record_has_the_fields_of_postfix() {
        assert_eq!(
            record().to_string(),
            "to=<a@rcpt4.test>, relay=127.0.0.1[127.0.0.1]:2603, delay=22, delays=22/0.02/0/0, dsn=4.3.0, \
             status=deferred (host 127.0.0.1[127.0.0.1] said: 450 4.3.0 Error: command failed (in reply to RCPT TO command))"
        );
    }

    // Specification section 16: orig_to only if different, relay `none`, conn_use from 2 on.
    #[test]
    fn what_says_nothing_is_left_out() {
        let record = Record {
            to: "two words@b.test".to_owned(),
            original_to: "list@b.test".to_owned(),
            relay: None,
            connection_use: 2,
            status: Status::permanent(4, 4),
            ending: Ending::Bounced,
            reason: "one\r\n\u{1b}two".to_owned(),
            ..record()
        };
        assert_eq!(
            record.to_string(),
            "to=<\"two words\"@b.test>, orig_to=<list@b.test>, relay=none, conn_use=2, delay=22, delays=22/0.02/0/0, \
             dsn=5.4.4, status=bounced (one   two)"
        );
    }
}
