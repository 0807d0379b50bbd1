//! The syntax of destinations, as next hops, relays and fallback relays are written.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr as _;

use crate::smtp::client::Protocol;

/// The port of SMTP.
pub const SMTP_PORT: u16 = 25;
/// The port of LMTP, which has none of its own in the registry.
pub const LMTP_PORT: u16 = 24;

/// Services that have names; others are written as numbers.
const SERVICES: &[(&str, u16)] =
    &[("smtp", SMTP_PORT), ("lmtp", LMTP_PORT), ("smtps", 465), ("submissions", 465), ("submission", 587)];

/// Longest path that the address of a UNIX socket can hold, its NUL not counted.
const LONGEST_PATH: usize = 107;

/// Where mail is brought.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// `domain`, `domain:service`: to the mail exchangers of a domain.
    Domain {
        /// The domain, in A-labels.
        domain: String,
        /// Their port.
        port: u16,
    },
    /// `[host]`, `[host]:service`: to the addresses of a host.
    Host {
        /// Its name, in A-labels.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `[192.0.2.1]`, `[ipv6:2001:db8::1]:service`: to an address.
    Address(SocketAddr),
    /// `unix:/path`: to a UNIX socket; LMTP only.
    Unix(PathBuf),
}

/// What cannot be a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// There is nothing.
    #[error("a destination is missing; write for example `example.com` or `[mail.example.com]:587`")]
    Empty,
    /// `[` without `]`, or something else than a service behind it.
    #[error("`{0}` is no destination; write `[host]`, or `[host]:service`")]
    Brackets(String),
    /// Not a host name and not an address.
    #[error("`{0}` is no host name; write IPv6 addresses as `[ipv6:2001:db8::1]`")]
    Host(String),
    /// Not a port, nor a known service.
    #[error("`{0}` is no service; write a port from 1 to 65535, smtp, submission, submissions or lmtp")]
    Service(String),
    /// Not an absolute path, or too long for a socket.
    #[error("`{0}` is no path of a socket; write an absolute path of at most {LONGEST_PATH} octets")]
    Path(String),
}

impl Destination {
    /// Reads a destination. SMTP looks for mail exchangers where a domain is not in brackets; LMTP
    /// never does, and also takes `unix:/path` and `inet:` before any of the others.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str, protocol: Protocol) -> Result<Self, DestinationError> {
        let text = text.trim();
        match protocol {
            Protocol::Smtp => Self::inet(text, SMTP_PORT, true),
            Protocol::Lmtp => match text.split_once(':') {
                Some(("unix", path)) => socket(path),
                Some(("inet", rest)) => Self::inet(rest, LMTP_PORT, false),
                _ => Self::inet(text, LMTP_PORT, false),
            },
        }
    }

    /// Reads a list, whose members stand between commas and blanks.
    ///
    /// # Errors
    ///
    /// What is wrong with the first wrong one.
    pub fn parse_list(text: &str, protocol: Protocol) -> Result<Vec<Self>, DestinationError> {
        let members = text.split([',', ' ', '\t', '\r', '\n']).filter(|member| !member.is_empty());
        members.map(|member| Self::parse(member, protocol)).collect()
    }

    /// The port; `None` for a UNIX socket.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Domain { port, .. } | Self::Host { port, .. } => Some(*port),
            Self::Address(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }

    /// Its name without brackets and port, as certificates have it; of a UNIX socket, its path.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Domain { domain: name, .. } | Self::Host { host: name, .. } => name.clone(),
            Self::Address(address) => address.ip().to_string(),
            Self::Unix(path) => path.display().to_string(),
        }
    }

    /// Its keys in tables of destinations, the most special first: itself as it would be written for that
    /// protocol, with the port only where it is not the protocol's own and then with it in any case, and behind
    /// a plain domain its parents, with a dot before them.
    #[must_use]
    pub fn table_keys(&self, protocol: Protocol) -> Vec<String> {
        let own = match protocol {
            Protocol::Smtp => SMTP_PORT,
            Protocol::Lmtp => LMTP_PORT,
        };
        let written = |port: &str| match self {
            Self::Domain { domain, .. } => format!("{domain}{port}"),
            // LMTP has no brackets where a host is no address.
            Self::Host { host, .. } if protocol == Protocol::Lmtp => format!("{host}{port}"),
            Self::Host { host, .. } => format!("[{host}]{port}"),
            Self::Address(SocketAddr::V4(address)) => format!("[{}]{port}", address.ip()),
            Self::Address(SocketAddr::V6(address)) => format!("[ipv6:{}]{port}", address.ip()),
            Self::Unix(path) => path.display().to_string(),
        };
        let Some(port) = self.port() else { return vec![written("")] };
        let with_port = written(&format!(":{port}"));
        if port != own {
            return vec![with_port];
        }
        let mut keys = vec![written(""), with_port];
        if let Self::Domain { domain, .. } = self {
            let parents = domain.match_indices('.').filter_map(|(at, _)| domain.get(at..));
            keys.extend(parents.map(str::to_owned));
        }
        keys
    }

    fn inet(text: &str, default: u16, mx: bool) -> Result<Self, DestinationError> {
        if text.is_empty() {
            return Err(DestinationError::Empty);
        }
        let Some(inside) = text.strip_prefix('[') else {
            let (host, service) = text.rsplit_once(':').unwrap_or((text, ""));
            let port = port(service, default)?;
            if let Ok(address) = host.parse::<IpAddr>() {
                return Ok(Self::Address(SocketAddr::new(address, port)));
            }
            let host = host_name(host)?;
            return Ok(if mx { Self::Domain { domain: host, port } } else { Self::Host { host, port } });
        };
        let brackets = || DestinationError::Brackets(text.to_owned());
        let (host, rest) = inside.split_once(']').ok_or_else(brackets)?;
        let service = match rest.strip_prefix(':') {
            Some(service) => service,
            None if rest.is_empty() => "",
            None => return Err(brackets()),
        };
        let port = port(service, default)?;
        if let Some(address) = strip_ipv6(host) {
            let address = std::net::Ipv6Addr::from_str(address);
            let address = address.map_err(|_| DestinationError::Host(host.to_owned()))?;
            return Ok(Self::Address(SocketAddr::new(address.into(), port)));
        }
        match host.parse::<IpAddr>() {
            Ok(address) => Ok(Self::Address(SocketAddr::new(address, port))),
            Err(_) => Ok(Self::Host { host: host_name(host)?, port }),
        }
    }
}

