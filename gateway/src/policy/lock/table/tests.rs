use super::super::tests::flow;
use super::*;
use crate::config::file::{CauseRule, LockSpan, Network};
use crate::config::units::Span;

fn who(text: &str) -> Who {
    text.to_owned().try_into().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn lock(text: &str, until: Option<u64>) -> Lock {
    Lock {
        who: who(text),
        action: LockAction::Drop,
        cause: Cause::Operator,
        detail: "test".to_owned(),
        session: None,
        since: 0,
        until,
        offences: 0,
        refused: 0,
        changed: 0,
    }
}

fn found(table: &LockTable, client: &str, now: u64) -> Option<String> {
    table.find(client.parse().unwrap(), None, now).map(|lock| lock.who.to_string())
}

fn virus() -> Offence {
    Offence::Virus { signature: "Eicar".to_owned() }
}

/// A table that locks for viruses, for a minute.
fn table(repeat: Repeat) -> LockTable {
    let mut table = LockTable::default();
    let duration = LockSpan::For(Span::minutes(1));
    table.set_rules(Locks { lock_on: vec![Cause::Virus], duration, repeat, ..Locks::default() });
    table
}

#[test]
fn the_smallest_network_whose_lock_still_holds_counts() {
    let mut table = LockTable::default();
    table.add(lock("10.0.0.0/8", None), 0).unwrap();
    table.add(lock("10.1.2.3/32", Some(100)), 0).unwrap();
    table.add(lock("2001:db8::/32", Some(50)), 0).unwrap();
    assert_eq!(found(&table, "10.1.2.3", 99).as_deref(), Some("10.1.2.3"));
    assert_eq!(found(&table, "10.1.2.3", 100).as_deref(), Some("10.0.0.0/8"));
    assert_eq!(found(&table, "2001:db8::7", 49).as_deref(), Some("2001:db8::/32"));
    assert_eq!(found(&table, "11.0.0.1", 0), None);
    assert_eq!(table.expire(200, 1).len(), 1);
    assert_eq!(table.expire(200, 9), [who("10.1.2.3")]);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_look_up_asks_for_lengths_that_locks_have_and_not_for_each_lock() {
    let mut table = LockTable::default();
    for number in 0..100_000_u32 {
        let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        table.add(Lock { who: Who::Net(address.into()), ..lock("10.0.0.0", None) }, 0).unwrap();
    }
    table.add(lock("10.0.0.0/8", None), 0).unwrap();
    table.add(lock("2001:db8::/64", Some(5)), 0).unwrap();
    let asked = |table: &LockTable, client: &str| table.tally.around(client.parse().unwrap()).count();
    assert_eq!((asked(&table, "10.0.0.7"), asked(&table, "2001:db8::7")), (2, 1));
    assert_eq!(found(&table, "10.0.0.7", 0).as_deref(), Some("10.0.0.7"));
    assert_eq!(found(&table, "10.9.9.9", 0).as_deref(), Some("10.0.0.0/8"));
    assert_eq!((table.count(LockAction::Drop), table.count(LockAction::Reset)), (100_002, 0));

    // One that takes another's place counts once.
    let reset = Lock { action: LockAction::Reset, ..lock("10.0.0.0/8", None) };
    table.add(reset, 0).unwrap();
    assert_eq!((table.count(LockAction::Drop), table.count(LockAction::Reset)), (100_001, 1));
    table.remove(&who("10.0.0.0/8"));
    assert_eq!(table.expire(5, 9).len(), 1);
    assert_eq!((asked(&table, "10.0.0.7"), asked(&table, "2001:db8::7")), (1, 0));
    let left: Vec<Who> = table.behind(Bound::Unbounded).map(|lock| lock.who.clone()).collect();
    assert_eq!(left.len(), 100_000);
    assert_eq!(table.behind(Bound::Excluded(&left[99_998])).count(), 1);
    left.iter().for_each(|who| drop(table.remove(who)));
    assert_eq!((asked(&table, "10.0.0.7"), table.count(LockAction::Drop)), (0, 0));
}

#[test]
fn an_identity_is_locked_without_the_others_behind_its_address() {
    let mut table = table(Repeat::Keep);
    let bob = flow("192.0.2.7:1025", Some("bob"));
    assert!(matches!(table.offend(&bob, &virus(), 0), Outcome::Created(_)));
    let eve = flow("192.0.2.7:1026", Some("eve"));
    let of = |table: &mut LockTable, flow: &Flow| {
        table.meet(flow.client.ip(), flow.identity.as_ref(), 1).map(|lock| lock.refused)
    };
    assert_eq!(of(&mut table, &bob), Some(1));
    assert_eq!(of(&mut table, &bob), Some(2), "counted");
    assert_eq!(of(&mut table, &eve), None);
    assert_eq!(found(&table, "192.0.2.7", 1), None);
    table.add(lock("192.0.2.0/24", None), 0).unwrap();
    assert_eq!(of(&mut table, &eve), Some(1), "whoever it is");
}

#[test]
fn what_is_exempt_is_never_held_off() {
    let mut table = table(Repeat::Keep);
    table.set_rules(Locks { exempt: vec![Network(net("10.1.0.0/16"))], ..table.rules.clone() });
    assert!(matches!(table.add(lock("10.1.2.0/24", None), 0), Err(Refused::Exempt(_))));
    assert_eq!(table.offend(&flow("10.1.2.3:1025", None), &virus(), 0), Outcome::Spared);
    assert_eq!(table.offend(&flow("10.1.2.3:1025", Some("bob")), &virus(), 0), Outcome::Spared);
    table.add(lock("10.0.0.0/8", None), 0).unwrap();
    assert_eq!(found(&table, "10.1.2.3", 0), None);
    assert!(found(&table, "10.2.2.3", 0).is_some());
    assert_eq!(table.exempt(net("10.2.2.3/32")), Ok(true));
    assert_eq!(found(&table, "10.2.2.3", 0), None, "it was locked before");
    assert!(table.unexempt(net("10.2.2.3/32")) && !table.unexempt(net("10.2.2.3/32")));
    assert!(found(&table, "10.2.2.3", 0).is_some());
}

#[test]
fn operators_exempt_a_bounded_number_of_networks() {
    let mut table = LockTable::default();
    for number in 0..u8::try_from(MOST_EXEMPT).unwrap() {
        table.exempt(IpNet::from(IpAddr::from([192, 0, 2, number]))).unwrap();
    }
    assert_eq!(table.exempt(net("10.0.0.0/8")), Err(Refused::TooManyExempt));
    assert_eq!(table.exempt(net("192.0.2.1/32")), Ok(false), "it is exempt already");
}

#[test]
fn a_new_lock_of_a_network_replaces_the_old_one_and_its_end() {
    let mut table = LockTable::default();
    table.add(lock("10.0.0.0/8", Some(5)), 0).unwrap();
    table.add(lock("10.0.0.0/8", Some(500)), 1).unwrap();
    assert_eq!(table.expire(6, 9), []);
    assert_eq!(table.add(lock("11.0.0.0/8", Some(5)), 5), Err(Refused::Over));
}

#[test]
fn only_what_is_configured_locks_and_each_cause_as_configured() {
    let mut table = table(Repeat::Keep);
    let client = flow("192.0.2.7:1025", None);
    assert_eq!(table.offend(&client, &Offence::EarlyTalk, 0), Outcome::Spared);
    let Outcome::Created(lock) = table.offend(&client, &virus(), 10) else { unreachable!("a lock") };
    assert_eq!((lock.cause, lock.detail.as_str(), lock.until), (Cause::Virus, "Eicar", Some(70)));
    assert_eq!((lock.action, lock.session), (LockAction::Reset, Some(client.id)));

    let rule = CauseRule {
        cause: Cause::Virus,
        duration: Some(LockSpan::Forever),
        action: Some(LockAction::Reject),
    };
    table.set_rules(Locks { by_cause: vec![rule], ..table.rules.clone() });
    let other = flow("192.0.2.8:1025", None);
    let Outcome::Created(lock) = table.offend(&other, &virus(), 10) else { unreachable!("a lock") };
    assert_eq!((lock.action, lock.until), (LockAction::Reject, None));
}

#[test]
fn a_further_offence_keeps_the_end_of_the_lock_or_renews_it() {
    let client = flow("192.0.2.7:1025", None);
    let mut keeping = table(Repeat::Keep);
    keeping.offend(&client, &virus(), 0);
    assert_eq!(keeping.offend(&client, &virus(), 30), Outcome::Held);
    assert_eq!(keeping.expire(60, 9).len(), 1);
    assert!(matches!(keeping.offend(&client, &virus(), 61), Outcome::Created(_)), "it is locked anew");

    let mut renewing = table(Repeat::Renew);
    renewing.offend(&client, &virus(), 0);
    let Outcome::Renewed(lock) = renewing.offend(&client, &virus(), 30) else { unreachable!("renewed") };
    assert_eq!((lock.until, lock.since, lock.offences), (Some(90), 0, 2));
    assert_eq!(renewing.expire(89, 9), []);
    assert_eq!(renewing.expire(90, 9).len(), 1);
}

#[test]
fn no_offence_changes_an_operators_lock() {
    let mut table = table(Repeat::Renew);
    table.add(lock("192.0.2.7", Some(40)), 0).unwrap();
    assert_eq!(table.offend(&flow("192.0.2.7:1025", None), &virus(), 30), Outcome::Held);
    assert_eq!(table.expire(40, 9).len(), 1);
}
