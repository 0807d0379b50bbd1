use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads octets in one piece: how many are the header's, and what it says.
fn read(octets: &[u8]) -> Result<(usize, Option<Header>), Malformed> {
    Decoder::default().take(octets)
}

/// Reads octets in pieces of this length.
fn read_in(pieces: usize, octets: &[u8]) -> Result<(usize, Option<Header>), Malformed> {
    let mut decoder = Decoder::default();
    let mut taken = 0;
    for piece in octets.chunks(pieces) {
        let (more, header) = decoder.take(piece)?;
        taken += more;
        if header.is_some() {
            return Ok((taken, header));
        }
        assert_eq!(more, piece.len(), "without a header, all octets are its own");
    }
    Ok((taken, None))
}

fn proxied(source: &str, destination: &str) -> Header {
    Header::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

fn addresses(source: SocketAddr, destination: SocketAddr) -> (u8, Vec<u8>) {
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (0x11, [&a.octets()[..], &b.octets(), &ports].concat()),
        (IpAddr::V6(a), IpAddr::V6(b)) => (0x21, [&a.octets()[..], &b.octets(), &ports].concat()),
        _ => panic!("two families"),
    }
}

/// A header with a checksum behind some other value.
fn with_checksum(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (family, mut body) = addresses(source, destination);
    body.extend_from_slice(&[0x04, 0, 2, 0, 0, 0x03, 0, 4, 0, 0, 0, 0]);
    let mut header = binary(0x21, family, &body);
    let at = header.len() - 4;
    let sum = crc32c::of([header.as_slice()]);
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

#[test]
fn a_line_says_who_connected_to_whom() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 1025 25\r\nEHLO x\r\n";
    assert_eq!(read(line), Ok((43, Some(proxied("192.0.2.1:1025", "198.51.100.2:25")))));
    let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 1025 25\r\n";
    assert_eq!(read(line), Ok((44, Some(proxied("[2001:db8::1]:1025", "[2001:db8::2]:25")))));
    assert_eq!(read(b"PROXY UNKNOWN\r\n"), Ok((15, Some(Header::Local))));
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
    assert_eq!(read(longest.as_bytes()), Ok((107, Some(Header::Local))));
}

#[test]
fn a_line_that_is_not_exactly_one_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 1025 25\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1025 25 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 1025 25\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1025 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01025 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1025 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1025 65536\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1025\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1025 25\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1025 25\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1025 25\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(Malformed::Line), "{line:?}");
    }
    for line in ["EHLO x\r\n", "proxy UNKNOWN\r\n", "PROXI UNKNOWN\r\n", "\r\nEHLO x\r\n", "\n"] {
        assert_eq!(read(line.as_bytes()), Err(Malformed::NoHeader), "{line:?}");
    }
    let endless = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
    assert_eq!(read(endless.as_bytes()), Err(Malformed::TooLong));
}

#[test]
fn a_binary_header_says_who_connected_to_whom() {
    for (source, destination) in
        [("192.0.2.1:1025", "198.51.100.2:25"), ("[2001:db8::1]:1025", "[2001:db8::2]:25")]
    {
        let (family, body) = addresses(source.parse().unwrap(), destination.parse().unwrap());
        let mut header = binary(0x21, family, &body);
        let length = header.len();
        header.extend_from_slice(b"EHLO x\r\n");
        assert_eq!(read(&header), Ok((length, Some(proxied(source, destination)))));
    }
}

#[test]
fn what_a_proxy_says_for_itself_is_local() {
    for header in [
        binary(0x20, 0, b""),
        binary(0x20, 0x11, b"short"),
        binary(0x21, 0, b""),
        binary(0x21, 0, &[0x04, 0, 1, 9]),
    ] {
        assert_eq!(read(&header), Ok((header.len(), Some(Header::Local))), "{header:?}");
    }
}

