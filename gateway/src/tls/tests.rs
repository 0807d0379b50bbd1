//! Hellos as clients send them, and as they never should.

use proptest::prelude::*;

use super::*;

/// A hello with these extensions, in one record.
fn hello(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&[0, 4, 0x13, 0x01, 0xc0, 0x2f]);
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(extensions);
    let mut message = vec![1];
    message.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend_from_slice(&body);
    record_of(&message)
}

fn record_of(content: &[u8]) -> Vec<u8> {
    let mut record = vec![22, 3, 1];
    record.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
    record.extend_from_slice(content);
    record
}

/// `server_name` of `a.test`, and `supported_versions` with 1.3 and a made-up one.
const EXTENSIONS: &[u8] =
    &[0, 0, 0, 11, 0, 9, 0, 0, 6, b'a', b'.', b't', b'e', b's', b't', 0, 43, 0, 5, 4, 0x7a, 0x7a, 3, 4];

fn known() -> TlsFacts {
    let Progress::Hello(facts) = read(&hello(EXTENSIONS)) else { panic!("not a hello") };
    facts
}

#[test]
fn name_and_version_are_read() {
    let facts = known();
    assert_eq!(facts.server_name.as_deref(), Some("a.test"));
    assert_eq!(facts.version, "1.3");
    assert!(facts.ja4.starts_with("t13d020200_"), "{}", facts.ja4);
}

#[test]
fn a_hello_in_pieces_is_waited_for() {
    let whole = hello(EXTENSIONS);
    for end in 0..whole.len() {
        assert_eq!(read(whole.get(..end).unwrap()), Progress::Incomplete, "{end}");
    }
}

#[test]
fn a_hello_in_two_records_is_one() {
    let whole = hello(EXTENSIONS);
    let (first, second) = whole.get(RECORD_HEADER..).unwrap().split_at(20);
    let records = [record_of(first), record_of(second)].concat();
    assert_eq!(read(&records), Progress::Hello(known()));
    assert_eq!(read(records.get(..30).unwrap()), Progress::Incomplete);
}

#[test]
fn what_follows_the_hello_does_not_matter() {
    let mut octets = hello(EXTENSIONS);
    octets.extend_from_slice(b"more");
    assert_eq!(read(&octets), Progress::Hello(known()));
}

#[test]
fn other_protocols_are_not_waited_for() {
    for octets in [
        &b"EHLO again\r\n"[..],
        b"\x16\x02",
        b"\x17\x03\x03",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x02",
    ] {
        assert_eq!(read(octets), Progress::Other, "{octets:?}");
    }
}

#[test]
fn a_hostile_name_is_left_out() {
    let mut extensions = EXTENSIONS.to_vec();
    *extensions.get_mut(9).unwrap() = 0x1b;
    let Progress::Hello(facts) = read(&hello(&extensions)) else { panic!("not a hello") };
    assert_eq!(facts.server_name, None);
}

/// Whatever is read has the form of a fingerprint and a name that can be written.
fn is_sound(octets: &[u8]) -> bool {
    match read(octets) {
        Progress::Incomplete | Progress::Other => true,
        Progress::Hello(facts) => {
            let parts: Vec<_> = facts.ja4.split('_').map(str::len).collect();
            parts == [10, 12, 12]
                && facts.server_name.is_none_or(|name| name.bytes().all(|octet| octet.is_ascii_graphic()))
        }
    }
}

proptest! {
    #[test]
    fn no_octets_do_harm(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(is_sound(&octets));
        prop_assert!(is_sound(&record_of(&octets)));
    }

    #[test]
    fn a_damaged_hello_does_no_harm(at in 0usize..90, value in any::<u8>()) {
        let mut octets = hello(EXTENSIONS);
        if let Some(octet) = octets.get_mut(at) {
            *octet = value;
        }
        prop_assert!(is_sound(&octets));
    }
}
