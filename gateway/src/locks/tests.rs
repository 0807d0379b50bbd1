//! Locks with their store, and on their way to the kernel and to a successor.

use std::collections::BTreeSet;
use std::path::Path;

use tokio::time::timeout;

use super::*;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::flow::SessionId;
use crate::ipc::lock::LockChange;
use crate::store::{Health, News, Table};

fn flow(client: &str) -> Flow {
    let client = ClientAddr::new(format!("{client}:1025").parse().unwrap());
    let destination = OriginalDst::new("198.51.100.1:25".parse().unwrap());
    Flow::new(SessionId::next(clock::wall()), client, destination)
}

fn who(text: &str) -> Who {
    text.to_owned().try_into().unwrap()
}

fn virus() -> Offence {
    Offence::Virus { signature: "Eicar".to_owned() }
}

/// The networks that the kernel is told to lock.
fn set(order: &LockOrder) -> Vec<IpNet> {
    let LockOrder::Set { locks } = order else { return Vec::new() };
    locks.iter().map(|lock| lock.net).collect()
}

fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// Locks with a store in `folder`, whose requests are not carried out.
fn open(folder: &Path) -> (Locks, mpsc::Receiver<Request>) {
    let (requests, told) = mpsc::channel(64);
    let (store, mut contents, _) = Store::open(folder);
    let rules = config::Locks { lock_on: vec![Cause::Virus], ..config::Locks::default() };
    (Locks::new(rules, store, &mut contents, requests), told)
}

fn held(locks: &Locks) -> Vec<String> {
    locks.lock().all().map(|lock| lock.who.to_string()).collect()
}

#[tokio::test]
async fn locks_are_told_to_the_kernel_and_outlive_the_process() {
    let folder = folder();
    let (locks, mut told) = open(folder.path());
    locks.add(who("10.1.2.3/8"), LockAction::Reject, None, "spam".to_owned(), true).await.unwrap();
    let hour = Some(Duration::from_secs(3600));
    locks.add(who("2001:db8::/32"), LockAction::Drop, hour, String::new(), false).await.unwrap();
    locks.add(who("192.0.2.7-bob"), LockAction::Drop, hour, String::new(), false).await.unwrap();
    let Some(Request::Order(order)) = told.recv().await else { unreachable!("a lock is set") };
    assert_eq!(set(&order), ["10.0.0.0/8".parse::<IpNet>().unwrap()]);
    assert!(matches!(told.recv().await, Some(Request::Order(LockOrder::Cut { .. }))));
    locks.set_exempt("10.7.0.0/16".parse().unwrap(), true).await.unwrap();
    // An offence is kept soon, an operator's word at once.
    assert!(matches!(locks.offend(&flow("192.0.2.9"), &virus()), Outcome::Created(_)));
    locks.store.flush().await;

    let (again, _) = open(folder.path());
    let found = again.find(&flow("10.9.9.9")).unwrap();
    assert_eq!((found.action, found.until, found.detail.as_str()), (LockAction::Reject, None, "spam"));
    assert!(again.find(&flow("10.7.9.9")).is_none(), "exempt");
    let told: Vec<IpNet> = again.snapshot().iter().flat_map(set).collect();
    assert_eq!(told.len(), 3, "the kernel knows of no identities");
    assert_eq!(again.clear().await, 4);
    assert!(again.find(&flow("10.9.9.9")).is_none());
    again.set_exempt("10.7.0.0/16".parse().unwrap(), false).await.unwrap();
    again.store.flush().await;
    let (empty, _) = open(folder.path());
    assert!(empty.is_empty() && empty.exempt().is_empty());
}