impl fmt::Display for Destination {
    /// As it would be written; a port that is SMTP's own is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain { domain, .. } => f.write_str(domain)?,
            Self::Host { host, .. } => write!(f, "[{host}]")?,
            Self::Address(SocketAddr::V4(address)) => write!(f, "[{}]", address.ip())?,
            Self::Address(SocketAddr::V6(address)) => write!(f, "[ipv6:{}]", address.ip())?,
            Self::Unix(path) => write!(f, "unix:{}", path.display())?,
        }
        match self.port() {
            None | Some(SMTP_PORT) => Ok(()),
            Some(port) => write!(f, ":{port}"),
        }
    }
}

/// What follows `ipv6:`, in any case.
fn strip_ipv6(host: &str) -> Option<&str> {
    let (prefix, rest) = host.split_at_checked(5)?;
    prefix.eq_ignore_ascii_case("ipv6:").then_some(rest)
}

fn port(service: &str, default: u16) -> Result<u16, DestinationError> {
    if service.is_empty() {
        return Ok(default);
    }
    let named = SERVICES.iter().find(|(name, _)| name.eq_ignore_ascii_case(service));
    let numbered =
        || service.bytes().all(|octet| octet.is_ascii_digit()).then(|| service.parse().ok()).flatten();
    let port = named.map(|(_, port)| *port).or_else(numbered).filter(|port| *port != 0);
    port.ok_or_else(|| DestinationError::Service(service.to_owned()))
}

/// A host name as the DNS takes it (RFC 5890): lower case, A-labels, no dot at its end.
pub(crate) fn host_name(text: &str) -> Result<String, DestinationError> {
    let bad = || DestinationError::Host(text.to_owned());
    let name = text.strip_suffix('.').unwrap_or(text);
    let name = idna::domain_to_ascii(name).map_err(|_| bad())?;
    let is_label = |label: &str| {
        matches!(label.len(), 1..=63)
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(bad());
    }
    Ok(name)
}

