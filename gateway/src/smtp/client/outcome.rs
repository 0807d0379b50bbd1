//! What a reply, or the lack of one, means for a recipient.

use super::wire::Wire;
use super::{Outcome, Report, Rules, Stage, Status};
use crate::smtp::reply::Reply;

/// X.5.0: the server does not keep to the protocol.
const PROTOCOL_ERROR: Status = Status::permanent(5, 0);

impl Rules {
    /// What becomes of a recipient for whom `report` is the last word, by the operator's filter and
    /// `soft-bounce`. The filter makes no failure of a success, and no success of a failure.
    #[must_use]
    pub fn outcome(&self, report: Report) -> Outcome {
        let report = self.filtered(report);
        if report.status.is_success() {
            Outcome::Sent(report)
        } else if report.status.is_permanent() && !self.soft_bounce {
            Outcome::Bounced(report)
        } else {
            Outcome::Deferred(Report { status: report.status.softened(), ..report })
        }
    }

    fn filtered(&self, report: Report) -> Report {
        if self.status_filter.is_empty() {
            return report;
        }
        let text = format!("{} {}", report.status, report.reason);
        let Some(filtered) = self.status_filter.text(&text) else { return report };
        let Some(status) = Status::parse(&filtered) else { return report };
        if status.is_success() != report.status.is_success() {
            return report;
        }
        let reason = filtered.split_once(' ').map_or("", |(_, reason)| reason).to_owned();
        Report { status, reason, ..report }
    }
}

impl Report {
    /// A failure that no reply tells of.
    #[must_use]
    pub fn new(status: Status, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), diagnostic: None, elsewhere: !status.is_permanent() }
    }

    /// 4.`subject`.`detail`, of which no reply tells.
    #[must_use]
    pub fn transient(subject: u16, detail: u16, reason: impl Into<String>) -> Self {
        Self::new(Status::transient(subject, detail), reason)
    }

    /// 5.`subject`.`detail`, of which no reply tells.
    #[must_use]
    pub fn permanent(subject: u16, detail: u16, reason: impl Into<String>) -> Self {
        Self::new(Status::permanent(subject, detail), reason)
    }

    /// The same failure as a transient one, which another server may not have.
    #[must_use]
    pub fn softened(self) -> Self {
        if self.status.is_success() {
            self
        } else {
            Self { status: self.status.softened(), elsewhere: true, ..self }
        }
    }

    /// The worse of two for those who wait: while one of them may pass, nothing is lost for good.
    #[must_use]
    pub fn or_temporary(self, other: Self) -> Self {
        if self.status.is_permanent() && !other.status.is_permanent() { other } else { self }
    }

    /// The server has taken it.
    pub(super) fn taken(reply: &Reply) -> Self {
        let text = text(reply);
        let status = Status::of_reply(reply).unwrap_or(Status::SENT);
        Self { status, reason: text.clone(), diagnostic: Some(text), elsewhere: false }
    }
}

impl Wire {
    /// The server has refused what was sent in `stage`.
    pub(super) fn refused(&self, reply: &Reply, stage: Stage) -> Report {
        let text = text(reply);
        let failure = Status::of_reply(reply).filter(|status| !status.is_success());
        let command = stage.command(self.rules.protocol);
        let said = format!("host {} said: {text} (in reply to {command} command)", self.terms.peer.host());
        let reason = if failure.is_some() { said } else { format!("Protocol error: {said}") };
        let status = failure.unwrap_or(PROTOCOL_ERROR);
        Report { status, reason, diagnostic: Some(text), elsewhere: !status.is_permanent() }
    }

    /// The server does not want to speak at all.
    pub(super) fn unwelcome(&self, reply: &Reply) -> Report {
        let text = text(reply);
        let failure = Status::of_reply(reply).filter(|status| !status.is_success());
        let said = format!("host {} refused to talk to me: {text}", self.terms.peer.host());
        let reason = if failure.is_some() { said } else { format!("Protocol error: {said}") };
        let status = failure.unwrap_or(PROTOCOL_ERROR);
        Report { status, reason, diagnostic: Some(text), elsewhere: !status.is_permanent() }
    }
}