#[tokio::test]
async fn what_is_removed_or_over_is_in_the_store_no_more() {
    let folder = folder();
    let (locks, _told) = open(folder.path());
    for (client, span) in
        [("192.0.2.1", None), ("192.0.2.2", Some(Duration::from_secs(1))), ("192.0.2.3", None)]
    {
        locks.add(who(client), LockAction::Drop, span, String::new(), false).await.unwrap();
    }
    assert!(locks.remove(&who("192.0.2.1")).await);
    locks.store.flush().await;
    let now = seconds(clock::wall());
    let rows = |folder: &Path| {
        let (_, mut contents, _) = Store::open(folder);
        contents.take::<String, Lock>(Table::Locks).into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(rows(folder.path()), ["192.0.2.2", "192.0.2.3"]);
    assert_eq!(locks.expire(now + 2).len(), 1);
    locks.store.flush().await;
    assert_eq!(rows(folder.path()), ["192.0.2.3"]);

    // One that ends while no gateway runs.
    let over = Lock { until: Some(now), ..locks.lock().get(&who("192.0.2.3")).unwrap().clone() };
    locks.store.put(Table::Locks, "192.0.2.4".to_owned(), &over);
    locks.store.flush().await;
    let (again, _) = open(folder.path());
    assert_eq!(held(&again), ["192.0.2.3"]);
    again.store.flush().await;
    assert_eq!(rows(folder.path()), ["192.0.2.3"]);
}

#[tokio::test]
async fn a_row_that_makes_no_sense_takes_no_other_lock_away() {
    let folder = folder();
    let (locks, _told) = open(folder.path());
    locks.add(who("192.0.2.1"), LockAction::Drop, None, String::new(), false).await.unwrap();
    for (key, value) in [("192.0.2.2", "nonsense"), ("nobody", "nonsense")] {
        locks.store.put(Table::Locks, key.to_owned(), &value);
    }
    locks.store.put(Table::LockExemptions, "nowhere".to_owned(), &());
    locks.store.put(Table::LockExemptions, "10.0.0.0/8".to_owned(), &());
    locks.store.flush().await;
    let (again, _) = open(folder.path());
    assert_eq!(held(&again), ["192.0.2.1"]);
    assert_eq!(again.exempt(), ["10.0.0.0/8".parse::<IpNet>().unwrap()]);
}

#[tokio::test]
async fn a_store_that_is_read_late_brings_its_locks_and_takes_none_away() {
    let folder = folder();
    let (locks, _told) = open(folder.path());
    for client in ["192.0.2.1", "192.0.2.2"] {
        locks.add(who(client), LockAction::Drop, None, "kept".to_owned(), false).await.unwrap();
    }
    locks.store.flush().await;
    let (_, contents, _) = Store::open(folder.path());
    let (late, _told) = idle();
    late.add(who("192.0.2.1"), LockAction::Reset, None, "mine".to_owned(), false).await.unwrap();
    late.learn(&mut News::Contents(contents));
    assert_eq!(held(&late), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(late.find(&flow("192.0.2.1")).unwrap().detail, "mine");
    assert!(late.untold.load(Ordering::Relaxed), "the kernel is to be told of all");
}

/// What an earlier release has written.
const EARLIER: &str = r#"{"locks":[
    {"who":"192.0.2.0/24","action":"drop","cause":"virus","detail":"Eicar","session":null,"since":5,"until":null,
     "offences":2,"refused":1},
    {"who":"192.0.2.7-bob","action":"reject","cause":"operator","detail":"","session":null,"since":5,"until":9,
     "offences":0,"refused":0}],
    "exempt":["10.0.0.0/8"]}"#;

#[tokio::test]
async fn the_file_of_an_earlier_release_is_imported_once() {
    let folder = folder();
    let file = folder.path().join(FILE);
    std::fs::write(&file, EARLIER).unwrap();
    let (mut locks, _told) = open(folder.path());
    locks.await_rest();
    locks.import(&file);
    assert_eq!(held(&locks), ["192.0.2.0/24"], "the other is over");
    locks.finish_import().await;
    assert!(file.exists(), "an older process may still write it");
    assert!(locks.inherit(Vec::new(), true).len() == 3);
    locks.finish_import().await;
    assert!(!file.exists() && folder.path().join("locks.json.imported").exists());
    assert!(locks.remove(&who("192.0.2.0/24")).await);
    locks.store.flush().await;

    let (again, _told) = open(folder.path());
    again.import(&file);
    assert!(again.is_empty(), "removed since");
    assert_eq!(again.exempt(), ["10.0.0.0/8".parse::<IpNet>().unwrap()]);
}

#[tokio::test]
async fn what_of_such_a_file_makes_no_sense_is_left_out_alone() {
    let folder = folder();
    let file = folder.path().join(FILE);
    let (locks, _told) = open(folder.path());
    std::fs::write(&file, EARLIER.replace("192.0.2.7-bob", "nobody").replace("10.0.0.0/8", "nowhere"))
        .unwrap();
    locks.import(&file);
    assert_eq!((held(&locks), locks.exempt().len()), (vec!["192.0.2.0/24".to_owned()], 0));
    let (locks, _told) = open(folder.path());
    std::fs::write(&file, "no list at all").unwrap();
    locks.import(&file);
    locks.finish_import().await;
    assert!(locks.is_empty() && file.exists(), "for the operator to mend");
}

#[tokio::test]
async fn an_import_waits_for_a_store_that_cannot_be_written() {
    let folder = folder();
    let file = folder.path().join(FILE);
    std::fs::write(&file, EARLIER).unwrap();
    let (locks, _told) = open(&folder.path().join("there/is/none"));
    locks.import(&file);
    locks.finish_import().await;
    assert!(matches!(locks.store.health(), Health::MemoryOnly { .. }));
    assert!(file.exists() && held(&locks) == ["192.0.2.0/24"]);
}

