//! Version 2: binary, with additional values (sections 2.2 and 2.2.6).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, Malformed, crc32c};

/// What a header of this version begins with.
pub(super) const FIRST: u8 = b'\r';
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
const HEAD: usize = 16;
/// Most that is taken behind the head. Certificates and tokens of clients are what makes headers
/// long; proxies send up to 2 kB.
const LONGEST: u16 = 4096;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// The type of the checksum among the additional values.
const CRC32C: u8 = 0x03;

/// The octets behind the signature.
#[derive(Clone, Copy)]
struct Head {
    command: u8,
    family: u8,
    length: u16,
}

impl Head {
    fn read(seen: &[u8]) -> Option<Self> {
        let [command, family, high, low] = *seen.get(SIGNATURE.len()..)?.first_chunk()?;
        Some(Self { command, family, length: u16::from_be_bytes([high, low]) })
    }

    /// Octets of the addresses.
    const fn addresses(self) -> Result<u16, Malformed> {
        match (self.command, self.family) {
            (LOCAL, _) | (PROXY, UNSPECIFIED) => Ok(0),
            (PROXY, TCP4) => Ok(12),
            (PROXY, TCP6) => Ok(36),
            (PROXY, family) => Err(Malformed::Family(family)),
            (command, _) => Err(Malformed::Command(command)),
        }
    }
}

/// How many octets belong to the header behind those that were `seen`; 0: none, it is complete.
pub(super) fn wanted(seen: &[u8]) -> Result<usize, Malformed> {
    let known = seen.len().min(SIGNATURE.len());
    if seen.get(..known) != SIGNATURE.get(..known) {
        return Err(Malformed::NoHeader);
    }
    let Some(head) = Head::read(seen) else { return Ok(HEAD.saturating_sub(seen.len())) };
    if head.addresses()? > head.length || head.length > LONGEST {
        return Err(Malformed::Length(head.length));
    }
    Ok(HEAD.saturating_add(usize::from(head.length)).saturating_sub(seen.len()))
}

/// Reads a complete header.
pub(super) fn read(header: &[u8]) -> Result<Header, Malformed> {
    let head = Head::read(header).ok_or(Malformed::NoHeader)?;
    if head.command == LOCAL {
        // What follows is to be ignored, its family too.
        return Ok(Header::Local);
    }
    let body = header.get(HEAD..).unwrap_or_default();
    let split = body.split_at_checked(usize::from(head.addresses()?));
    let (addresses, values) = split.ok_or(Malformed::Length(head.length))?;
    check_values(header, values)?;
    match head.family {
        TCP4 => four(addresses),
        TCP6 => six(addresses),
        _ => Some(Header::Local),
    }
    .ok_or(Malformed::Length(head.length))
}

fn four(octets: &[u8]) -> Option<Header> {
    let (source, rest) = octets.split_first_chunk::<4>()?;
    let (destination, ports) = rest.split_first_chunk::<4>()?;
    let (source_port, destination_port) = two_ports(ports)?;
    Some(Header::Proxied {
        source: SocketAddr::from((Ipv4Addr::from(*source), source_port)),
        destination: SocketAddr::from((Ipv4Addr::from(*destination), destination_port)),
    })
}

fn six(octets: &[u8]) -> Option<Header> {
    let (source, rest) = octets.split_first_chunk::<16>()?;
    let (destination, ports) = rest.split_first_chunk::<16>()?;
    let (source_port, destination_port) = two_ports(ports)?;
    Some(Header::Proxied {
        source: SocketAddr::from((Ipv6Addr::from(*source), source_port)),
        destination: SocketAddr::from((Ipv6Addr::from(*destination), destination_port)),
    })
}

fn two_ports(octets: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *octets.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Walks the additional values; the checksum has to agree, others are skipped.
fn check_values(header: &[u8], values: &[u8]) -> Result<(), Malformed> {
    let mut rest = values;
    let mut checked = false;
    while !rest.is_empty() {
        let (kind, behind) = rest.split_first_chunk::<3>().ok_or(Malformed::Values)?;
        let [kind, high, low] = *kind;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, behind) = behind.split_at_checked(length).ok_or(Malformed::Values)?;
        if kind == CRC32C {
            let told = value.as_array::<4>().filter(|_| !checked).ok_or(Malformed::Values)?;
            let at = header.len().saturating_sub(behind.len()).saturating_sub(value.len());
            if without(header, at) != u32::from_be_bytes(*told) {
                return Err(Malformed::Checksum);
            }
            checked = true;
        }
        rest = behind;
    }
    Ok(())
}

/// The checksum of a header, with zeroes in the place of the one that it holds `at` an offset.
fn without(header: &[u8], at: usize) -> u32 {
    let (before, rest) = header.split_at_checked(at).unwrap_or((header, &[]));
    let behind = rest.get(4..).unwrap_or_default();
    crc32c::of([before, &[0; 4], behind])
}
