//! Quotas with times of their own.

use std::net::IpAddr;

use super::*;

/// Beginning of a window of an hour.
const NOON: u64 = 1_800_000_000;
const HOUR: u64 = 3_600;

fn rules(limits: &str) -> Quotas {
    serde_json::from_str(&format!(r#"{{"period":"1h",{limits}}}"#)).unwrap()
}

fn table(limits: &str) -> QuotaTable {
    QuotaTable::new(rules(&format!(r#""limits":{{{limits}}}"#)))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn client(text: &str) -> Client {
    Client::try_from(text.to_owned()).unwrap()
}

fn server(number: u8) -> Demand {
    Demand::Session { server: IpAddr::from([198, 51, 100, number]) }
}

const MAIL: Demand = Demand::Message { size: 0 };

/// How often `demand` is granted to `client` at once.
fn granted(table: &mut QuotaTable, client: &str, demand: Demand, now: u64) -> usize {
    let client = table.client(address(client), None);
    (0..1_000).take_while(|_| table.take(&client, demand, now).is_ok()).count()
}

#[test]
fn a_quota_is_used_up_and_comes_back_as_its_period_slides() {
    let mut table = table(r#""messages":10"#);
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON), 10);
    assert_eq!(granted(&mut table, "192.0.2.2", MAIL, NOON), 10, "another client");
    let over = table.take(&client("192.0.2.1"), MAIL, NOON).unwrap_err();
    assert_eq!((over.quota, over.limit, over.first), (Quota::Messages, 10, false));
    // A fixed window would give ten at once.
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON + HOUR), 0);
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON + HOUR + HOUR / 2), 5);
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON + 4 * HOUR), 10);
}

#[test]
fn the_first_refusal_of_a_window_is_told_apart() {
    let mut table = table(r#""messages":1"#);
    let mut first = |now| table.take(&client("192.0.2.1"), MAIL, now).map_err(|over| over.first);
    assert!(first(NOON).is_ok());
    assert_eq!(first(NOON), Err(true));
    assert_eq!(first(NOON), Err(false));
    assert_eq!(first(NOON + HOUR), Err(true));
}

#[test]
fn who_could_send_nothing_is_told_when_he_connects() {
    let mut table = table(r#""messages":1,"rcpt-rejects":2"#);
    let client = &client("192.0.2.1");
    assert!(table.take(client, server(1), NOON).is_ok());
    assert!(table.take(client, MAIL, NOON).is_ok());
    assert!(table.take(client, Demand::Recipient, NOON).is_ok(), "the last message has recipients too");
    assert_eq!(table.take(client, server(1), NOON).unwrap_err().quota, Quota::Messages);
    let client = &Client::try_from("192.0.2.2".to_owned()).unwrap();
    table.spend(client.clone(), Quota::RcptRejects, 2, NOON);
    for demand in [server(1), MAIL, Demand::Recipient, Demand::Auth] {
        assert_eq!(table.take(client, demand, NOON).unwrap_err().quota, Quota::RcptRejects, "{demand:?}");
    }
}

#[test]
fn an_announced_size_counts_before_the_message_and_any_size_after_it() {
    let mut table = table(r#""bytes":"100B""#);
    let client = &client("192.0.2.1");
    assert!(table.take(client, Demand::Message { size: 101 }, NOON).is_err());
    assert!(table.take(client, Demand::Message { size: 100 }, NOON).is_ok());
    table.spend(client.clone(), Quota::Bytes, 250, NOON);
    assert_eq!(table.take(client, MAIL, NOON).unwrap_err().quota, Quota::Bytes);
}

#[test]
fn servers_are_counted_once_each() {
    let mut table = table(r#""destinations":2"#);
    let client = &client("192.0.2.1");
    for number in [1, 2, 1, 2, 1] {
        assert!(table.take(client, server(number), NOON).is_ok());
    }
    assert_eq!(table.take(client, server(3), NOON).unwrap_err().quota, Quota::Destinations);
    // Who stays with his servers is never refused, also where one window follows another.
    for number in [2, 1, 2] {
        assert!(table.take(client, server(number), NOON + HOUR).is_ok());
    }
    assert!(table.take(client, server(3), NOON + HOUR).is_err());
    assert!(table.take(client, MAIL, NOON + HOUR).is_ok(), "it is connected already");
    assert_eq!(table.standing(client, NOON + HOUR).destinations.len(), 2);
}

#[test]
fn one_client_is_a_prefix_and_some_networks_have_limits_of_their_own() {
    let networks = r#""limits":{"messages":1},"networks":[
        {"client":["192.0.2.128/25"],"limits":{"messages":3}},{"client":["2001:db8:9::/48"]}]"#;
    let mut table = QuotaTable::new(rules(networks));
    assert_eq!(granted(&mut table, "2001:db8::1", MAIL, NOON), 1);
    assert_eq!(granted(&mut table, "2001:db8::2", MAIL, NOON), 0, "the same /64");
    assert_eq!(granted(&mut table, "2001:db8:0:1::2", MAIL, NOON), 1);
    assert_eq!(granted(&mut table, "::ffff:192.0.2.1", MAIL, NOON), 1);
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON), 0, "the same address");
    assert_eq!(granted(&mut table, "192.0.2.129", MAIL, NOON), 3);
    assert_eq!(granted(&mut table, "2001:db8:9::1", MAIL, NOON), 1_000, "exempt");
}

#[test]
fn with_a_generation_clients_keep_the_limits_they_came_with_until_it_is_raised() {
    let of = |generation, messages| {
        rules(&format!(r#""generation":{generation},"limits":{{"messages":{messages}}}"#))
    };
    let mut table = QuotaTable::new(of(1, 2));
    let taken = table.take(&client("192.0.2.1"), MAIL, NOON).unwrap();
    assert_eq!(taken.own.map(|own| (own.generation, own.by_operator)), Some((1, false)));
    assert_eq!(table.take(&client("192.0.2.1"), MAIL, NOON).unwrap().own, None, "once");
    table.set_rules(of(1, 5));
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON), 0);
    assert_eq!(granted(&mut table, "192.0.2.2", MAIL, NOON), 5, "a new client");
    table.set_rules(of(2, 5));
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON), 3);
    // Without generations there is nothing to be raised.
    table.set_rules(of(0, 7));
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON), 2);
}

