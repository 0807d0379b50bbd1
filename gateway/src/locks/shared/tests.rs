//! Gateways that tell each other of their locks, without a server between them.

use std::path::Path;

use tokio::sync::mpsc;

use super::*;
use crate::clock;
use crate::config::file::LockAction;
use crate::ipc::lock::{LockChange, LockOrder};
use crate::locks::kernel::Request;
use crate::policy::lock::DETAIL_LENGTH;
use crate::policy::lock::Lock;
use crate::store::{Contents, Table};

/// Locks that are shared and kept in `folder`, whose requests are not carried out.
fn open(folder: &Path) -> (Locks, mpsc::Receiver<Request>) {
    let (requests, orders) = mpsc::channel(64);
    let (store, mut contents, _) = Store::open(folder);
    let locks = Locks::new(file::Locks::default(), store, &mut contents, requests);
    locks.sharing().on = true;
    (locks, orders)
}

/// Locks that are shared and kept nowhere.
fn gateway() -> (Locks, mpsc::Receiver<Request>) {
    open(Path::new("/there/is/no/such/folder"))
}

fn who(text: &str) -> Who {
    text.to_owned().try_into().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// What an operator does; these tests have no runtime otherwise, as the thread that speaks with Redis.
fn operator<T>(deed: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(deed)
}

fn lock(locks: &Locks, text: &str) {
    operator(locks.add(who(text), LockAction::Drop, None, "spam".to_owned(), false)).unwrap();
}

fn held(locks: &Locks) -> Vec<String> {
    locks.lock().all().map(|lock| lock.who.to_string()).collect()
}

/// One tells the other, who keeps what was said.
fn tell(one: &Locks, other: &Locks) -> Vec<SharedRow> {
    let rows = one.untold(9);
    one.told(&rows, 0);
    other.merge(rows.clone(), 0);
    rows
}

fn row(name: &str, version: u64, value: &str) -> SharedRow {
    SharedRow { name: name.to_owned(), version, end: None, value: Some(value.to_owned()) }
}

/// The orders that the kernel's side was given.
fn orders(told: &mut mpsc::Receiver<Request>) -> Vec<LockOrder> {
    let requests = std::iter::from_fn(|| told.try_recv().ok());
    requests
        .filter_map(|request| if let Request::Order(order) = request { Some(order) } else { None })
        .collect()
}

#[test]
fn what_one_changes_is_so_at_the_other_and_comes_back_as_known() {
    let ((one, _told), (other, _orders)) = (gateway(), gateway());
    for client in ["192.0.2.1", "2001:db8::/64", "192.0.2.7-bob"] {
        lock(&one, client);
    }
    operator(one.set_exempt(net("10.0.0.0/8"), true)).unwrap();
    let rows = tell(&one, &other);
    assert_eq!(rows.len(), 4);
    assert_eq!(held(&other), ["192.0.2.1", "2001:db8::/64", "192.0.2.7-bob"]);
    assert_eq!(other.exempt(), [net("10.0.0.0/8")]);
    one.merge(rows, 0);
    assert!(one.untold(9).is_empty() && other.untold(9).is_empty());

    assert!(operator(other.remove(&who("2001:db8::/64"))));
    operator(other.set_exempt(net("10.0.0.0/8"), false)).unwrap();
    tell(&other, &one);
    assert_eq!(held(&one), ["192.0.2.1", "192.0.2.7-bob"]);
    assert!(one.exempt().is_empty());
    assert_eq!(operator(one.clear()), 2);
    tell(&one, &other);
    assert!(other.is_empty());
}

#[test]
fn of_two_changes_the_later_one_counts_whichever_is_heard_first() {
    let ((one, _told), (other, _orders)) = (gateway(), gateway());
    lock(&one, "192.0.2.1");
    let before = tell(&one, &other);
    assert!(operator(one.remove(&who("192.0.2.1"))));
    // The other hears of it late, and the first is told of the lock again meanwhile.
    one.merge(before.clone(), 0);
    assert!(one.is_empty());
    assert_eq!(one.untold(9)[0].value, None);
    lock(&other, "192.0.2.1");
    let after = tell(&other, &one);
    assert_eq!(held(&one), ["192.0.2.1"]);
    assert!(one.untold(9).is_empty(), "it was removed before");
    other.merge(before, 0);
    assert_eq!(other.untold(9), after, "whoever has an older one is told");
}

#[test]
fn clocks_that_differ_let_no_change_count_for_older_than_what_it_changes() {
    let (locks, _told) = gateway();
    let ahead = clock::wall_millis() + 3_600_000;
    let value = r#"{"who":"192.0.2.1","action":"drop","cause":"virus","detail":"","session":null,"since":5,
        "until":null,"offences":1,"refused":0}"#;
    locks.merge(vec![row("lock:192.0.2.1", ahead, value)], 0);
    assert!(operator(locks.remove(&who("192.0.2.1"))));
    let told = locks.untold(9);
    assert!(told[0].version > ahead && told[0].value.is_none(), "{told:?}");
    lock(&locks, "192.0.2.2");
    assert!(locks.untold(9)[1].version > ahead);
}

