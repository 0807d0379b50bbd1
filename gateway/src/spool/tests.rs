//! On real folders.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use nix::unistd::{Uid, chown, geteuid};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::clock;
use crate::config::units::ByteCount;
use crate::intercept::flow::SessionId;

fn config(directory: &Path) -> Spool {
    Spool {
        header: String::new(),
        directory: directory.to_owned(),
        memory: ByteCount::kib(128),
        leave_on: vec![LeaveOn::Virus],
        min_free: ByteCount::new(0),
    }
}

/// A spooler in a folder that does not exist yet.
fn spooler(parent: &TempDir) -> Spooler {
    Spooler::open(&config(&parent.path().join("spool"))).unwrap()
}

fn names(parent: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(parent.path().join("spool"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes()[4]).collect()
}

async fn read_all(mut reader: SpoolReader) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(block) = reader.next().await? {
        bytes.extend_from_slice(&block);
    }
    Ok(bytes)
}

fn id() -> SessionId {
    SessionId::next(clock::wall())
}

#[tokio::test]
async fn a_small_message_stays_in_memory() {
    let parent = TempDir::new().unwrap();
    let spooler = spooler(&parent);
    let mut copy = spooler.begin().unwrap();
    let bytes = pattern(128 * 1024);
    copy.append(&bytes).await.unwrap();
    copy.finish().await.unwrap();
    assert_eq!(copy.len(), 128 * 1024);
    assert!(read_all(copy.reader()).await.unwrap() == bytes);
    assert!(names(&parent).is_empty());
    drop(copy);
    assert_eq!(spooler.memory_held(), 0);
}