fn socket(path: &str) -> Result<Destination, DestinationError> {
    if !path.starts_with('/') || path.len() > LONGEST_PATH || path.contains('\0') {
        return Err(DestinationError::Path(path.to_owned()));
    }
    Ok(Destination::Unix(path.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn smtp(text: &str) -> Result<String, DestinationError> {
        Destination::parse(text, Protocol::Smtp).map(|destination| format!("{destination:?}"))
    }

    fn domain(domain: &str, port: u16) -> Destination {
        Destination::Domain { domain: domain.to_owned(), port }
    }

    fn host(host: &str, port: u16) -> Destination {
        Destination::Host { host: host.to_owned(), port }
    }

    fn address(text: &str) -> Destination {
        Destination::Address(text.parse().unwrap())
    }

    // Specification section 2.
    #[test]
    fn smtp_destinations() {
        for (text, expected) in [
            ("example.com", domain("example.com", 25)),
            ("Example.COM.", domain("example.com", 25)),
            ("example.com:", domain("example.com", 25)),
            ("example.com:submission", domain("example.com", 587)),
            ("example.com:2525", domain("example.com", 2525)),
            ("bücher.example", domain("xn--bcher-kva.example", 25)),
            ("[mail.example.com]", host("mail.example.com", 25)),
            ("[mail.example.com]:smtps", host("mail.example.com", 465)),
            ("[192.0.2.1]", address("192.0.2.1:25")),
            ("[192.0.2.1]:26", address("192.0.2.1:26")),
            ("192.0.2.1:26", address("192.0.2.1:26")),
            ("[ipv6:2001:db8::1]", address("[2001:db8::1]:25")),
            ("[IPv6:2001:db8::1]:LMTP", address("[2001:db8::1]:24")),
            ("[2001:db8::1]:26", address("[2001:db8::1]:26")),
        ] {
            assert_eq!(Destination::parse(text, Protocol::Smtp), Ok(expected), "{text}");
        }
    }

    // Specification section 2: SMTP never interprets `unix:` and `inet:`; LMTP has no MX look-ups.
    #[test]
    fn lmtp_destinations() {
        for (text, expected) in [
            ("unix:/run/lmtp", Destination::Unix("/run/lmtp".into())),
            ("inet:mail.example.com", host("mail.example.com", 24)),
            ("inet:mail.example.com:smtp", host("mail.example.com", 25)),
            ("inet:[192.0.2.1]:2424", address("192.0.2.1:2424")),
            ("mail.example.com", host("mail.example.com", 24)),
        ] {
            assert_eq!(Destination::parse(text, Protocol::Lmtp), Ok(expected), "{text}");
        }
        assert_eq!(smtp("unix:/run/lmtp"), Err(DestinationError::Service("/run/lmtp".to_owned())));
        for text in ["unix:lmtp", "unix:", &format!("unix:/{}", "a".repeat(107))] {
            let error = Destination::parse(text, Protocol::Lmtp);
            assert!(matches!(error, Err(DestinationError::Path(_))), "{text}");
        }
    }

    // Specification section 2.
    #[test]
    fn what_is_no_destination_is_told() {
        let host = |text: &str| Err(DestinationError::Host(text.to_owned()));
        let service = |text: &str| Err(DestinationError::Service(text.to_owned()));
        let brackets = |text: &str| Err(DestinationError::Brackets(text.to_owned()));
        for (text, expected) in [
            ("", Err(DestinationError::Empty)),
            (":25", host("")),
            ("[]", host("")),
            ("[a.test", brackets("[a.test")),
            ("[a.test]25", brackets("[a.test]25")),
            ("[a.test]:25x", service("25x")),
            ("a.test:0", service("0")),
            ("a.test:65536", service("65536")),
            ("a.test:+25", service("+25")),
            ("a.test:gopher", service("gopher")),
            ("[ipv6:2001:db8::g]", host("ipv6:2001:db8::g")),
            ("[ipv6:192.0.2.1]", host("ipv6:192.0.2.1")),
            ("a..test", host("a..test")),
            ("2001:db8::1", host("2001:db8:")),
            ("user@a.test", host("user@a.test")),
        ] {
            assert_eq!(smtp(text), expected, "{text}");
        }
    }

    // Specification section 7.3.
    #[test]
    fn only_a_plain_domain_is_found_by_its_parents() {
        for (protocol, text, expected) in [
            (Protocol::Smtp, "a.b.test", &["a.b.test", "a.b.test:25", ".b.test", ".test"][..]),
            (Protocol::Smtp, "a.b.test:587", &["a.b.test:587"]),
            (Protocol::Smtp, "[a.b.test]:25", &["[a.b.test]", "[a.b.test]:25"]),
            (Protocol::Smtp, "[192.0.2.1]:26", &["[192.0.2.1]:26"]),
            (Protocol::Smtp, "[2001:db8::1]", &["[ipv6:2001:db8::1]", "[ipv6:2001:db8::1]:25"]),
            (Protocol::Lmtp, "inet:a.b.test", &["a.b.test", "a.b.test:24"]),
            (Protocol::Lmtp, "inet:a.b.test:25", &["a.b.test:25"]),
            (Protocol::Lmtp, "unix:/run/lmtp", &["/run/lmtp"]),
        ] {
            assert_eq!(Destination::parse(text, protocol).unwrap().table_keys(protocol), expected, "{text}");
        }
    }

    // Specification section 2: a list is tried from left to right.
    #[test]
    fn a_list_has_commas_or_blanks() {
        let list = Destination::parse_list(" a.test,[b.test]:26  c.test,", Protocol::Smtp).unwrap();
        assert_eq!(list, [domain("a.test", 25), host("b.test", 26), domain("c.test", 25)]);
        assert_eq!(Destination::parse_list(" ", Protocol::Smtp), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(text in "[a-z0-9.:\\[\\]/-]{1,24}|\\[ipv6:[0-9a-f:]{2,20}\\](:[0-9]{1,5})?") {
            if let Ok(destination) = Destination::parse(&text, Protocol::Smtp) {
                prop_assert_eq!(Destination::parse(&destination.to_string(), Protocol::Smtp), Ok(destination));
            }
        }
    }
}