#[test]
fn a_removal_outlives_the_process_until_others_know() {
    let folder = tempfile::tempdir().unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder.path(), private).unwrap();
    let (one, _told) = open(folder.path());
    lock(&one, "192.0.2.1");
    operator(one.set_exempt(net("10.0.0.0/8"), true)).unwrap();
    let before = one.untold(9);
    one.told(&before, 0);
    assert!(operator(one.remove(&who("192.0.2.1"))));
    one.store.flush_here();

    let (again, _told) = open(folder.path());
    again.merge(before.clone(), 0);
    assert!(again.is_empty());
    let rows = again.untold(9);
    assert_eq!((rows.len(), rows[0].name.as_str(), &rows[0].value), (1, "lock:192.0.2.1", &None));
    again.told(&rows, 0);
    again.store.flush_here();
    let kept = |folder: &Path| -> Vec<(String, u64)> {
        let mut contents: Contents = Store::open(folder).1;
        contents.take(Table::LockRemovals)
    };
    assert!(kept(folder.path()).is_empty());
    assert_eq!(again.exempt(), [net("10.0.0.0/8")], "what the others know is not told again");
}

#[test]
fn all_that_the_others_have_not_is_told_once_all_of_theirs_is_read() {
    let ((one, _told), (other, _orders)) = (gateway(), gateway());
    for client in ["192.0.2.1", "192.0.2.2"] {
        lock(&one, client);
    }
    let both = one.untold(9);
    one.told(&both, 0);
    other.merge(both[..1].to_vec(), 0);
    // They meet at a server that has lost everything: the first tells what it has.
    one.begin();
    one.merge(other.untold(9), 0);
    one.complete();
    assert_eq!(one.untold(9), both);
    one.begin();
    one.merge(both[..1].to_vec(), 0);
    one.complete();
    assert_eq!(one.untold(1), both[1..]);
}

