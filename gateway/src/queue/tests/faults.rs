//! Processes that die at every point, and operations that fail at every point.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

use super::disk::{Operation, queue_on};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_process_dies_nothing_that_was_taken_is_lost() {
    let mut at = 1;
    while with_fault(at, Fault::Death).await >= at {
        at += 1;
    }
    assert!(at > 10, "{at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_operation_fails_what_was_refused_is_not_there_and_the_rest_is() {
    for errno in [Errno::EIO, Errno::ENOSPC] {
        let mut at = 1;
        while with_fault(at, Fault::Once(errno)).await >= at {
            at += 1;
        }
        assert!(at > 10, "{at}");
    }
}

/// What happens at one of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is done and fails all the same; those after it do not.
    Once(Errno),
    /// It is done by half, and is the last one of this process.
    Death,
}

impl Fault {
    /// Does what is done of the operation.
    fn strike(self, folder: &Folder, operation: Operation<'_>) {
        match operation {
            Operation::Create(name) if self == Self::Death => drop(folder.create(name)),
            Operation::Write { file, at, pieces } => {
                let octets = pieces.concat();
                // Of what fails, all may be on the disk.
                let length = if self == Self::Death { octets.len() / 2 } else { octets.len() };
                folder.write(file, at, &[&octets[..length]]).unwrap();
            }
            Operation::Create(_)
            | Operation::Sync
            | Operation::SyncNames
            | Operation::Truncate
            | Operation::Remove => {}
        }
    }
}

/// Has `fault` happen at the operation number `at`; says how many operations there were.
async fn with_fault(at: usize, fault: Fault) -> usize {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let operations = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&operations);
    let queue = queue_on(&path, move |folder, operation| {
        let count = counter.fetch_add(1, Ordering::SeqCst) + 1;
        if count == at {
            fault.strike(folder, operation);
        }
        match fault {
            Fault::Once(errno) if count == at => Err(errno.into()),
            Fault::Death if count >= at => Err(Errno::EIO.into()),
            Fault::Once(_) | Fault::Death => Ok(()),
        }
    });
    let known = exercise(&queue).await;
    if fault != Fault::Death {
        // Marks that failed are written again.
        for _ in 0..3 {
            if queue.settled().await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    let count = operations.load(Ordering::SeqCst);
    drop(queue);
    wait_for_locks(&path).await;
    check(&path, &known, fault == Fault::Death, &format!("{fault:?} at {at}")).await;
    count
}

/// What the caller of a queue knows of it.
#[derive(Debug, Default)]
struct Known {
    /// Messages that were taken, with their number and how many recipients are left at least.
    taken: HashMap<QueueId, (usize, u32)>,
    /// Those of which nothing may be left.
    gone: Vec<QueueId>,
    /// Numbers of messages that were refused.
    refused: Vec<usize>,
}

impl Known {
    fn accepted(
        &mut self,
        number: usize,
        recipients: u32,
        result: Result<QueueId, WriteError>,
    ) -> Option<QueueId> {
        match result {
            Ok(id) => {
                self.taken.insert(id, (number, recipients));
                Some(id)
            }
            Err(_) => {
                self.refused.push(number);
                None
            }
        }
    }
}

/// Something of everything that can be done with a queue.
async fn exercise(queue: &Queue) -> Known {
    let mut known = Known::default();
    let mut ids = Vec::new();
    for number in 1..=3 {
        let accepted = queue.accept(envelope(2), vec![text(number).into()]).await;
        ids.extend(known.accepted(number, 2, accepted));
    }
    let large = async {
        let mut large = queue.begin(envelope(1)).await?;
        large.write(text(4)[..100].to_vec().into()).await?;
        large.write(text(4)[100..].to_vec().into()).await?;
        large.finish().await
    };
    ids.extend(known.accepted(4, 1, large.await));
    if let Some(first) = ids.first() {
        queue.settle(*first, &[1]);
    }
    if let [.., before, last] = ids[..] {
        queue.set_standing(before, Standing::Deferred(1_800_000_000_000));
        queue.set_warned(before);
        queue.remove(last);
        if queue.settled().await {
            known.taken.remove(&last);
            known.gone.push(last);
            if let Some((_, left)) = ids.first().and_then(|first| known.taken.get_mut(first)) {
                *left = 1;
            }
        } else if let Some((_, left)) = known.taken.get_mut(&last) {
            // Whether the mark will be found nobody knows.
            *left = 0;
        }
    }
    let accepted = queue.accept(envelope(1), vec![text(5).into()]).await;
    known.accepted(5, 1, accepted);
    known
}

/// Looks at what the next process finds.
async fn check(folder: &Path, known: &Known, doubtful: bool, what: &str) {
    let queue = queue(folder);
    let mut numbers = Vec::new();
    for (id, (number, least)) in &known.taken {
        let Some(found) = queue.find(*id) else {
            assert_eq!(*least, 0, "{what}: message {number} is lost");
            continue;
        };
        assert!(found.recipients >= (*least).min(1), "{what}: message {number}");
        assert_eq!(content(&queue, *id).await, text(*number), "{what}");
        numbers.push(*number);
    }
    for id in &known.gone {
        assert_eq!(queue.find(*id), None, "{what}: a message came back");
    }
    for summary in queue.list(None, 100) {
        if known.taken.contains_key(&summary.id) {
            continue;
        }
        // It was refused, and nothing may be left of it unless the process died while it was written.
        assert!(doubtful, "{what}: a refused message was found");
        let found = content(&queue, summary.id).await;
        assert!(known.refused.iter().any(|number| text(*number) == found), "{what}");
    }
    // And the queue works on.
    let id = queue.accept(envelope(1), vec![text(9).into()]).await.unwrap();
    assert_eq!(content(&queue, id).await, text(9));
}
