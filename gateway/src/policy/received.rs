//! The Received field on top of a message that the gateway takes (RFC 5321 section 4.4).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::smtp::server::TlsSession;

/// What the field tells.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// The client's HELO or EHLO name: a stranger's text.
    pub helo: &'a str,
    /// Its address.
    pub address: IpAddr,
    /// Its name in the DNS, where one is told.
    pub name: Option<&'a str>,
    /// The gateway's name.
    pub gateway: &'a str,
    /// The protocol (RFC 3848).
    pub protocol: &'a str,
    /// TLS, where the message came under it.
    pub tls: Option<&'a TlsSession>,
    /// The message's name in the gateway's records.
    pub id: &'a str,
    /// The recipient; none where there are several, of whom one must not learn of the others (RFC 5321
    /// section 7.2).
    pub recipient: Option<&'a str>,
    /// When it came.
    pub time: SystemTime,
}

/// The field with its line ends.
#[must_use]
pub fn received(trace: &Trace<'_>) -> String {
    let address = match trace.address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    let client = match trace.name {
        Some(name) => format!("{} {address}", word(name)),
        None => address,
    };
    let mut text = format!(
        "Received: from {} ({client})\r\n\tby {} with {} id {}",
        word(trace.helo),
        trace.gateway,
        trace.protocol,
        trace.id
    );
    // Writing to a string cannot fail.
    if let Some(recipient) = trace.recipient.filter(|recipient| is_plain(recipient)) {
        write!(text, "\r\n\tfor <{recipient}>").unwrap_or_default();
    }
    if let Some(tls) = trace.tls.filter(|tls| !tls.suite.is_empty()) {
        // RFC 8314 section 4.3.
        write!(text, "\r\n\ttls {}", word(&tls.suite)).unwrap_or_default();
    }
    let time = Timestamp::try_from(trace.time).unwrap_or_default().to_zoned(TimeZone::UTC);
    let date = jiff::fmt::rfc2822::to_string(&time).unwrap_or_default();
    write!(text, ";\r\n\t{date}\r\n").unwrap_or_default();
    text
}

/// A stranger's word, so that it stays one.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let text: String = text.chars().take(255).map(|c| if plain(c) { c } else { '?' }).collect();
    if text.is_empty() { "unknown".to_owned() } else { text }
}

/// Whether an address can stand in the field as it is.
fn is_plain(address: &str) -> bool {
    address.len() <= 256 && address.chars().all(|c| c.is_ascii_graphic() && !"<>()\"\\;,".contains(c))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn trace<'a>(helo: &'a str, recipient: Option<&'a str>) -> Trace<'a> {
        Trace {
            helo,
            address: "192.0.2.1".parse().unwrap(),
            name: None,
            gateway: "gw.test",
            protocol: "ESMTP",
            tls: None,
            id: "0123-1",
            recipient,
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        }
    }

    #[test]
    fn the_field_tells_who_brought_the_message_and_how() {
        assert_eq!(
            received(&trace("client.test", Some("r@b.test"))),
            "Received: from client.test ([192.0.2.1])\r\n\tby gw.test with ESMTP id 0123-1\r\n\
             \tfor <r@b.test>;\r\n\tFri, 15 Jan 2027 08:00:00 +0000\r\n"
        );
        let tls = TlsSession { version: "TLSv1.3".into(), suite: "TLS_AES_256_GCM_SHA384".into() };
        let secured = Trace {
            address: "2001:db8::1".parse().unwrap(),
            name: Some("mx.a.test"),
            protocol: "ESMTPS",
            tls: Some(&tls),
            ..trace("[192.0.2.9]", None)
        };
        assert_eq!(
            received(&secured),
            "Received: from [192.0.2.9] (mx.a.test [IPv6:2001:db8::1])\r\n\tby gw.test with ESMTPS id 0123-1\r\n\
             \ttls TLS_AES_256_GCM_SHA384;\r\n\tFri, 15 Jan 2027 08:00:00 +0000\r\n"
        );
    }

    #[test]
    fn a_stranger_s_name_stays_one_word() {
        let field = received(&trace("a)(b;c\u{e9} d", Some("a\"b<c>@d.test")));
        assert!(field.starts_with("Received: from a??b?c??d ([192.0.2.1])\r\n"), "{field}");
        assert!(!field.contains("for <"));
        assert!(received(&trace("", None)).starts_with("Received: from unknown ("));
    }
}