#[tokio::test]
async fn an_empty_message_ends() {
    let parent = TempDir::new().unwrap();
    let mut copy = spooler(&parent).begin().unwrap();
    copy.finish().await.unwrap();
    assert!(copy.is_empty());
    assert!(read_all(copy.reader()).await.unwrap().is_empty());
    assert!(matches!(copy.append(b"late").await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_large_message_is_in_a_private_file_and_little_memory_and_then_gone() {
    let parent = TempDir::new().unwrap();
    let spooler = spooler(&parent);
    let mut copy = spooler.begin().unwrap();
    let bytes = pattern(3_000_001);
    for piece in bytes.chunks(10_007) {
        copy.append(piece).await.unwrap();
    }
    copy.finish().await.unwrap();
    let names = names(&parent);
    assert_eq!(names.len(), 1);
    assert!(names[0].starts_with("copy-") && names[0].len() == 37, "{names:?}");
    let mode = fs::metadata(parent.path().join("spool").join(&names[0])).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(spooler.memory_held() <= 3 * BLOCK, "{}", spooler.memory_held());
    let reader = copy.reader();
    drop(copy);
    assert!(self::names(&parent).is_empty());
    assert!(read_all(reader).await.unwrap() == bytes, "a reader outlives the name");
    assert_eq!(spooler.memory_held(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_different_speed_follow_the_writer_to_the_same_end() {
    let parent = TempDir::new().unwrap();
    let mut copy = spooler(&parent).begin().unwrap();
    let bytes = pattern(5_000_000);
    let quick = tokio::spawn(read_all(copy.reader()));
    let mut slow = copy.reader();
    let slow = tokio::spawn(async move {
        let mut bytes = Vec::new();
        while let Some(block) = slow.next().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            bytes.extend_from_slice(&block);
        }
        bytes
    });
    for piece in bytes.chunks(33_333) {
        copy.append(piece).await.unwrap();
    }
    copy.finish().await.unwrap();
    assert!(quick.await.unwrap().unwrap() == bytes);
    assert!(slow.await.unwrap() == bytes);
}

#[tokio::test]
async fn a_reader_need_not_wait_for_the_end_and_may_begin_again() {
    let parent = TempDir::new().unwrap();
    let mut copy = spooler(&parent).begin().unwrap();
    let bytes = pattern(BLOCK + 1);
    copy.append(&bytes).await.unwrap();
    let mut reader = copy.reader();
    assert_eq!(reader.next().await.unwrap().unwrap().len(), BLOCK);
    assert!(timeout(Duration::from_millis(50), reader.next()).await.is_err(), "the rest is not there yet");
    copy.finish().await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap().len(), 1);
    assert!(reader.next().await.unwrap().is_none());
    reader.rewind();
    assert!(read_all(reader).await.unwrap() == bytes);
}

#[tokio::test]
async fn readers_of_an_unfinished_copy_are_told() {
    let parent = TempDir::new().unwrap();
    let mut copy = spooler(&parent).begin().unwrap();
    copy.append(&pattern(300_000)).await.unwrap();
    let reader = copy.reader();
    let mut patient = copy.reader();
    drop(copy);
    assert!(matches!(read_all(reader).await, Err(Error::Aborted)));
    assert!(matches!(patient.finished().await, Err(Error::Aborted)));
    assert!(matches!(patient.reached(1 << 30).await, Err(Error::Aborted)));
    drop(patient);
    // The write that ran when the copy was dropped removes its file by itself.
    while !names(&parent).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_cancelled_append_took_nothing() {
    let parent = TempDir::new().unwrap();
    let mut copy = spooler(&parent).begin().unwrap();
    let bytes = pattern(4_000_000);
    let mut cancelled = 0;
    for piece in bytes.chunks(100_000) {
        loop {
            tokio::select! {
                biased;
                done = copy.append(piece) => break done.unwrap(),
                () = std::future::ready(()) => cancelled += 1,
            }
            tokio::task::yield_now().await;
        }
    }
    copy.finish().await.unwrap();
    assert!(cancelled > 0, "no write was ever waited for");
    assert!(read_all(copy.reader()).await.unwrap() == bytes);
}

#[tokio::test]
async fn a_crowd_of_small_messages_does_not_fill_the_memory() {
    let parent = TempDir::new().unwrap();
    let spooler = spooler(&parent);
    let bytes = pattern(128 * 1024);
    let mut copies = Vec::new();
    for _ in 0..400 {
        let mut copy = spooler.begin().unwrap();
        copy.append(&bytes).await.unwrap();
        copy.finish().await.unwrap();
        copies.push(copy);
    }
    let ceiling = MEMORY_SHARE * 128 * 1024;
    assert!(spooler.memory_held() <= ceiling + 4 * BLOCK, "{}", spooler.memory_held());
    assert!(names(&parent).len() > 100);
    for copy in copies {
        assert!(read_all(copy.reader()).await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_copy_is_kept_only_for_the_reasons_that_leave_on_names() {
    let parent = TempDir::new().unwrap();
    let spooler = spooler(&parent);
    let session = id();
    for (transaction, length) in [(1, 70_000), (2, 1_000_000)] {
        let bytes = pattern(length);
        let mut copy = spooler.begin().unwrap();
        copy.append(&bytes).await.unwrap();
        copy.finish().await.unwrap();
        let path = copy.keep(&[LeaveOn::Virus], session, transaction).await.unwrap().unwrap();
        assert_eq!(path, parent.path().join("spool").join(format!("{session}-{transaction}.virus.eml")));
        assert!(fs::read(&path).unwrap() == bytes);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    assert_eq!(names(&parent).len(), 2);

    let mut copy = spooler.begin().unwrap();
    copy.append(&pattern(1_000_000)).await.unwrap();
    copy.finish().await.unwrap();
    assert_eq!(copy.keep(&[LeaveOn::Error], session, 3).await.unwrap(), None);
    assert_eq!(names(&parent).len(), 2);

    let mut copy = spooler.begin().unwrap();
    copy.append(b"another").await.unwrap();
    copy.finish().await.unwrap();
    assert!(matches!(copy.keep(&[LeaveOn::Virus], session, 1).await, Err(Error::File(_))), "never replaced");
    assert_eq!(names(&parent).len(), 2);
}

#[tokio::test]
async fn nothing_begins_and_nothing_is_kept_without_free_space() {
    let parent = TempDir::new().unwrap();
    let mut config = config(&parent.path().join("spool"));
    config.min_free = ByteCount::new(1 << 62);
    assert!(matches!(Spooler::open(&config).unwrap().begin(), Err(Error::NoSpace)));

    let free = Folder::open(&config.directory).unwrap().free().unwrap();
    config.min_free = ByteCount::new(free / 3 * 2);
    let mut copy = Spooler::open(&config).unwrap().begin().unwrap();
    copy.append(b"virus").await.unwrap();
    copy.finish().await.unwrap();
    assert!(matches!(copy.keep(&[LeaveOn::Virus], id(), 1).await, Err(Error::NoSpace)));
}

#[test]
fn a_folder_that_others_may_read_or_own_is_refused() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("spool");
    Spooler::open(&config(&folder)).unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o700);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(
        Spooler::open(&config(&folder)),
        Err(Error::Folder(folder::Error::Mode { mode: 0o750, .. }))
    ));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o750, "left as it is");

    let foreign = if geteuid().is_root() {
        chown(&folder, Some(Uid::from_raw(65_534)), None).unwrap();
        folder.as_path()
    } else {
        Path::new("/")
    };
    assert!(matches!(Spooler::open(&config(foreign)), Err(Error::Folder(folder::Error::Owner { .. }))));
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Spooler::open(&config(&file)), Err(Error::Folder(folder::Error::Open { .. }))));
    assert!(matches!(
        Spooler::open(&config(&parent.path().join("a/b"))),
        Err(Error::Folder(folder::Error::Open { .. }))
    ));
}

#[tokio::test]
async fn left_over_copies_are_removed_and_nothing_else() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("spool");
    let first = spooler(&parent);
    let mut live = first.begin().unwrap();
    live.append(&pattern(300_000)).await.unwrap();
    live.finish().await.unwrap();
    let live_name = names(&parent);
    let elsewhere = parent.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    fs::write(folder.join("copy-0123"), "left over").unwrap();
    fs::write(folder.join("0123-1.virus.eml"), "kept").unwrap();
    symlink(&elsewhere, folder.join("copy-link")).unwrap();

    let second = spooler(&parent);
    let mut expected = vec!["0123-1.virus.eml".to_owned()];
    expected.extend(live_name);
    assert_eq!(names(&parent), expected);
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
    drop((live, first, second));
    assert_eq!(names(&parent), ["0123-1.virus.eml"]);
}

#[test]
fn a_planted_link_is_never_written_through() {
    let parent = TempDir::new().unwrap();
    let folder = Folder::open(&parent.path().join("spool")).unwrap();
    let elsewhere = parent.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    symlink(&elsewhere, parent.path().join("spool/copy-planted")).unwrap();
    assert!(file::create_named(&folder, "copy-planted").unwrap_err().to_string().contains("exists"));
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
}

#[tokio::test]
async fn what_stands_above_a_message_is_read_with_it_and_counted_apart() {
    for size in [10, BLOCK, 3 * BLOCK] {
        let bench = TempDir::new().unwrap();
        let spooler = spooler(&bench);
        let mut copy = spooler.begin_below(b"X-Info: here\r\n").unwrap();
        let message = vec![b'm'; size];
        copy.append(&message).await.unwrap();
        copy.finish().await.unwrap();
        let mut reader = copy.reader();
        reader.reached(size as u64).await.unwrap();
        assert_eq!((copy.len(), reader.available()), (size as u64, size as u64));
        assert_eq!(reader.stream_length(), size as u64 + 14);
        let read = read_all(reader).await.unwrap();
        assert_eq!(read, [&b"X-Info: here\r\n"[..], &message].concat());
    }
}