/// A reply in one line, as records show it.
pub(super) fn text(reply: &Reply) -> String {
    let last = reply.lines().len().saturating_sub(1);
    let lines = reply.lines().iter().enumerate().map(|(number, line)| {
        let separator = if number == last { ' ' } else { '-' };
        format!("{}{separator}{}", reply.code(), String::from_utf8_lossy(line)).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::clock;
    use crate::smtp::client::TlsLevel;
    use crate::smtp::client::tests::{rules, terms};
    use crate::table::{Maps, TableSpec};

    fn wire() -> Wire {
        Wire::new(Arc::new(rules()), terms(TlsLevel::None), clock::now())
    }

    #[test]
    fn a_reply_decides_by_its_class_and_an_unfit_one_is_a_protocol_error() {
        for (code, text, expected) in [
            (250, "2.1.5 ok", "Protocol error"),
            (354, "go on", "Protocol error"),
            (450, "4.3.0 later", "4.3.0 transient"),
            (421, "bye", "4.0.0 transient"),
            (550, "5.1.1 no such user", "5.1.1 permanent"),
            (552, "mailbox full", "5.0.0 permanent"),
            (554, "4.7.1 contradiction", "5.0.0 permanent"),
        ] {
            let report = wire().refused(&Reply::new(code, text), Stage::Rcpt);
            let is = match rules().outcome(report.clone()) {
                Outcome::Sent(_) => "sent".to_owned(),
                Outcome::Deferred(report) => format!("{} transient", report.status),
                Outcome::Bounced(report) if report.reason.starts_with("Protocol error: host ") => {
                    assert_eq!(report.status.to_string(), "5.5.0");
                    "Protocol error".to_owned()
                }
                Outcome::Bounced(report) => format!("{} permanent", report.status),
            };
            assert_eq!(is, expected, "{code} {text}");
        }
    }

    #[test]
    fn a_reason_is_worded_as_postmasters_know_it() {
        let lines = ["5.1.1 no", "5.1.1 really"].map(|line| Bytes::from_static(line.as_bytes())).to_vec();
        let report = wire().refused(&Reply::with_lines(550, lines), Stage::Rcpt);
        assert_eq!(
            report.reason,
            "host mx.test[192.0.2.1] said: 550-5.1.1 no 550 5.1.1 really (in reply to RCPT TO command)"
        );
        assert_eq!(report.diagnostic.as_deref(), Some("550-5.1.1 no 550 5.1.1 really"));
    }

    #[test]
    fn the_filter_softens_and_hardens_but_makes_no_success() {
        let filter = |pattern: &str, to: &str| {
            let table: TableSpec = format!("pcre:{{ {{/{pattern}/ {to}}} }}").parse().unwrap();
            Rules { status_filter: Maps::new(vec![table.table("").unwrap()]), ..rules() }
        };
        let report = || Report::new(Status::permanent(1, 1), "no such user");
        let Outcome::Deferred(soft) = filter(r"^5(\.1\.1 .*)$", "4$1").outcome(report()) else { panic!() };
        assert_eq!((soft.status, soft.reason.as_str()), (Status::transient(1, 1), "no such user"));
        assert_eq!(filter("^5.*$", "2.0.0 fine").outcome(report()), Outcome::Bounced(report()));
        assert_eq!(filter("^5.*$", "nonsense").outcome(report()), Outcome::Bounced(report()));
    }

    #[test]
    fn soft_bounce_returns_no_mail() {
        let rules = Rules { soft_bounce: true, ..rules() };
        let outcome = rules.outcome(Report::new(Status::permanent(1, 1), "no"));
        assert!(matches!(outcome, Outcome::Deferred(report) if report.status == Status::transient(1, 1)));
    }
}