#[tokio::test]
async fn an_offence_that_finds_no_room_on_the_way_is_told_a_little_later() {
    let folder = folder();
    let (mut locks, _) = open(folder.path());
    let (requests, mut told) = mpsc::channel(1);
    locks.requests = requests;
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        let outcome = locks.offend(&flow(client), &virus());
        assert!(matches!(outcome, Outcome::Created(_)), "{client}");
    }
    let told = async {
        while let Some(request) = told.recv().await {
            if let Request::Order(order) = request
                && set(&order).len() == 3
            {
                return;
            }
        }
    };
    tokio::select! {
        () = locks.run() => unreachable!("it goes on"),
        told = timeout(Duration::from_secs(60), told) => told.unwrap(),
    }
}

/// What the kernel holds after such orders.
#[derive(Default)]
struct Kernel {
    locks: BTreeSet<IpNet>,
    /// What was told since all is told anew.
    told: Option<BTreeSet<IpNet>>,
}

impl Kernel {
    fn carry_out(&mut self, order: &LockOrder) {
        match order {
            LockOrder::Begin => self.told = Some(BTreeSet::new()),
            LockOrder::Set { locks } => {
                let nets = locks.iter().map(|lock| lock.net);
                self.told.iter_mut().for_each(|told| told.extend(nets.clone()));
                self.locks.extend(nets);
            }
            LockOrder::Remove { nets } => self.locks.retain(|net| !nets.contains(net)),
            LockOrder::Complete => {
                let told = self.told.take().unwrap_or_default();
                self.locks.retain(|net| told.contains(net));
            }
            LockOrder::Exempt { .. } | LockOrder::Cut { .. } => {}
        }
    }
}

#[tokio::test]
async fn what_is_changed_while_the_kernel_is_told_of_all_is_so_in_the_end() {
    let (mut locks, _) = idle();
    for number in 0..BATCH * 6 {
        let lock = Lock { who: who(&format!("10.0.{}.{}", number >> 8, number & 255)), ..lock() };
        locks.lock().add(lock, 1).unwrap();
    }
    let (requests, mut told) = mpsc::channel(1);
    locks.requests = requests;
    let mut kernel = Kernel::default();
    let begun = tokio::sync::Notify::new();
    let change = async {
        begun.notified().await;
        // One that was told, one that is still to be told, and one behind all.
        for gone in ["10.0.0.0", "10.0.4.168"] {
            assert!(locks.remove(&who(gone)).await);
        }
        locks.add(who("10.9.9.9"), LockAction::Drop, None, String::new(), false).await.unwrap();
    };
    let told_all = async { tokio::join!(locks.tell_all(), change) };
    let listen = async {
        while let Some(request) = told.recv().await {
            let Request::Order(order) = request else { continue };
            kernel.carry_out(&order);
            if !set(&order).is_empty() {
                begun.notify_one();
            }
        }
    };
    tokio::select! {
        _ = told_all => {}
        () = listen => unreachable!("there is more"),
    }
    while let Ok(Request::Order(order)) = told.try_recv() {
        kernel.carry_out(&order);
    }
    let table: BTreeSet<IpNet> = locks.lock().all().map(|lock| lock.who.net()).collect();
    let (stale, lacking) = (kernel.locks.difference(&table), table.difference(&kernel.locks));
    assert_eq!((stale.count(), lacking.count(), kernel.locks.len()), (0, 0, BATCH * 6 - 1));
}

fn lock() -> Lock {
    Lock {
        who: who("192.0.2.1"),
        action: LockAction::Drop,
        cause: Cause::Virus,
        detail: String::new(),
        session: None,
        since: 0,
        until: None,
        offences: 1,
        refused: 0,
        changed: 0,
    }
}

#[tokio::test]
async fn others_have_their_turn_while_all_locks_are_removed() {
    let folder = folder();
    let (locks, _told) = open(folder.path());
    let all = EXPIRED * 3;
    for number in 0..all {
        let lock = Lock { who: who(&format!("10.0.{}.{}", number >> 8, number & 255)), ..lock() };
        locks.lock().add(lock, 1).unwrap();
    }
    let others = async {
        let mut seen = BTreeSet::new();
        while seen.len() < 3 {
            tokio::task::yield_now().await;
            seen.insert(locks.len());
        }
        // Behind what was removed already.
        locks.offend(&flow("10.0.0.1"), &virus());
        seen
    };
    let (count, seen) = tokio::join!(locks.clear(), others);
    assert_eq!(count, all);
    assert!(seen.iter().any(|left| (1..all).contains(left)), "{seen:?}");
    locks.store.flush().await;
    assert_eq!((held(&locks), held(&open(folder.path()).0)), (vec!["10.0.0.1".to_owned()], held(&locks)));
}

