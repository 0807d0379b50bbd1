//! What a process makes of the segments of those before it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_takes_over_when_the_predecessor_has_left() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let old = queue(&path);
    let id = old.accept(envelope(2), vec![text(7).into()]).await.unwrap();
    let new = queue(&path);
    let own = new.accept(envelope(1), vec![text(8).into()]).await.unwrap();
    new.maintain().await;
    assert_eq!(new.find(id), None, "the other process still has it");
    old.settle(id, &[0]);
    assert!(old.settled().await);
    drop(old);
    wait_until(async || {
        new.maintain().await;
        new.find(id).is_some()
    })
    .await;
    assert_eq!(new.find(id).unwrap().recipients, 1);
    assert_eq!(new.read(id).await.unwrap().settled, [0]);
    assert_ne!(id, own);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_kept_aside_and_told_and_a_damaged_content_has_no_end() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let first = queue(&path);
    let mut ids = Vec::new();
    for number in 1..=4 {
        ids.push(first.accept(envelope(1), vec![text(number).into()]).await.unwrap());
    }
    assert!(first.settled().await);
    drop(first);
    wait_for_locks(&path).await;
    let segment = &files(&path, "segment")[0];
    let mut octets = fs::read(segment).unwrap();
    let place =
        |octets: &[u8], what: &[u8]| octets.windows(what.len()).position(|window| window == what).unwrap();
    // The record of the second, the content of the third.
    let second = place(&octets, b"Subject: 2") - 20;
    octets[second] ^= 0x20;
    let third = place(&octets, b"Subject: 3");
    octets[third] ^= 0x20;
    fs::write(segment, octets).unwrap();

    let again = queue(&path);
    assert_eq!(again.find(ids[1]), None);
    assert_eq!((content(&again, ids[0]).await, content(&again, ids[3]).await), (text(1), text(4)));
    let mut reader = again.read(ids[2]).await.unwrap().content.reader();
    assert!(reader.next().await.unwrap().is_some());
    assert!(matches!(reader.next().await, Err(ReadError::Damaged)));
    let kept = files(&path, "corrupt");
    assert_eq!(kept.len(), 1);
    assert!(fs::read(&kept[0]).unwrap().windows(10).any(|window| window == b"Subject: 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_did_not_reach_the_disk_before_a_crash_of_the_machine_was_not_taken() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let first = queue(&path);
    let sound = first.accept(envelope(1), vec![text(1).into()]).await.unwrap();
    let torn = first.accept(envelope(1), vec![text(2).into()]).await.unwrap();
    drop(first);
    wait_for_locks(&path).await;
    let segment = &files(&path, "segment")[0];
    let mut octets = fs::read(segment).unwrap();
    let length = octets.len();
    // Length and record were written, the last block of the content was not.
    octets[length - 100..].fill(0);
    fs::write(segment, octets).unwrap();
    let again = queue(&path);
    assert_eq!((again.find(sound).is_some(), again.find(torn)), (true, None));
}
