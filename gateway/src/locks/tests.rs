//! Locks with their file, and on their way to the kernel and to a successor.

use tokio::time::timeout;

use super::*;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::flow::SessionId;
use crate::ipc::lock::LockChange;

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

#[tokio::test]
async fn locks_are_told_to_the_kernel_and_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let (requests, mut told) = mpsc::channel(16);
    let locks = Locks::open(Some(path.clone()), config::Locks::default(), requests.clone());
    locks.add(who("10.1.2.3/8"), LockAction::Reject, None, "spam".to_owned(), true).await.unwrap();
    let hour = Some(Duration::from_secs(3600));
    locks.add(who("2001:db8::/32"), LockAction::Drop, hour, String::new(), false).await.unwrap();
    locks.add(who("192.0.2.7-bob"), LockAction::Drop, hour, String::new(), false).await.unwrap();
    let Some(Request::Order(order)) = told.recv().await else { unreachable!("a lock is set") };
    assert_eq!(set(&order), ["10.0.0.0/8".parse::<IpNet>().unwrap()]);
    assert!(matches!(told.recv().await, Some(Request::Order(LockOrder::Cut { .. }))));
    locks.set_exempt("10.7.0.0/16".parse().unwrap(), true).await.unwrap();
    locks.save().await;

    let again = Locks::open(Some(path), config::Locks::default(), requests);
    let found = again.find(&flow("10.9.9.9")).unwrap();
    assert_eq!((found.action, found.until, found.detail.as_str()), (LockAction::Reject, None, "spam"));
    assert!(again.find(&flow("10.7.9.9")).is_none(), "exempt");
    let told: Vec<IpNet> = again.snapshot().iter().flat_map(set).collect();
    assert_eq!(told.len(), 2, "the kernel knows of no identities");
    assert_eq!(again.clear().await, 3);
    assert!(again.find(&flow("10.9.9.9")).is_none());
}

#[tokio::test]
async fn an_offence_that_finds_no_room_on_the_way_is_told_a_little_later() {
    let (requests, mut told) = mpsc::channel(1);
    let rules = config::Locks { lock_on: vec![Cause::Virus], ..config::Locks::default() };
    let locks = Locks::open(None, rules, requests);
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

/// Locks without a file, whose requests are not carried out.
fn idle() -> (Locks, mpsc::Receiver<Request>) {
    let (requests, told) = mpsc::channel(64);
    let rules = config::Locks { lock_on: vec![Cause::Virus], ..config::Locks::default() };
    (Locks::open(None, rules, requests), told)
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
async fn a_process_that_takes_over_learns_what_it_did_not_find_in_the_file() {
    let ((old, mut told), (mut new, _requests)) = (idle(), idle());
    let (first, second) = (who("10.0.0.0/8"), who("10.1.0.0/16"));
    // The new one has found the first in the file, and not that it is removed.
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
    let held: Vec<String> = new.lock().all().map(|lock| lock.who.to_string()).collect();
    assert_eq!(held, ["10.1.0.0/16", "2001:db8::/64"]);
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