#[tokio::test]
async fn whoever_is_locked_again_in_the_moment_his_lock_is_over_is_so_in_the_store() {
    let folder = folder();
    let (mut locks, _) = open(folder.path());
    let now = seconds(clock::wall());
    locks.lock().add(Lock { until: Some(now + 1), ..lock() }, now).unwrap();
    let (requests, mut told) = mpsc::channel(1);
    // The way to the kernel is full.
    requests.try_send(Request::Order(LockOrder::Begin)).unwrap();
    locks.requests = requests;
    let again = async {
        while !locks.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(matches!(locks.offend(&flow("192.0.2.1"), &virus()), Outcome::Created(_)));
        let mut orders = Vec::new();
        while !matches!(orders.last(), Some(LockOrder::Set { .. })) {
            if let Some(Request::Order(order)) = told.recv().await {
                orders.push(order);
            }
        }
    };
    tokio::select! {
        () = locks.run() => unreachable!("it goes on"),
        done = timeout(Duration::from_secs(60), again) => done.unwrap(),
    }
    locks.store.flush().await;
    assert_eq!(held(&open(folder.path()).0), ["192.0.2.1"]);
}

/// Locks that are kept nowhere.
fn idle() -> (Locks, mpsc::Receiver<Request>) {
    open(Path::new("/there/is/no/such/folder"))
}

/// All changes that a process has passed on.
fn passed_on(told: &mut mpsc::Receiver<Request>) -> Vec<LockChange> {
    let requests = std::iter::from_fn(|| told.try_recv().ok());
    let changes = requests.filter_map(|request| match request {
        Request::Bequeath { changes, .. } => Some(changes),
        Request::Order(_) | Request::Hits { .. } => None,
    });
    changes.flatten().collect()
}

#[tokio::test]
async fn a_process_that_takes_over_learns_what_it_did_not_find_in_the_store() {
    let ((old, mut told), (mut new, _requests)) = (idle(), idle());
    let (first, second) = (who("10.0.0.0/8"), who("10.1.0.0/16"));
    // The new one has found the first in the store, and not that it is removed.
    for locks in [&old, &new] {
        locks.add(first.clone(), LockAction::Drop, None, "spam".to_owned(), false).await.unwrap();
    }
    new.await_rest();
    assert!(timeout(Duration::from_millis(1), new.remove(&second)).await.is_err(), "not known yet");
    old.remove(&first).await;
    old.add(second.clone(), LockAction::Reset, None, "virus".to_owned(), false).await.unwrap();
    old.set_exempt("172.16.0.0/12".parse().unwrap(), true).await.unwrap();
    assert!(passed_on(&mut told).is_empty(), "nobody has taken over");
    old.bequeath().await;
    let orders = new.inherit(passed_on(&mut told), true);
    assert_eq!(set(&orders[0]), [second.net()]);
    assert_eq!(orders[1], LockOrder::Remove { nets: vec![first.net()] });
    assert_eq!(orders[2], LockOrder::Exempt { nets: vec!["172.16.0.0/12".parse().unwrap()] });
    // What a session finds that is still open in the old one.
    assert!(matches!(old.offend(&flow("[2001:db8::7]"), &virus()), Outcome::Created(_)));
    let orders = new.inherit(passed_on(&mut told), true);
    assert_eq!(set(&orders[0]), ["2001:db8::/64".parse::<IpNet>().unwrap()]);
    assert_eq!(held(&new), ["10.1.0.0/16", "2001:db8::/64"]);
}

#[tokio::test]
async fn a_process_whose_table_is_anothers_writes_no_row_any_more() {
    let folder = folder();
    let ((old, mut told), (new, _requests)) = (open(folder.path()), open(folder.path()));
    old.add(who("10.0.0.0/8"), LockAction::Drop, None, String::new(), false).await.unwrap();
    old.bequeath().await;
    assert_eq!(new.inherit(passed_on(&mut told), true).len(), 3);
    new.remove(&who("10.0.0.0/8")).await;
    new.store.flush().await;
    assert!(matches!(old.offend(&flow("192.0.2.1"), &virus()), Outcome::Created(_)));
    assert_eq!(old.clear().await, 2);
    old.store.flush().await;
    let (again, _) = open(folder.path());
    assert!(again.is_empty(), "{:?}", held(&again));
    let told = passed_on(&mut told);
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(new.inherit(told, true).len(), 3);
    assert!(new.is_empty());
}

#[tokio::test]
async fn what_was_changed_since_by_the_process_that_took_over_holds() {
    let (new, _requests) = idle();
    let net = who("10.0.0.0/8");
    new.add(net.clone(), LockAction::Drop, None, String::new(), false).await.unwrap();
    let orders = new.inherit(vec![LockChange::Lock { who: net, at: 1, lock: None }], true);
    assert_eq!(orders[1], LockOrder::Remove { nets: Vec::new() });
    assert!(new.find(&flow("10.1.1.1")).is_some());
}