#[test]
fn limits_of_an_operator_hold_until_the_generation_is_raised() {
    let mut table = table(r#""messages":1"#);
    let client = &client("192.0.2.1");
    let limits = QuotaLimits { messages: 4, ..QuotaLimits::default() };
    let own = table.set_limits(client.clone(), Some(limits)).unwrap();
    assert_eq!(own.map(|own| own.by_operator), Some(true));
    table.set_rules(rules(r#""limits":{"messages":2}"#));
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON), 4);
    assert!(table.standing(client, NOON).own);
    table.set_rules(rules(r#""generation":9,"limits":{"messages":2}"#));
    assert!(!table.standing(client, NOON).own);
    assert_eq!(table.limits(client).messages, 2);
}

#[test]
fn what_was_kept_counts_on_and_what_others_add_is_learnt() {
    let mut table = table(r#""messages":10"#);
    let entry = |start| Entry {
        client: client("192.0.2.1"),
        counter: Counter::Quota(Quota::Messages),
        period: HOUR,
        start,
    };
    let kept = vec![(entry(NOON), 4), (entry(NOON - HOUR), 4), (entry(NOON - 2 * HOUR), 90)];
    table.load(kept, Vec::new(), NOON + HOUR / 2);
    let used = |table: &QuotaTable, now| table.standing(&entry(0).client, now).used[1].1;
    assert_eq!(used(&table, NOON + HOUR / 2), 6);
    table.take(&client("192.0.2.1"), MAIL, NOON + HOUR / 2).unwrap();
    table.take(&client("192.0.2.1"), MAIL, NOON + HOUR / 2).unwrap();
    // One of the two was written; another process has added three.
    table.learn(&entry(NOON), 1, 8, 0);
    assert_eq!(used(&table, NOON + HOUR / 2), 2 + 8 + 1);
    table.learn(&entry(NOON), 1, 9, 0);
    assert_eq!(used(&table, NOON + HOUR / 2), 2 + 9);
}

#[test]
fn what_was_written_before_a_reset_does_not_come_back() {
    let mut table = table(r#""messages":2"#);
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON), 2);
    let entry = table.spend(client("192.0.2.1"), Quota::Messages, 1, NOON);
    assert_eq!(table.reset(Some(&entry.client)), (1, 1));
    assert!(table.take(&client("192.0.2.1"), MAIL, NOON).is_ok());
    table.learn(&entry, 3, 3, 0);
    assert!(table.take(&client("192.0.2.1"), MAIL, NOON).is_ok());
}

#[test]
fn a_clock_that_jumps_neither_locks_a_client_out_nor_counts_twice() {
    let mut table = table(r#""messages":2"#);
    let far = NOON + 10 * 365 * 24 * HOUR;
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, far), 2);
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON), 2, "set back by ten years");
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON - 1), 0, "set back by a second");
    assert_eq!(granted(&mut table, "192.0.2.1", MAIL, NOON + 2 * HOUR), 2);
}

#[test]
fn the_table_has_a_ceiling_and_forgets_those_unseen_for_longest() {
    let mut table = QuotaTable::new(rules(r#""table-size":100,"limits":{"messages":1}"#));
    for number in 0..300_u32 {
        let client = table.client(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), None);
        assert!(table.take(&client, MAIL, NOON).is_ok());
    }
    assert_eq!((table.len(), table.evicted()), (100, 200));
    assert_eq!(granted(&mut table, "10.0.1.43", MAIL, NOON), 0, "seen last");
    assert_eq!(granted(&mut table, "10.0.0.0", MAIL, NOON), 1, "forgotten");
}

#[test]
fn identities_behind_one_address_are_clients_of_their_own() {
    let mut table = table(r#""messages":1"#);
    let identity = |name: &str| Identity::new(name.as_bytes());
    for who in [identity("fd00::5"), identity("fd00::6"), None] {
        let client = table.client(address("192.0.2.1"), who);
        assert!(table.take(&client, MAIL, NOON).is_ok());
        assert!(table.take(&client, MAIL, NOON).is_err());
        assert_eq!(Client::try_from(client.to_string()), Ok(client));
    }
    assert!(Client::try_from("192.0.2.1 ".to_owned()).is_err());
}

#[test]
fn names_of_counters_are_read_as_they_are_written() {
    let counters = Quota::ALL.map(Counter::Quota);
    let servers = ["192.0.2.1", "2001:db8::1"].map(|server| Counter::Destination(address(server)));
    for counter in counters.into_iter().chain(servers) {
        assert_eq!(counter.to_string().parse(), Ok(counter));
    }
    assert!("destination/x".parse::<Counter>().is_err() && "".parse::<Counter>().is_err());
}
