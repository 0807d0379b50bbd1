//! XCLIENT: telling a server who its client is (Postfix `XCLIENT_README`).
//!
//! Owns what a server offers of it and how the command is written.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::reply::Reply;
use super::xtext::xtext;

/// Longest command line without its CRLF (RFC 5321 section 4.5.3.1.4).
const LONGEST: usize = 510;
/// Longest name that servers take (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 255;
/// What is not known.
const UNAVAILABLE: &str = "[UNAVAILABLE]";

/// What is told of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its address and port.
    pub address: SocketAddr,
    /// The name in its EHLO (true) or HELO, if it has sent one.
    pub hello: Option<(bool, &'a str)>,
}

/// The attributes that a positive EHLO reply offers, in upper case; none: no XCLIENT.
#[must_use]
pub fn offered(reply: &Reply) -> Vec<String> {
    let lines = reply.lines().iter().skip(1).map(|line| String::from_utf8_lossy(line).to_ascii_uppercase());
    let words = lines.filter_map(|line| {
        let (keyword, attributes) = line.split_once(' ')?;
        (keyword == "XCLIENT").then(|| attributes.split(' ').map(str::to_owned).collect::<Vec<_>>())
    });
    words.flatten().filter(|word| !word.is_empty()).collect()
}

/// The command that tells of `client` as much as the server wants to know.
///
/// The name in the DNS is not looked up. Nobody has logged in yet: that comes behind the introduction, with
/// the server itself, and another XCLIENT would undo it.
#[must_use]
pub fn command(offered: &[String], client: Client<'_>) -> String {
    let hello = client.hello.filter(|(_, name)| name.len() <= LONGEST_NAME);
    let line = line(offered, client.address, hello);
    if line.len() <= LONGEST { line } else { self::line(offered, client.address, None) }
}

fn line(offered: &[String], address: SocketAddr, hello: Option<(bool, &str)>) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("IPV6:{ip}"),
    };
    let protocol = hello.map(|(extended, _)| if extended { "ESMTP" } else { "SMTP" }.to_owned());
    let mut line = "XCLIENT".to_owned();
    for (name, value) in [
        ("NAME", Some(UNAVAILABLE.to_owned())),
        ("ADDR", Some(ip)),
        ("PORT", Some(address.port().to_string())),
        ("PROTO", protocol),
        ("HELO", hello.map(|(_, name)| name.to_owned())),
        ("LOGIN", Some(UNAVAILABLE.to_owned())),
    ] {
        if let Some(value) = value.filter(|_| offered.iter().any(|offered| offered == name)) {
            // Writing to a `String` cannot fail.
            write!(line, " {name}={}", xtext(&value)).unwrap_or_default();
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn told(offers: &str, client: &str, hello: Option<(bool, &str)>) -> String {
        let lines = ["mx", "PIPELINING", offers].map(|line| Bytes::copy_from_slice(line.as_bytes()));
        let offered = offered(&Reply::with_lines(250, lines.to_vec()));
        command(&offered, Client { address: client.parse().unwrap(), hello })
    }

    #[test]
    fn a_server_is_told_what_it_offers_to_hear_and_no_more() {
        let all = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";
        assert_eq!(
            told(all, "192.0.2.1:1025", Some((true, "client.example"))),
            "XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=1025 PROTO=ESMTP HELO=client.example \
             LOGIN=[UNAVAILABLE]"
        );
        assert_eq!(
            told("xclient addr proto", "[2001:db8::1]:1025", Some((false, "c"))),
            "XCLIENT ADDR=IPV6:2001:db8::1 PROTO=SMTP"
        );
        assert_eq!(told(all, "192.0.2.1:1", None), told("XCLIENT NAME ADDR PORT LOGIN", "192.0.2.1:1", None));
    }

    #[test]
    fn nothing_is_offered_without_the_keyword() {
        for line in ["XCLIENT", "XCLIENTS ADDR", "SIZE XCLIENT"] {
            let lines = vec![Bytes::from_static(b"XCLIENT ADDR"), Bytes::copy_from_slice(line.as_bytes())];
            assert_eq!(offered(&Reply::with_lines(250, lines)), [""; 0], "{line}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_value() {
        let line = told("XCLIENT HELO", "192.0.2.1:1", Some((true, "a b=c+d\u{e9} ADDR=x")));
        assert_eq!(line, "XCLIENT HELO=a+20b+3Dc+2Bd+C3+A9+20ADDR+3Dx");
    }

    #[test]
    fn a_name_that_is_too_long_is_left_out() {
        let offers = "XCLIENT ADDR HELO";
        let long = told(offers, "192.0.2.1:1", Some((true, &"a".repeat(256))));
        let encoded = told(offers, "192.0.2.1:1", Some((true, &"=".repeat(200))));
        assert_eq!([long, encoded], ["XCLIENT ADDR=192.0.2.1"; 2]);
    }
}
