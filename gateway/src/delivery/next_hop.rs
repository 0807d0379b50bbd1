//! Where a recipient's mail goes first: the mail's own target, or the recipient's domain.
//!
//! Owns which recipients share a delivery. Pure.

use std::fmt;
use std::net::SocketAddr;

use super::destination::{Destination, DestinationError};
use crate::queue::Target;
use crate::smtp::client::{Protocol, Report};

/// Where mail is brought, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The protocol that is spoken there.
    pub protocol: Protocol,
    /// Destinations that are tried one behind the other.
    pub destinations: Vec<Destination>,
    /// It is the operator's choice, and not what the recipient's domain says.
    pub relay: bool,
}

impl NextHop {
    /// Reads an operator's choice: destinations between commas or blanks, `lmtp:` before them where LMTP is spoken.
    /// `unix:/path` is LMTP without saying so.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        let text = text.trim();
        let (protocol, list) = match text.split_once(':') {
            Some(("lmtp", list)) => (Protocol::Lmtp, list),
            Some(("unix", _)) => (Protocol::Lmtp, text),
            _ => (Protocol::Smtp, text.strip_prefix("smtp:").unwrap_or(text)),
        };
        let destinations = Destination::parse_list(list, protocol)?;
        if destinations.is_empty() {
            return Err(DestinationError::Empty);
        }
        Ok(Self { protocol, destinations, relay: true })
    }

    /// Where the mail of a recipient goes; one without a domain is of this host, `name`.
    ///
    /// # Errors
    ///
    /// It cannot go anywhere.
    pub fn of(target: &Target, recipient: &str, name: &str) -> Result<Self, Report> {
        match target {
            Target::Mx => Self::of_domain(recipient, name),
            Target::Relay(text) => Self::parse(text).map_err(|error| {
                Report::transient(3, 5, format!("the relay of this mail is not usable: {error}"))
            }),
            Target::Original(address) => Ok(Self::of_server(*address)),
        }
    }

    fn of_server(address: SocketAddr) -> Self {
        let destinations = vec![Destination::Address(address)];
        Self { protocol: Protocol::Smtp, destinations, relay: false }
    }

    fn of_domain(recipient: &str, name: &str) -> Result<Self, Report> {
        let domain = recipient.rsplit_once('@').map_or(name, |(_, domain)| domain);
        let unusable =
            || Report::permanent(1, 3, format!("`{domain}` is no domain that mail can be sent to"));
        // Only in brackets a colon belongs to it.
        if domain.contains(':') && !domain.starts_with('[') {
            return Err(unusable());
        }
        let destination = Destination::parse(domain, Protocol::Smtp).map_err(|_| unusable())?;
        Ok(Self { protocol: Protocol::Smtp, destinations: vec![destination], relay: false })
    }
}

impl fmt::Display for NextHop {
    /// As [`NextHop::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protocol == Protocol::Lmtp {
            f.write_str("lmtp:")?;
        }
        for (number, destination) in self.destinations.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            destination.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(target: &Target, recipient: &str) -> String {
        match NextHop::of(target, recipient, "gw.test") {
            Ok(hop) => format!("{hop} {}", if hop.relay { "relay" } else { "own" }),
            Err(report) => report.status.to_string(),
        }
    }

    #[test]
    fn mail_goes_where_its_target_says() {
        let relay = |text: &str| Target::Relay(text.to_owned());
        for (target, recipient, expected) in [
            (Target::Mx, "a@B.test", "b.test own"),
            (Target::Mx, "\"a@b\"@c.test", "c.test own"),
            (Target::Mx, "a@[192.0.2.1]", "[192.0.2.1] own"),
            (Target::Mx, "a@[IPv6:2001:db8::1]", "[ipv6:2001:db8::1] own"),
            (Target::Mx, "postmaster", "gw.test own"),
            (Target::Mx, "a@b..test", "5.1.3"),
            (Target::Mx, "a@b.test:25", "5.1.3"),
            (Target::Mx, "a@", "5.1.3"),
            (Target::Original("192.0.2.9:2525".parse().unwrap()), "a@b.test", "[192.0.2.9]:2525 own"),
            (relay("[mail.test]:587"), "a@b.test", "[mail.test]:587 relay"),
            (relay("smtp:c.test, d.test"), "a@b.test", "c.test,d.test relay"),
            (relay("lmtp:inet:d.test"), "a@b.test", "lmtp:[d.test]:24 relay"),
            (relay("lmtp:unix:/run/lmtp"), "a@b.test", "lmtp:unix:/run/lmtp relay"),
            (relay("unix:/run/lmtp"), "a@b.test", "lmtp:unix:/run/lmtp relay"),
            (relay(" "), "a@b.test", "4.3.5"),
            (relay("a b:x"), "a@b.test", "4.3.5"),
        ] {
            assert_eq!(shown(&target, recipient), expected, "{target:?} {recipient}");
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for text in ["lmtp:unix:/run/lmtp", "lmtp:[d.test]:24", "c.test,[d.test]:587", "[192.0.2.1]"] {
            assert_eq!(NextHop::parse(text).map(|hop| hop.to_string()), Ok(text.to_owned()));
        }
    }
}
