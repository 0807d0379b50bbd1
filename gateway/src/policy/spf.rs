//! From what the Sender Policy Framework says to what is done with a message.

use std::net::IpAddr;

use crate::config::file::{OnTempError, Spf, SpfCheck};
use crate::outcome::{Spf as Found, SpfIdentity, SpfResult};
use crate::smtp::question::Ruling;
use crate::smtp::refusal::Refusal;

/// The address that is checked; none where nothing is. `upstream` is the gateway's own end of the
/// connection to the server.
#[must_use]
pub fn address(spf: &Spf, client: IpAddr, upstream: Option<IpAddr>) -> Option<IpAddr> {
    let address = match spf.check {
        SpfCheck::None => None,
        SpfCheck::Incoming => Some(client),
        SpfCheck::Outgoing => upstream,
        SpfCheck::Fixed => spf.fixed_address,
    };
    address.filter(|address| !spf.exempt.iter().any(|network| network.0.contains(address)))
}

/// Whose policy is asked, and the mailbox that stands for it (RFC 7208 section 2.4).
#[must_use]
pub fn identity(sender: &str, helo: &str) -> (SpfIdentity, String) {
    if sender.is_empty() {
        (SpfIdentity::Helo, format!("postmaster@{helo}"))
    } else {
        (SpfIdentity::MailFrom, sender.to_owned())
    }
}

/// What is ruled on a message of which this is found.
#[must_use]
pub fn rule(spf: &Spf, found: &Found) -> Ruling {
    match found.result {
        _ if spf.log_only => Ruling::Pass,
        SpfResult::Fail => {
            let Found { domain, address, explanation, .. } = found.clone();
            Ruling::Refuse(Refusal::SpfFail { domain, address, explanation })
        }
        SpfResult::TempError => without_answer(spf),
        SpfResult::None
        | SpfResult::Neutral
        | SpfResult::Pass
        | SpfResult::SoftFail
        | SpfResult::PermError => Ruling::Pass,
    }
}

/// What is ruled on a message of which nothing can be found now.
#[must_use]
pub const fn without_answer(spf: &Spf) -> Ruling {
    match spf.on_temperror {
        OnTempError::Tempfail if !spf.log_only => Ruling::Refuse(Refusal::SpfTempError),
        OnTempError::Tempfail | OnTempError::Pass => Ruling::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn spf(rules: &str) -> Spf {
        let text = format!(
            "origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\nspf: {{{rules}}}\n"
        );
        config::parse(&text, "test").unwrap().spf
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn found(result: SpfResult) -> Found {
        let (identity, domain) = (SpfIdentity::MailFrom, "a.example".to_owned());
        Found { result, identity, domain, address: ip("192.0.2.1"), problem: None, explanation: None }
    }

    #[test]
    fn only_fail_refuses_and_log_only_refuses_nothing() {
        let (domain, address) = ("a.example".to_owned(), ip("192.0.2.1"));
        let refused = Ruling::Refuse(Refusal::SpfFail { domain, address, explanation: None });
        let (strict, lenient) = (spf("check: incoming"), spf("check: incoming, log-only: true"));
        for result in SpfResult::ALL {
            let ruling = rule(&strict, &found(result));
            assert_eq!(ruling, if result == SpfResult::Fail { refused.clone() } else { Ruling::Pass });
            assert_eq!(rule(&lenient, &found(result)), Ruling::Pass);
        }
    }

    #[test]
    fn without_an_answer_of_the_dns_the_configuration_decides() {
        let later = spf("check: incoming, on-temperror: tempfail");
        let ruling = rule(&later, &found(SpfResult::TempError));
        assert_eq!(ruling, Ruling::Refuse(Refusal::SpfTempError));
        assert!(Refusal::SpfTempError.is_temporary());
    }

    #[test]
    fn the_address_is_the_one_of_the_configuration_and_exempt_ones_are_not_checked() {
        let (client, upstream) = (ip("192.0.2.1"), Some(ip("198.51.100.9")));
        let of = |rules: &str| address(&spf(rules), client, upstream);
        assert_eq!(of("check: none"), None);
        assert_eq!(of("check: incoming"), Some(client));
        assert_eq!(of("check: incoming, exempt: [192.0.2.0/24]"), None);
        assert_eq!(of("check: outgoing"), upstream);
        assert_eq!(of("check: outgoing, exempt: [192.0.2.0/24]"), upstream);
        assert_eq!(of("check: fixed, fixed-address: 203.0.113.4"), Some(ip("203.0.113.4")));
        assert_eq!(address(&spf("check: incoming"), ip("10.1.2.3"), upstream), None);
    }

    #[test]
    fn a_bounce_is_checked_by_its_helo_name() {
        assert_eq!(identity("", "mx.example"), (SpfIdentity::Helo, "postmaster@mx.example".to_owned()));
        assert_eq!(identity("a@b.example", "mx"), (SpfIdentity::MailFrom, "a@b.example".to_owned()));
    }
}
