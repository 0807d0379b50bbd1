//! What becomes of segments, and of messages in old ones.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::disk::{Operation, queue_on};
use super::*;
use crate::clock;

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_all_taken_and_their_segments_go_with_them() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let first = queue(&path);
    let accepted = (0..200).map(|number| {
        let queue = first.clone();
        tokio::spawn(
            async move { (number, queue.accept(envelope(1), vec![text(number).into()]).await.unwrap()) },
        )
    });
    let mut ids = Vec::new();
    for accepted in accepted.collect::<Vec<_>>() {
        ids.push(accepted.await.unwrap());
    }
    for (number, id) in &ids {
        assert_eq!(content(&first, *id).await, text(*number));
    }
    assert_eq!(first.counts(), Counts { ready: 200, deferred: 0, held: 0 });
    assert!(first.settled().await);
    drop(first);
    wait_for_locks(&path).await;

    let second = queue(&path);
    assert_eq!(second.counts().ready, 200);
    assert_eq!(second.take(clock::wall(), 1_000).len(), 200);
    second.accept(envelope(1), vec![text(1).into()]).await.unwrap();
    for (_, id) in &ids {
        second.settle(*id, &[0]);
    }
    second.maintain().await;
    assert_eq!(files(&path, "segment").len(), 1, "only the one with the last message");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_written_again_keep_what_was_said_of_them() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let first = queue(&path);
    let id = first.accept(envelope(3), vec![text(1).into()]).await.unwrap();
    let gone = first.accept(envelope(1), vec![text(2).into()]).await.unwrap();
    first.settle(id, &[2]);
    first.set_standing(id, Standing::Deferred(1_900_000_000_000));
    first.set_warned(id);
    for id in [id, gone] {
        let stored = first.read(id).await.unwrap();
        let written =
            first.inner.write_again(id, stored.envelope, vec![content(&first, id).await.into()]).unwrap();
        // What is said meanwhile counts for the new record too.
        if id == gone {
            first.remove(gone);
        } else {
            first.settle(id, &[0]);
        }
        let place = written.await.unwrap().unwrap();
        assert_eq!(first.inner.index().moved(id, place), id != gone);
    }
    assert_eq!(content(&first, id).await, text(1));
    assert!(first.settled().await);
    drop(first);
    wait_for_locks(&path).await;
    let again = queue(&path);
    assert_eq!(again.find(gone), None);
    let found = again.find(id).unwrap();
    assert_eq!((found.recipients, found.standing), (1, Standing::Deferred(1_900_000_000_000)));
    let stored = again.read(id).await.unwrap();
    assert_eq!((stored.settled, stored.warned), (vec![0, 2], true));
}

/// Has a message taken in a segment of its own.
async fn take_large(queue: &Queue, number: usize) -> QueueId {
    let mut large = queue.begin(envelope(1)).await.unwrap();
    large.write(text(number).into()).await.unwrap();
    large.finish().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_cannot_be_removed_are_removed_later_and_bring_nothing_back() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let mut old = Vec::new();
    // Three generations.
    for number in 1..=3 {
        let earlier = queue(&path);
        old.push(take_large(&earlier, number).await);
        drop(earlier);
        wait_for_locks(&path).await;
    }
    let left = files(&path, "segment");
    let fails = Arc::new(AtomicBool::new(true));
    let disk = Arc::clone(&fails);
    let queue = queue_on(&path, move |_, operation| {
        if matches!(operation, Operation::Remove) && disk.load(Ordering::SeqCst) {
            return Err(Errno::EIO.into());
        }
        Ok(())
    });
    let locks = files(&path, "lock");
    for id in &old {
        queue.settle(*id, &[0]);
    }
    assert!(queue.settled().await);
    for _ in 0..3 {
        queue.maintain().await;
        assert!(left.iter().all(|segment| segment.exists()));
        // Their generations are not free, or another would find their messages.
        assert_eq!(files(&path, "lock"), locks);
        assert_eq!(queue.counts(), Counts::default(), "a message came back");
    }
    fails.store(false, Ordering::SeqCst);
    fs::remove_file(&left[1]).unwrap();
    queue.maintain().await;
    assert!(left.iter().all(|segment| !segment.exists()));
    // The last of them is freed with the next.
    assert_eq!(files(&path, "lock"), locks[2..]);
    assert_eq!(queue.counts(), Counts::default());
}
