//! On real folders, with operations that fail and processes that die at every point.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use nix::errno::Errno;
use tempfile::TempDir;

use super::*;

/// How soon writing is tried again here.
const AGAIN: Duration = Duration::from_millis(20);

/// What happens at one of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is done and fails all the same; those after it do not.
    Once(Errno),
    /// It is done by half, and is the last one of this process.
    Death,
}

/// A folder in which the operation number `at` is not like the others.
#[derive(Debug)]
struct Faulty {
    folder: Folder,
    at: usize,
    fault: Fault,
    count: AtomicUsize,
}

impl Faulty {
    /// Counts an operation; `half` is done when it is the one.
    fn count(&self, half: impl FnOnce()) -> io::Result<()> {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        match self.fault {
            Fault::Once(errno) if count == self.at => {
                half();
                Err(errno.into())
            }
            Fault::Death if count >= self.at => {
                if count == self.at {
                    half();
                }
                Err(Errno::EIO.into())
            }
            Fault::Once(_) | Fault::Death => Ok(()),
        }
    }
}

impl Storage for Faulty {
    fn create(&self, name: &str) -> io::Result<File> {
        self.count(|| {
            if self.fault == Fault::Death {
                drop(self.folder.create(name));
            }
        })?;
        self.folder.create(name)
    }

    fn write(&self, file: &File, at: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let octets = pieces.concat();
        // Of what fails, all may be on the disk.
        let length = if self.fault == Fault::Death { octets.len() / 2 } else { octets.len() };
        self.count(|| self.folder.write(file, at, &[&octets[..length]]).unwrap())?;
        self.folder.write(file, at, pieces)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.count(|| ())?;
        Storage::sync(&self.folder, file)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.count(|| ())?;
        Storage::sync_names(&self.folder)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.count(|| ())?;
        Storage::truncate(&self.folder, file, length)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.count(|| ())?;
        Folder::remove(&self.folder, name)
    }
}

fn envelope(recipients: usize) -> Envelope {
    let recipient =
        |number| Recipient { address: format!("r{number}@example.net"), original: None, notify: None };
    Envelope {
        arrived: 1_700_000_000_000,
        sender: "s@example.org".to_owned(),
        recipients: (0..recipients).map(recipient).collect(),
        target: Target::Mx,
        submitter: None,
        body: Body::SevenBit,
        sign: false,
        smtputf8: false,
        ret: None,
        envid: None,
    }
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

async fn with_fault(at: usize, fault: Fault) -> usize {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let folder = Folder::open(&path).unwrap();
    let storage = Arc::new(Faulty { folder: folder.clone(), at, fault, count: AtomicUsize::new(0) });
    let queue =
        Queue::with(folder, Arc::clone(&storage) as Arc<dyn Storage>, ByteCount::new(0), AGAIN).unwrap();
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
    let count = storage.count.load(Ordering::SeqCst);
    drop(queue);
    wait_for_locks(&path).await;
    check(&path, &known, fault == Fault::Death, &format!("{fault:?} at {at}")).await;
    count
}

/// The thread of a queue that was dropped ends soon, and its lock with it.
async fn wait_for_locks(path: &Path) {
    let folder = Folder::open(path).unwrap();
    for _ in 0..1_000 {
        let names = folder.names().unwrap();
        let mut locks = names.iter().filter(|name| name.to_str().is_some_and(|name| name.ends_with(".lock")));
        if locks.all(|name| folder.read(name).unwrap().try_lock().is_ok()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("a queue keeps its lock");
}

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
    let segments = fs::read_dir(&path)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".segment"));
    assert_eq!(segments.count(), 1, "only the one with the last message");
}

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
    wait_until_adopted(&new, id).await;
    assert_eq!(new.find(id).unwrap().recipients, 1);
    assert_eq!(new.read(id).await.unwrap().settled, [0]);
    assert_ne!(id, own);
}

async fn wait_until_adopted(queue: &Queue, id: QueueId) {
    for _ in 0..1_000 {
        queue.maintain().await;
        if queue.find(id).is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("nobody takes over");
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
    let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    let segment = &names[0];
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
    let kept = fs::read_dir(&path).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        path.extension().is_some_and(|extension| extension == "corrupt").then(|| fs::read(path).unwrap())
    });
    let kept: Vec<_> = kept.collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].windows(10).any(|window| window == b"Subject: 2"));
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
    let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    let mut octets = fs::read(&names[0]).unwrap();
    let length = octets.len();
    // Length and record were written, the last block of the content was not.
    octets[length - 100..].fill(0);
    fs::write(&names[0], octets).unwrap();
    let again = queue(&path);
    assert_eq!((again.find(sound).is_some(), again.find(torn)), (true, None));
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

/// A folder whose disk does not answer for a while.
#[derive(Debug)]
struct Hanging {
    folder: Folder,
    hangs: Mutex<bool>,
    answers: Condvar,
}

impl Hanging {
    fn set(&self, hangs: bool) {
        *self.hangs.lock().unwrap() = hangs;
        self.answers.notify_all();
    }
}

impl Storage for Hanging {
    fn create(&self, name: &str) -> io::Result<File> {
        self.folder.create(name)
    }

    fn write(&self, file: &File, at: u64, pieces: &[&[u8]]) -> io::Result<()> {
        self.folder.write(file, at, pieces)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        drop(self.answers.wait_while(self.hangs.lock().unwrap(), |hangs| *hangs).unwrap());
        Storage::sync(&self.folder, file)
    }

    fn sync_names(&self) -> io::Result<()> {
        Storage::sync_names(&self.folder)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        Storage::truncate(&self.folder, file, length)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Folder::remove(&self.folder, name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_did_not_wait_for_is_not_taken_when_the_disk_answers() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("queue");
    let folder = Folder::open(&path).unwrap();
    let storage =
        Arc::new(Hanging { folder: folder.clone(), hangs: Mutex::new(true), answers: Condvar::new() });
    let first =
        Queue::with(folder, Arc::clone(&storage) as Arc<dyn Storage>, ByteCount::new(0), AGAIN).unwrap();
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
    storage.set(false);
    let kept = patient.await.unwrap();
    // One that is on the disk, but nobody has heard of it yet.
    storage.set(true);
    let mut unheard = offer(5);
    assert!(tokio::time::timeout(short, &mut unheard).await.is_err());
    storage.set(false);
    assert!(first.settled().await);
    drop(unheard);
    assert!(first.settled().await);
    let listed = |queue: &Queue| queue.list(None, 10).iter().map(|found| found.id).collect::<Vec<_>>();
    assert_eq!(listed(&first), [kept]);
    drop(first);
    wait_for_locks(&path).await;
    assert_eq!(listed(&queue(&path)), [kept]);
}
