//! What a disk is owed that takes no notes.

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

use super::disk::{Operation, queue_on};
use super::*;
use crate::queue::debt::MOST;

/// Octets of the smallest mark, with what it takes beside.
const LEAST: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_owed_so_much_and_takes_it_as_it_gets_room() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    // Octets that a write may have.
    let room = Arc::new(AtomicUsize::new(usize::MAX));
    let left = Arc::clone(&room);
    let first = queue_on(&path, move |_, operation| {
        let Operation::Write { pieces, .. } = operation else { return Ok(()) };
        let octets = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if octets > left.load(Ordering::Relaxed) { Err(Errno::ENOSPC.into()) } else { Ok(()) }
    });
    let id = first.accept(envelope(1), vec![text(1).into()]).await.unwrap();
    room.store(0, Ordering::Relaxed);
    let mut said = 0;
    while !first.is_behind() {
        assert!(said * LEAST < 2 * MOST, "{said} marks, and no end");
        said += 1;
        assert!(first.set_standing(id, Standing::Deferred(said as u64)));
    }
    assert!(said * LEAST > MOST / 10, "{said} marks are not too many");
    assert!(!first.settled().await);
    // All of it at once would not fit.
    room.store(256 * 1024, Ordering::Relaxed);
    tokio::time::sleep(2 * AGAIN).await;
    assert!(first.settled().await);
    assert!(!first.is_behind());
    drop(first);
    wait_for_locks(&path).await;
    assert_eq!(queue(&path).find(id).unwrap().standing, Standing::Deferred(said as u64));
}
