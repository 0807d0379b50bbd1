//! On real folders.

mod abandoned;
mod compaction;
mod debt;
mod disk;
mod faults;
mod takeover;

pub(crate) use disk::queue_that_fails_at;

use std::fs;
use std::path::PathBuf;

use nix::errno::Errno;
use tempfile::TempDir;

use super::*;

/// How soon writing is tried again here.
const AGAIN: Duration = Duration::from_millis(20);

fn envelope(recipients: usize) -> Envelope {
    let recipients = (0..recipients).map(|number| format!("r{number}@example.net"));
    Envelope { arrived: 1_700_000_000_000, ..Envelope::to(recipients) }
}

fn queue(folder: &Path) -> Queue {
    Queue::open(folder, ByteCount::new(0)).unwrap()
}

async fn content(queue: &Queue, id: QueueId) -> Vec<u8> {
    let mut reader = queue.read(id).await.unwrap().content.reader();
    let mut octets = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        octets.extend_from_slice(&piece);
    }
    octets
}

/// A content of its own for each `number`.
fn text(number: usize) -> Vec<u8> {
    format!("Subject: {number}\r\n\r\n")
        .into_bytes()
        .into_iter()
        .chain((0..400).map(|place| (place * number).to_le_bytes()[0]))
        .collect()
}

/// The files in the folder at `path` whose names end so, in order.
fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

/// The thread of a queue that was dropped ends soon, and its lock with it.
async fn wait_for_locks(path: &Path) {
    let folder = Folder::open(path).unwrap();
    wait_until(async || {
        files(path, "lock").iter().all(|lock| {
            let lock = folder.read(lock.file_name().unwrap());
            lock.unwrap().try_lock().is_ok()
        })
    })
    .await;
}

/// Waits until it is so.
async fn wait_until(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("it never is");
}

#[tokio::test]
async fn a_full_file_system_is_said_and_other_errors_are_not_called_so() {
    let parent = TempDir::new().unwrap();
    let queue = Queue::open(&parent.path().join("queue"), ByteCount::new(1 << 62)).unwrap();
    assert!(matches!(queue.accept(envelope(1), Vec::new()).await, Err(WriteError::NoSpace)));
    assert!(matches!(queue.begin(envelope(1)).await, Err(WriteError::NoSpace)));
    assert!(matches!(WriteError::from(io::Error::from(Errno::EDQUOT)), WriteError::NoSpace));
    assert!(matches!(WriteError::from(io::Error::from(Errno::EIO)), WriteError::Io(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_to_the_sender_is_remembered() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let first = queue(&path);
    let warned = first.accept(envelope(1), vec![text(1).into()]).await.unwrap();
    let other = first.accept(envelope(1), vec![text(2).into()]).await.unwrap();
    first.set_warned(warned);
    assert!(first.read(warned).await.unwrap().warned);
    assert!(first.settled().await);
    drop(first);
    wait_for_locks(&path).await;
    let again = queue(&path);
    for (id, expected) in [(warned, true), (other, false)] {
        assert_eq!(again.read(id).await.unwrap().warned, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_is_due_when_it_was_said_and_at_once_after_a_crash() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let first = queue(&path);
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let deferred = first.accept(envelope(1), vec![text(1).into()]).await.unwrap();
    let back = first.accept(envelope(1), vec![text(2).into()]).await.unwrap();
    assert_eq!(first.take(at(0), 9), [deferred, back]);
    first.defer(deferred, at(1_000));
    first.put_back(back);
    assert_eq!(first.take(at(999), 9), [back]);
    assert_eq!(first.next_due(), Some(at(1_000)));
    assert!(first.settled().await);
    drop(first);
    wait_for_locks(&path).await;
    // The one that was under way is as it was before.
    assert_eq!(queue(&path).take(at(999), 9), [back]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_message_is_given_back_as_it_is_whenever_its_claim_is_dropped() {
    let parent = TempDir::new().unwrap();
    let queue = queue(&parent.path().join("queue"));
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let id = queue.accept(envelope(1), vec![text(1).into()]).await.unwrap();
    let deferred = Standing::Deferred(1_000_000);
    for (before, meanwhile, after) in [
        (Standing::Ready, None, Standing::Ready),
        (deferred, None, deferred),
        (Standing::Held, None, Standing::Held),
        (Standing::Held, Some(Standing::Ready), Standing::Ready),
        (Standing::Ready, Some(Standing::Held), Standing::Held),
        (deferred, Some(Standing::Ready), Standing::Ready),
    ] {
        queue.set_standing(id, before);
        let claim = queue.claim(id).unwrap();
        assert!(queue.claim(id).is_none(), "{before:?}");
        if let Some(standing) = meanwhile {
            queue.set_standing(id, standing);
        }
        assert_eq!(queue.take(at(2_000), 9), [], "{before:?} {meanwhile:?}");
        drop(claim);
        assert_eq!(queue.find(id).unwrap().standing, after, "{before:?} {meanwhile:?}");
        let counts = queue.counts();
        assert_eq!(counts.ready + counts.deferred + counts.held, 1, "{before:?} {meanwhile:?}");
        let due = if after == Standing::Held { Vec::new() } else { vec![id] };
        assert_eq!(queue.take(at(2_000), 9), due, "{before:?} {meanwhile:?}");
        queue.put_back(id);
    }
    queue.set_standing(id, Standing::Ready);
    let claim = queue.claim(id).unwrap();
    claim.remove();
    assert_eq!((queue.find(id), queue.take(at(2_000), 9)), (None, vec![]));
}
