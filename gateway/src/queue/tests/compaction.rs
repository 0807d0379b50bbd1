//! What becomes of segments, and of messages in old ones.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::errno::Errno;

use super::disk::{Gate, Operation, queue_behind, queue_on};
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
        let kept = written.await.unwrap().unwrap();
        assert_eq!(first.inner.index().moved(id, kept.place), id != gone);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_its_session_has_not_heard_of_keeps_its_segment() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let gate = Arc::new(Gate::default());
    let queue = queue_behind(&path, &gate);
    let first = queue.accept(envelope(1), vec![text(1).into()]).await.unwrap();
    queue.settle(first, &[0]);
    assert!(queue.settled().await);
    gate.shut();
    let mut unheard = Box::pin(queue.accept(envelope(1), vec![text(2).into()]));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut unheard).await.is_err());
    gate.open();
    assert!(queue.settled().await);
    // What is said of a large one stands behind it, in another segment.
    let large = take_large(&queue, 3).await;
    queue.settle(large, &[0]);
    assert!(queue.settled().await);
    queue.maintain().await;
    let id = unheard.await.unwrap();
    assert_eq!(content(&queue, id).await, text(2));
    queue.settle(id, &[0]);
    queue.maintain().await;
    assert_eq!(files(&path, "segment").len(), 1, "only the one that is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_with_nothing_but_marks_do_not_gather() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let queue = queue(&path);
    for number in 1..=5 {
        let id = take_large(&queue, number).await;
        queue.settle(id, &[0]);
        assert!(queue.settled().await);
    }
    queue.maintain().await;
    assert_eq!(files(&path, "segment").len(), 1, "only the one that is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_large_message_whose_segment_cannot_be_removed_does_not_come_back() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let fails = Arc::new(AtomicBool::new(false));
    let removals = Arc::new(AtomicUsize::new(0));
    let (disk, asked) = (Arc::clone(&fails), Arc::clone(&removals));
    let queue = queue_on(&path, move |_, operation| {
        if matches!(operation, Operation::Remove) {
            asked.fetch_add(1, Ordering::SeqCst);
        }
        let fails =
            disk.load(Ordering::SeqCst) && matches!(operation, Operation::Remove | Operation::SyncNames);
        if fails { Err(Errno::EIO.into()) } else { Ok(()) }
    });
    let kept = queue.accept(envelope(1), vec![text(1).into()]).await.unwrap();
    let mut large = queue.begin(envelope(1)).await.unwrap();
    large.write(text(2).into()).await.unwrap();
    let [_, segment] = &files(&path, "segment")[..] else { unreachable!("one of many, one of its own") };
    fails.store(true, Ordering::SeqCst);
    assert!(large.finish().await.is_err());
    wait_until(async || removals.load(Ordering::SeqCst) > 0).await;
    assert!(segment.exists());
    fails.store(false, Ordering::SeqCst);
    queue.settle(kept, &[0]);
    // The segment is removed as soon as it can be.
    wait_until(async || {
        queue.maintain().await;
        files(&path, "segment").len() == 1
    })
    .await;
    assert_eq!(queue.counts(), Counts::default());
}
