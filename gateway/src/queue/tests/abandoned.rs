//! Messages that nobody waits for any more.

use super::disk::{Gate, queue_behind};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_did_not_wait_for_is_not_taken_when_the_disk_answers() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let gate = Arc::new(Gate::default());
    let first = queue_behind(&path, &gate);
    gate.shut();
    let offer = |number| Box::pin(first.accept(envelope(1), vec![text(number).into()]));
    let large = async {
        let mut large = first.begin(envelope(1)).await?;
        large.write(text(3).into()).await?;
        large.finish().await
    };
    let mut large = Box::pin(large);
    let short = Duration::from_millis(100);
    // The disk hangs with the first of them, and the second is not even begun.
    let (mut written, mut waiting) = (offer(1), offer(2));
    assert!(tokio::time::timeout(short, &mut written).await.is_err());
    assert!(tokio::time::timeout(short, &mut waiting).await.is_err());
    assert!(tokio::time::timeout(short, &mut large).await.is_err());
    let mut patient = offer(4);
    assert!(tokio::time::timeout(short, &mut patient).await.is_err());
    drop((written, waiting, large));
    gate.open();
    let kept = patient.await.unwrap();
    // One that is on the disk, but nobody has heard of it yet.
    gate.shut();
    let mut unheard = offer(5);
    assert!(tokio::time::timeout(short, &mut unheard).await.is_err());
    gate.open();
    assert!(first.settled().await);
    drop(unheard);
    assert!(first.settled().await);
    let listed = |queue: &Queue| queue.list(None, 10).iter().map(|found| found.id).collect::<Vec<_>>();
    assert_eq!(listed(&first), [kept]);
    drop(first);
    wait_for_locks(&path).await;
    assert_eq!(listed(&queue(&path)), [kept]);
}
