extern crate std;
use std::net::{IpAddr, Ipv6Addr};
use std::string::{String, ToString as _};
use std::vec::Vec;

use super::book::mix;
use super::*;
use crate::flow::{FlowKey, mapped};
use crate::lane::Address;

const MINUTE: u64 = 60_000_000_000;

fn book(v4: u32, v6: u32) -> Book {
    Book::new(v4, v6, MINUTE, 7)
}

fn address(text: &str) -> Address {
    match text.parse().unwrap() {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn client(book: &Book, text: &str) -> String {
    Ipv6Addr::from(book.client(&address(text))).to_canonical().to_string()
}

/// A period in which these destinations were seen.
fn seen(book: &Book, destinations: impl Iterator<Item = u32>) -> Period {
    let mut period = Period::default();
    for number in destinations {
        let server = (mapped(number.to_be_bytes()), [0, 25]);
        let bit = book.destination(&FlowKey::new((mapped([192, 0, 2, 1]), [1, 1]), server));
        period.destinations[bit.word()] |= bit.mask();
        assert!(period.has(bit));
    }
    period
}

#[test]
fn a_client_is_its_prefix() {
    let usual = book(32, 64);
    assert_eq!(client(&usual, "192.0.2.7"), "192.0.2.7");
    assert_eq!(client(&usual, "2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(client(&book(24, 48), "192.0.2.7"), "192.0.2.0");
    assert_eq!(client(&book(24, 48), "2001:db8:1:2:3:4:5:6"), "2001:db8:1::");
    assert_eq!(client(&book(0, 128), "192.0.2.7"), "0.0.0.0");
    assert_eq!(client(&book(0, 128), "2001:db8::6"), "2001:db8::6");
    assert_eq!(client(&book(32, 0), "2001:db8::6"), "::");
    assert_eq!(client(&book(32, 100), "2001:db8::1234:5678"), "2001:db8::1000:0");
}

#[test]
fn about_as_many_destinations_are_counted_as_there_were() {
    for (seed, many) in [(1, 1), (2, 5), (3, 20), (4, 100), (5, 300), (6, 600), (7, 1_000)] {
        // Many rounds, because one alone may be far off by chance.
        let errors: Vec<f64> = (0..50u32)
            .map(|round| {
                let book = Book::new(32, 64, MINUTE, mix(seed * 1_000 + u64::from(round)));
                let first = 0x0a00_0000 + round * 65_536;
                let found = seen(&book, first..first + many).destinations();
                (f64::from(found) - f64::from(many)) / f64::from(many)
            })
            .collect();
        let root = (errors.iter().map(|error| error * error).sum::<f64>() / 50.0).sqrt();
        assert!(root < 0.15, "{many} destinations: off by {root}");
    }
}

#[test]
fn the_same_destination_counts_once_and_ports_make_no_other() {
    let book = book(32, 64);
    assert_eq!(seen(&book, [5; 40].into_iter()).destinations(), 1);
    assert_eq!(Period::default().destinations(), 0);
    assert_eq!(estimate(BITS), 1_568);
}

#[test]
fn limits_hold_from_the_number_they_name_on() {
    let book = book(32, 64);
    let bit = |last: u8| {
        let server = (mapped([198, 51, 100, last]), [0, 25]);
        book.destination(&FlowKey::new((mapped([192, 0, 2, 1]), [1, 1]), server))
    };
    let free = Limits::none(OnExcess::Drop);
    let mut period = seen(&book, 0..3);
    (period.sessions, period.from_client, period.from_server) = (4, 700, 300);
    assert_eq!(free.judge(&period, 1_000, bit(1)), 0);
    assert_eq!(free.with_sessions(3, 5).judge(&period, 2, bit(1)), 0);
    assert_eq!(free.with_sessions(3, 5).judge(&period, 3, bit(1)), OPEN_SESSIONS);
    assert_eq!(free.with_sessions(3, 4).judge(&period, 2, bit(1)), SESSIONS);
    assert_eq!(free.with_bytes(1_001).judge(&period, 0, bit(1)), 0);
    assert_eq!(free.with_bytes(1_000).judge(&period, 0, bit(1)), BYTES);
    assert!(!free.with_bytes(1_000).is_exceeded_by(&period, 0));
    assert!(free.with_bytes(1_000).is_exceeded_by(&period, 1));
    assert!(!free.is_exceeded_by(&period, u32::MAX));

    let other = (1..=255).map(bit).find(|bit| !period.has(*bit)).unwrap();
    assert_eq!(free.with_destinations(3).judge(&period, 0, other), DESTINATIONS);
    assert_eq!(free.with_destinations(4).judge(&period, 0, other), 0);
    period.destinations[other.word()] |= other.mask();
    assert_eq!(free.with_destinations(3).judge(&period, 0, other), 0, "one it has already");
}

#[test]
fn a_period_that_is_over_counts_for_nothing() {
    let mut account = Account::default();
    account.periods[0] = Period { number: 8, syns: 5, ..Period::default() };
    account.periods[1] = Period { number: 7, syns: 3, ..Period::default() };
    assert_eq!(account.period(7).syns(), 3);
    assert_eq!(account.period(8).syns(), 5);
    assert_eq!(account.period(9), Period { number: 9, ..Period::default() });
    assert_eq!(account.current().number(), 8);
}

#[test]
fn periods_have_one_length_and_none_is_number_zero() {
    let book = book(32, 64);
    assert_eq!(book.number(0), Some(1));
    assert_eq!(book.number(MINUTE - 1), Some(1));
    assert_eq!(book.number(MINUTE), Some(2));
    assert_eq!(Book::default().number(5), None);
}

#[test]
fn open_sessions_are_those_reported_with_what_came_and_went_since() {
    let mut account = Account::default();
    let report = Report::default().with_open(5, 10);
    assert_eq!(account.open(None, 5), 0);
    assert_eq!(account.open(Some(&report), 5), 10);
    (account.epoch, account.opened, account.closed) = (5, 3, 1);
    assert_eq!(account.open(Some(&report), 5), 12);
    assert_eq!(account.open(None, 5), 2);
    // Counted again, and the client was not among those with sessions.
    assert_eq!(account.open(Some(&report), 6), 0);
    (account.opened, account.closed) = (0, 20);
    assert_eq!(account.open(Some(&report), 5), 0);
}

#[test]
fn failures_are_counted_by_period_and_an_old_one_makes_room() {
    let report = Report::default().with_failed(7, 2).with_failed(8, 1).with_failed(8, 1);
    assert_eq!((report.failed(7), report.failed(8), report.failed(9)), (2, 2, 0));
    let later = report.with_failed(9, 1);
    assert_eq!((later.failed(7), later.failed(8), later.failed(9)), (0, 2, 1));
    assert_eq!(later.with_open(3, 4).failed(9), 1);
}

#[test]
fn a_changed_book_voids_classes_and_open_sessions() {
    let old = book(32, 64).next_epoch();
    let new = book(24, 64).following(&old);
    assert!(new.generation() != old.generation() && new.epoch() != old.epoch());
}
