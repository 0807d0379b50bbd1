//! Version 1: one line of text (section 2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, Malformed};

/// What a header of this version begins with.
pub(super) const FIRST: u8 = b'P';
const SIGNATURE: &[u8] = b"PROXY ";
/// Longest line, with its CRLF.
const LONGEST: usize = 107;

/// How many of the octets in `rest` belong to the header behind those that were `seen`; 0: none, it
/// is complete. With nothing in `rest`, any number.
pub(super) fn wanted(seen: &[u8], rest: &[u8]) -> Result<usize, Malformed> {
    let known = seen.len().min(SIGNATURE.len());
    if seen.get(..known) != SIGNATURE.get(..known) {
        return Err(Malformed::NoHeader);
    }
    if seen.last() == Some(&b'\n') {
        return Ok(0);
    }
    if known < SIGNATURE.len() {
        return Ok(SIGNATURE.len() - known);
    }
    let room = LONGEST.saturating_sub(seen.len());
    if room == 0 {
        return Err(Malformed::TooLong);
    }
    let end = rest.iter().position(|octet| *octet == b'\n');
    Ok(end.map_or(room, |end| end.saturating_add(1).min(room)))
}

/// Reads a complete line.
pub(super) fn read(line: &[u8]) -> Result<Header, Malformed> {
    let line = line.strip_prefix(SIGNATURE).and_then(|rest| rest.strip_suffix(b"\r\n"));
    let line = line.and_then(|line| str::from_utf8(line).ok()).ok_or(Malformed::Line)?;
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Ok(Header::Local);
    }
    let mut next = || words.next().ok_or(Malformed::Line);
    let (source, destination) = (address(family, next()?)?, address(family, next()?)?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    if words.next().is_some() {
        return Err(Malformed::Line);
    }
    Ok(Header::Proxied {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

fn address(family: &str, text: &str) -> Result<IpAddr, Malformed> {
    let address = match family {
        "TCP4" => text.parse().map(Ipv4Addr::into),
        "TCP6" => text.parse().map(Ipv6Addr::into),
        _ => return Err(Malformed::Line),
    };
    address.map_err(|_| Malformed::Line)
}

/// A decimal number without heading zeroes.
fn port(text: &str) -> Result<u16, Malformed> {
    let number = text.parse::<u16>().map_err(|_| Malformed::Line)?;
    if number.to_string() == text { Ok(number) } else { Err(Malformed::Line) }
}
