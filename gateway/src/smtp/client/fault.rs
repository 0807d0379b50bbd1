//! Whose fault it is that mail does not reach a server.

use super::{Failure, FailureKind, Report, Status};
use crate::smtp::fault::Fault;

impl Report {
    /// The fault that this tells of, if somebody should look at it.
    ///
    /// [`Fault::Protocol`] is what Postfix takes for it: a reply that is none there, and those that refuse a command itself
    /// (RFC 5321 section 4.2.1: x0z) or its parameters (555).
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        if self.status.is_success() {
            return None;
        }
        let code = self.diagnostic.as_deref().and_then(|said| said.get(..3)?.parse::<u16>().ok());
        match code {
            Some(code) if !(400..600).contains(&code) || (500..510).contains(&code) || code == 555 => {
                Some(Fault::Protocol)
            }
            Some(code) => lacks_resources(code, self.status).then_some(Fault::Resource),
            // Of the gateway's own making.
            None => match self.status.parts() {
                (5, _) => Some(Fault::Protocol),
                (3, 5) => Some(Fault::Software),
                (3, 0) => Some(Fault::Resource),
                _ => None,
            },
        }
    }
}

impl Failure {
    /// The fault that this tells of, if somebody should look at it: a password that is not taken is the operator's.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        let is_password = self.kind == FailureKind::Auth { credentials: true };
        if is_password { Some(Fault::Software) } else { self.report.fault() }
    }
}

/// Whether a server says that it lacks something, not that it does not want to (RFC 3463 sections 3.4 and 3.5).
fn lacks_resources(code: u16, status: Status) -> bool {
    match status.parts() {
        (3, 1 | 2) | (4, 5) => code / 100 == 4,
        (3, 0) => code == 421,
        // It says no more than its code does.
        (0, 0) => matches!(code, 421 | 452),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_tells_whose_fault_it_is() {
        for (said, fault) in [
            ("550 5.1.1 no such user", None),
            ("451 4.3.0 later", None),
            ("421 4.7.0 too many messages", None),
            ("450 4.2.2 mailbox full", None),
            ("421 4.3.2 overloaded", Some(Fault::Resource)),
            ("421 overloaded", Some(Fault::Resource)),
            ("452 4.3.1 disk full", Some(Fault::Resource)),
            ("552 5.3.4 too large", None),
            ("501 5.5.4 bad parameter", Some(Fault::Protocol)),
            ("555 5.5.4 unknown parameter", Some(Fault::Protocol)),
            ("535 5.7.8 wrong password", None),
            ("354 what", Some(Fault::Protocol)),
            ("250 2.1.5 out of place", Some(Fault::Protocol)),
        ] {
            let status = said.get(4..).and_then(Status::parse).filter(|status| !status.is_success());
            let status = status.unwrap_or(Status::transient(0, 0));
            let report = Report { diagnostic: Some(said.to_owned()), ..Report::new(status, "no") };
            assert_eq!(report.fault(), fault, "{said}");
        }
        let taken = Report { diagnostic: Some("250 ok".to_owned()), ..Report::new(Status::SENT, "ok") };
        assert_eq!(taken.fault(), None);
    }

    #[test]
    fn so_does_what_the_gateway_finds_by_itself() {
        for (status, fault) in [
            (Status::transient(5, 0), Some(Fault::Protocol)),
            (Status::transient(3, 5), Some(Fault::Software)),
            (Status::transient(3, 0), Some(Fault::Resource)),
            (Status::transient(4, 1), None),
            (Status::permanent(3, 4), None),
        ] {
            assert_eq!(Report::new(status, "no").fault(), fault, "{status}");
        }
    }
}
