//! Who is told what became of mail, and by whom (specification of the delivery client, section 18).

use super::dsn::Action;
use crate::config::file::delivery::NotifyClass;
use crate::queue::NotifyOn;
use crate::smtp::client::Protocol;

/// Who is told that mail could not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// Its sender, and the postmaster if `postmaster` is set.
    ToSender {
        /// The postmaster gets the header of a copy.
        postmaster: bool,
    },
    /// It was a report: the postmaster.
    ToPostmaster,
    /// It was a report that nobody wants to hear of, or one to the postmaster: nobody.
    Nowhere,
}

/// Who is told that mail from `sender` could not be delivered. `double_bounce` is the sender of what the
/// postmaster is told: no report on a report goes on for ever.
#[must_use]
pub fn returned(sender: &str, double_bounce: &str, classes: &[NotifyClass]) -> Returned {
    let has = |class| classes.contains(&class);
    if sender.eq_ignore_ascii_case(double_bounce) {
        Returned::Nowhere
    } else if !sender.is_empty() {
        Returned::ToSender { postmaster: has(NotifyClass::Bounce) }
    } else if has(NotifyClass::DoubleBounce) || has(NotifyClass::Bounce) {
        Returned::ToPostmaster
    } else {
        Returned::Nowhere
    }
}

/// What a sender who asked for it is told of a delivery; `None`: nothing.
///
/// Nothing is told where the server reports by itself (RFC 3461 section 5.2.2). `assume_final`: LMTP servers have
/// mailboxes.
#[must_use]
pub fn success(
    notify: Option<NotifyOn>,
    server_reports: bool,
    protocol: Protocol,
    assume_final: bool,
) -> Option<Action> {
    let is_asked = notify.is_some_and(|notify| notify.success);
    if !is_asked || server_reports {
        return None;
    }
    let is_final = protocol == Protocol::Lmtp && assume_final;
    Some(if is_final { Action::Delivered } else { Action::Relayed })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOUBLE: &str = "double-bounce@gw.test";

    // Specification section 18: no triple bounce.
    #[test]
    fn nobody_is_told_of_a_report_on_a_report() {
        use NotifyClass::{Bounce, DoubleBounce, Software};
        for (sender, classes, expected) in [
            ("a@b.test", &[Software][..], Returned::ToSender { postmaster: false }),
            ("a@b.test", &[Bounce], Returned::ToSender { postmaster: true }),
            ("a@b.test", &[DoubleBounce], Returned::ToSender { postmaster: false }),
            ("", &[Software], Returned::Nowhere),
            ("", &[Bounce], Returned::ToPostmaster),
            ("", &[DoubleBounce], Returned::ToPostmaster),
            ("Double-Bounce@gw.test", &[Bounce, DoubleBounce], Returned::Nowhere),
        ] {
            assert_eq!(returned(sender, DOUBLE, classes), expected, "{sender} {classes:?}");
        }
    }

    // Specification section 11, SUCCESS notifications, and `lmtp-assume-final`.
    #[test]
    fn success_is_told_where_the_server_does_not() {
        let asked = Some(NotifyOn { success: true, failure: false, delay: false });
        for (notify, server_reports, protocol, assume_final, expected) in [
            (None, false, Protocol::Smtp, false, None),
            (Some(NotifyOn::NEVER), false, Protocol::Smtp, false, None),
            (asked, true, Protocol::Smtp, false, None),
            (asked, false, Protocol::Smtp, true, Some(Action::Relayed)),
            (asked, false, Protocol::Lmtp, false, Some(Action::Relayed)),
            (asked, false, Protocol::Lmtp, true, Some(Action::Delivered)),
        ] {
            let found = success(notify, server_reports, protocol, assume_final);
            assert_eq!(found, expected, "{notify:?} {server_reports} {protocol:?} {assume_final}");
        }
    }
}