#[test]
fn what_makes_no_sense_is_counted_and_harms_nothing() {
    let (locks, _told) = gateway();
    let good = r#"{"who":"192.0.2.1","action":"drop","cause":"virus","detail":"","session":null,"since":5,
        "until":null,"offences":1,"refused":0}"#;
    let odd = [
        ("lock:192.0.2.9", "nonsense"),
        ("lock:192.0.2.9", r#"{"who":"192.0.2.9"}"#),
        ("lock:192.0.2.9/24", good),
        ("lock:192.0.2.9/32", good),
        ("lock:nobody", good),
        ("exempt:nowhere", "true"),
        ("exempt:10.0.0.1/8", "true"),
        ("another:192.0.2.9", good),
        ("", ""),
    ];
    let mut rows: Vec<_> = odd.map(|(name, value)| row(name, 7, value)).into();
    rows.push(row("lock:192.0.2.1", 7, good));
    locks.merge(rows, 2);
    assert_eq!(held(&locks), ["192.0.2.1"]);
    assert!(locks.exempt().is_empty());
    assert_eq!(locks.sharing().odd, 11);

    // Whose lock it is, says its name; how much is said of it has a ceiling.
    let long = good.replace(r#""detail":"""#, &format!(r#""detail":"{}""#, "ä".repeat(1_000)));
    locks.merge(vec![row("lock:192.0.2.2", 7, &long), row("exempt:0.0.0.0/0", 7, "true")], 0);
    let detail = locks.lock().get(&who("192.0.2.2")).unwrap().detail.len();
    assert_eq!(detail, DETAIL_LENGTH);
    let nets = (0..250).map(|number| row(&format!("exempt:10.0.{number}.0/24"), 7, "true")).collect();
    locks.merge(nets, 0);
    assert_eq!((locks.exempt().len(), locks.sharing().full), (200, 51));
}

#[test]
fn a_lock_that_is_over_is_neither_taken_nor_told() {
    let ((one, _told), (other, _orders)) = (gateway(), gateway());
    let second = Some(Duration::from_secs(1));
    operator(one.add(who("192.0.2.1"), LockAction::Drop, second, String::new(), false)).unwrap();
    let rows = one.untold(9);
    assert!(rows[0].end.is_some());
    assert_eq!(one.expire(u64::MAX).len(), 1);
    assert!(one.untold(9).is_empty());
    let ended = rows[0].value.as_ref().map(|value| value.replace(r#""until":"#, r#""until":1,"was":"#));
    other.merge(vec![SharedRow { value: ended, ..rows[0].clone() }], 0);
    assert!(other.is_empty());
}

#[test]
fn the_kernel_is_told_of_what_others_change_once_it_was_told_of_all() {
    let ((one, _told), (other, mut told)) = (gateway(), gateway());
    lock(&one, "192.0.2.1");
    tell(&one, &other);
    assert!(orders(&mut told).is_empty(), "it is in what is told at the start");
    let start = other.snapshot();
    assert!(
        matches!(&start[2], LockOrder::Set { locks } if locks[0].net == net("192.0.2.1/32")),
        "{start:?}"
    );
    lock(&one, "192.0.2.2");
    operator(one.remove(&who("192.0.2.1")));
    operator(one.set_exempt(net("10.0.0.0/8"), true)).unwrap();
    tell(&one, &other);
    let told = orders(&mut told);
    assert_eq!(told[0], LockOrder::Exempt { nets: vec![net("10.0.0.0/8")] });
    assert!(matches!(&told[1], LockOrder::Set { locks } if locks[0].net == net("192.0.2.2/32")), "{told:?}");
    assert_eq!(told[2], LockOrder::Remove { nets: vec![net("192.0.2.1/32")] });
}

#[test]
fn what_others_have_changed_since_is_not_undone_by_an_upgrade() {
    let ((old, mut told), (new, _orders), (other, _more)) = (gateway(), gateway(), gateway());
    lock(&old, "192.0.2.1");
    let rows = tell(&old, &other);
    new.merge(rows, 0);
    assert!(operator(other.remove(&who("192.0.2.1"))));
    let removal = tell(&other, &new);
    assert!(new.is_empty());
    // The older process has not heard of that when it hands the table over.
    operator(old.bequeath());
    let changes = std::iter::from_fn(|| told.try_recv().ok()).filter_map(|request| match request {
        Request::Bequeath { changes, .. } => Some(changes),
        Request::Order(_) | Request::Hits { .. } => None,
    });
    drop(new.inherit(changes.flatten().collect(), true));
    let claimed = new.untold(9);
    assert!(claimed.iter().all(|row| row.version < removal[0].version), "{claimed:?}");
    assert!(new.again(), "it asks what others have made of it");
    new.merge(removal, 0);
    assert!(new.is_empty() && new.untold(9).is_empty());

    // What sessions that are still open there find out has no version yet.
    operator(other.set_exempt(net("10.0.0.0/8"), true)).unwrap();
    tell(&other, &new);
    drop(new.inherit(vec![LockChange::Exempt { net: net("10.0.0.0/8"), exempt: true }], true));
    assert!(new.untold(9).is_empty(), "it is so already");
    let unversioned = Lock { changed: 0, ..rows_lock(&claimed[0]) };
    let change = LockChange::Lock { who: who("192.0.2.1"), at: unversioned.since, lock: Some(unversioned) };
    drop(new.inherit(vec![change], true));
    assert!(new.untold(9)[0].version > claimed[0].version);
}

fn rows_lock(row: &SharedRow) -> Lock {
    serde_json::from_str(row.value.as_ref().unwrap()).unwrap()
}

#[test]
fn what_is_being_changed_here_counts_for_newer_than_what_others_did_before() {
    let (mut locks, _told) = gateway();
    // The way to the kernel is full.
    let (requests, _orders) = mpsc::channel(1);
    requests.try_send(Request::Order(LockOrder::Begin)).unwrap();
    locks.requests = requests;
    let removal = SharedRow { value: None, ..row("lock:192.0.2.1", clock::wall_millis(), "") };
    std::thread::sleep(Duration::from_millis(2));
    let adding = locks.add(who("192.0.2.1"), LockAction::Drop, None, String::new(), false);
    operator(async { timeout(Duration::from_millis(20), adding).await }).unwrap_err();
    locks.merge(vec![removal], 0);
    assert_eq!(held(&locks), ["192.0.2.1"]);
    assert!(locks.untold(9)[0].value.is_some());
}