#[test]
fn a_binary_header_that_is_not_exactly_one_is_refused() {
    let (_, body) = addresses("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
    let behind = |values: &[u8]| binary(0x21, 0x11, &[&body[..], values].concat());
    for (header, why) in [
        (binary(0x11, 0x11, &body), Malformed::Command(0x11)),
        (binary(0x22, 0x11, &body), Malformed::Command(0x22)),
        (binary(0x21, 0x12, &body), Malformed::Family(0x12)),
        (binary(0x21, 0x31, &[0; 216]), Malformed::Family(0x31)),
        (binary(0x21, 0x21, &body), Malformed::Length(12)),
        (binary(0x21, 0x11, &body[..11]), Malformed::Length(11)),
        (binary(0x21, 0x11, &[0; 4097]), Malformed::Length(4097)),
        (behind(&[4]), Malformed::Values),
        (behind(&[4, 0, 1]), Malformed::Values),
        (behind(&[4, 0xff, 0xff, 0]), Malformed::Values),
        (behind(&[3, 0, 3, 0, 0, 0]), Malformed::Values),
        (behind(&[3, 0, 4, 0, 0, 0, 0]), Malformed::Checksum),
        ([&SIGNATURE[..11], b"\r"].concat(), Malformed::NoHeader),
    ] {
        assert_eq!(read(&header), Err(why), "{header:?}");
    }
}

#[test]
fn a_header_with_its_checksum_is_taken() {
    let header = with_checksum("192.0.2.1:1025".parse().unwrap(), "198.51.100.2:25".parse().unwrap());
    let wanted = proxied("192.0.2.1:1025", "198.51.100.2:25");
    assert_eq!(read(&header), Ok((header.len(), Some(wanted))));
}

#[test]
fn no_changed_bit_of_an_address_or_the_checksum_gets_through() {
    let header = with_checksum("[2001:db8::1]:1025".parse().unwrap(), "[2001:db8::2]:25".parse().unwrap());
    let values = 16 + 36;
    let checksum = header.len() - 4;
    for bit in (0..values * 8).chain(checksum * 8..header.len() * 8) {
        let mut changed = header.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let read = read(&changed);
        // As LOCAL nothing behind it is looked at; a longer one is not complete.
        let harmless = matches!(read, Err(_) | Ok((_, None | Some(Header::Local))));
        assert!(harmless, "bit {bit}: {read:?}");
    }
}

fn any_address() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let four = any::<(u32, u32)>().prop_map(|(a, b)| (Ipv4Addr::from(a).into(), Ipv4Addr::from(b).into()));
    let six = any::<(u128, u128)>().prop_map(|(a, b)| (Ipv6Addr::from(a).into(), Ipv6Addr::from(b).into()));
    (prop_oneof![four, six], any::<(u16, u16)>())
        .prop_map(|((a, b), (p, q)): ((IpAddr, IpAddr), _)| (SocketAddr::new(a, p), SocketAddr::new(b, q)))
}

/// Octets that begin like a header, and go on in any way.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let heads = prop::sample::select(vec![
        b"".to_vec(),
        b"PROXY TCP4 ".to_vec(),
        b"PROXY TCP6 ::1 ".to_vec(),
        SIGNATURE.to_vec(),
        [SIGNATURE, &[0x21, 0x11, 0, 30, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2, 3]].concat(),
    ]);
    (heads, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(head, tail)| [head, tail].concat())
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_both_versions((source, destination) in any_address(), tail in ".*") {
        let wanted = Header::Proxied { source, destination };
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let ports = format!("{} {}", source.port(), destination.port());
        let line = format!("PROXY {family} {} {} {ports}\r\n", source.ip(), destination.ip());
        for header in [line.into_bytes(), with_checksum(source, destination)] {
            let octets = [&header[..], tail.as_bytes()].concat();
            prop_assert_eq!(read(&octets), Ok((header.len(), Some(wanted))));
        }
    }

    #[test]
    fn pieces_are_read_as_the_whole(octets in hostile(), pieces in 1_usize..20) {
        match (read(&octets), read_in(pieces, &octets)) {
            (Err(_), Err(_)) => {}
            (whole, in_pieces) => prop_assert_eq!(whole, in_pieces),
        }
    }

    #[test]
    fn nothing_is_taken_that_is_not_there(octets in hostile()) {
        if let Ok((taken, _)) = read(&octets) {
            prop_assert!(taken <= octets.len());
        }
    }
}
