//! The store from outside, with real files.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::{sleep, timeout};

use super::*;
use crate::policy::quota::{Counter, Own, Quota};

/// Longer than any retry takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

fn client(number: u32) -> Client {
    let address = std::net::IpAddr::from((0x0a00_0000 + number).to_be_bytes());
    Client { net: address.into(), identity: None }
}

fn entry(number: u32) -> Entry {
    // Not over for a long time.
    let start = 4_000_000_000;
    Entry { client: client(number), counter: Counter::Quota(Quota::Messages), period: 3_600, start }
}

fn own(messages: u64) -> Own {
    let limits = file::QuotaLimits { messages, ..Default::default() };
    Own { limits, generation: 0, by_operator: true }
}

/// The limits in the file, by client.
fn limits(folder: &Path) -> Vec<(String, u64)> {
    let (store, mut contents, _) = Store::open(folder);
    assert_eq!(store.health(), Health::Kept);
    let rows = contents.take::<String, Own>(Table::QuotaLimits).into_iter();
    rows.map(|(client, own)| (client, own.limits.messages)).collect()
}

async fn learnt(news: &mut mpsc::UnboundedReceiver<News>) -> Vec<u64> {
    match timeout(PATIENCE, news.recv()).await.unwrap().unwrap() {
        News::Usage { totals, .. } => totals.into_iter().map(|total| total.total).collect(),
        News::Contents(contents) => unreachable!("{contents:?}"),
    }
}

#[tokio::test]
async fn what_is_put_is_there_after_a_restart() {
    let folder = folder();
    let (store, contents, _) = Store::open(folder.path());
    assert!(contents.usage.is_empty());
    for (client, messages) in [("10.0.0.1", 1), ("2001:db8::/64", 2), ("10.0.0.2", 3), ("10.0.0.1", 4)] {
        store.put(Table::QuotaLimits, client.to_owned(), &own(messages));
    }
    store.remove(Table::QuotaLimits, "10.0.0.2".to_owned());
    store.add(entry(1), 5);
    store.add(entry(2), 6);
    store.flush().await;
    assert_eq!(limits(folder.path()), [("10.0.0.1".to_owned(), 4), ("2001:db8::/64".to_owned(), 2)]);
    let (_, contents, _) = Store::open(folder.path());
    let mut amounts: Vec<_> = contents.usage.iter().map(|(entry, amount)| (&entry.client, *amount)).collect();
    amounts.sort();
    assert_eq!(amounts, [(&client(1), 5), (&client(2), 6)]);
}

#[tokio::test]
async fn what_is_cleared_or_forgotten_is_gone_and_what_comes_later_stays() {
    let folder = folder();
    let (store, _, _) = Store::open(folder.path());
    for round in 0..2 {
        store.put(Table::QuotaLimits, "10.0.0.1".to_owned(), &own(1));
        store.add(entry(1), 5);
        store.add(entry(2), 5);
        // Both what waits and what is written.
        if round == 0 {
            store.flush().await;
        }
    }
    store.clear(Table::QuotaLimits);
    store.put(Table::QuotaLimits, "10.0.0.2".to_owned(), &own(2));
    store.forget_usage(Some(client(1)), 1);
    store.add(entry(1), 1);
    store.flush().await;
    assert_eq!(limits(folder.path()), [("10.0.0.2".to_owned(), 2)]);
    let used = |number| {
        let (_, contents, _) = Store::open(folder.path());
        let of = contents.usage.iter().filter(|(entry, _)| entry.client == client(number));
        of.map(|(_, amount)| amount).sum::<u64>()
    };
    assert_eq!((used(1), used(2)), (1, 10));
    store.forget_usage(None, 2);
    store.flush().await;
    assert_eq!((used(1), used(2)), (0, 0));
}

#[tokio::test]
async fn two_processes_add_to_the_same_amounts_and_learn_the_sum() {
    let folder = folder();
    let (old, _, mut old_news) = Store::open(folder.path());
    let (new, _, mut new_news) = Store::open(folder.path());
    let shared = entry(7);
    for round in 1..=20 {
        old.add(shared.clone(), 2);
        old.flush().await;
        assert_eq!(learnt(&mut old_news).await, [5 * (round - 1) + 2]);
        new.add(shared.clone(), 3);
        new.flush().await;
        assert_eq!(learnt(&mut new_news).await, [5 * round]);
    }
    assert_eq!((old.health(), new.health()), (Health::Kept, Health::Kept));
}

#[tokio::test]
async fn an_amount_has_a_ceiling_and_stays_a_number() {
    let folder = folder();
    let (store, _, mut news) = Store::open(folder.path());
    let shared = entry(7);
    for _ in 0..3 {
        store.add(shared.clone(), u64::MAX);
        store.flush().await;
        assert!(learnt(&mut news).await[0] > 1 << 61);
    }
    assert_eq!(store.health(), Health::Kept);
}

#[tokio::test]
async fn a_damaged_file_makes_room_for_a_new_one() {
    let folder = folder();
    std::fs::write(folder.path().join(FILE), "no database at all".repeat(1_000)).unwrap();
    let (store, contents, _) = Store::open(folder.path());
    assert!(contents.usage.is_empty());
    store.put(Table::QuotaLimits, "10.0.0.1".to_owned(), &own(1));
    store.flush().await;
    assert_eq!(store.health(), Health::Kept);
    assert_eq!(limits(folder.path()).len(), 1);
    assert!(folder.path().join("state.db.damaged").exists());
}

#[tokio::test]
async fn a_page_that_is_damaged_is_found_at_the_start() {
    let folder = folder();
    let (store, _, _) = Store::open(folder.path());
    for number in 0..2_000 {
        store.add(entry(number), 1);
    }
    store.flush().await;
    drop(store);
    let path = folder.path().join(FILE);
    // What is in the log goes to the file, so that there is a page to be damaged.
    let file = Connection::open(&path).unwrap();
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    drop(file);
    let mut octets = std::fs::read(&path).unwrap();
    assert!(octets.len() > 40_000);
    octets[8_192..24_576].fill(0x5a);
    std::fs::write(&path, octets).unwrap();
    let (store, contents, _) = Store::open(folder.path());
    assert_eq!((store.health(), contents.usage.len()), (Health::Kept, 0));
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_left_out_alone() {
    let folder = folder();
    let (store, _, _) = Store::open(folder.path());
    store.put(Table::QuotaLimits, "10.0.0.1".to_owned(), &own(1));
    store.add(entry(1), 1);
    store.flush().await;
    let file = Connection::open(folder.path().join(FILE)).unwrap();
    file.execute_batch(
        "INSERT INTO quota_limits VALUES ('10.0.0.2', 'not JSON');
         INSERT INTO quota_usage VALUES ('nobody', 'messages', 1, 1, 1), ('10.0.0.1', 'nothing', 1, 1, 1);",
    )
    .unwrap();
    assert_eq!(limits(folder.path()).len(), 1);
    assert_eq!(Store::open(folder.path()).1.usage.len(), 1);
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_left_alone() {
    let folder = folder();
    let (store, _, _) = Store::open(folder.path());
    store.flush().await;
    let path = folder.path().join(FILE);
    let file = Connection::open(&path).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    let (store, _, _) = Store::open(folder.path());
    store.put(Table::QuotaLimits, "10.0.0.1".to_owned(), &own(1));
    store.flush().await;
    let Health::MemoryOnly { reason } = store.health() else { unreachable!("it is not written") };
    assert!(reason.contains("newer gateway (schema 99; this one knows 1)"), "{reason}");
    let rows: i64 = file.query_row("SELECT count(*) FROM quota_limits", (), |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_file_of_another_program_is_left_alone() {
    let folder = folder();
    let file = Connection::open(folder.path().join(FILE)).unwrap();
    file.execute_batch("CREATE TABLE theirs (name TEXT)").unwrap();
    let (store, _, _) = Store::open(folder.path());
    let Health::MemoryOnly { reason } = store.health() else { unreachable!("it is not written") };
    assert!(reason.contains("another program"), "{reason}");
}

#[tokio::test]
async fn a_folder_of_others_or_a_link_in_place_of_the_file_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    let (store, _, _) = Store::open(&folder.path().join("no/such"));
    assert!(matches!(store.health(), Health::MemoryOnly { .. }));
    std::os::unix::fs::symlink("/dev/null", folder.path().join(FILE)).unwrap();
    let (store, _, _) = Store::open(folder.path());
    assert!(matches!(store.health(), Health::MemoryOnly { .. }));
    std::fs::remove_file(folder.path().join(FILE)).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (store, _, _) = Store::open(folder.path());
    let Health::MemoryOnly { reason } = store.health() else { unreachable!("others read it") };
    assert!(reason.contains("chmod 0700"), "{reason}");
}

#[tokio::test]
async fn what_cannot_be_written_waits_until_it_can() {
    let folder = folder();
    let (store, _, _) = Store::open(folder.path());
    store.add(entry(1), 1);
    store.flush().await;
    // Another process that writes and does not end: SQLite's own way to make a file unusable.
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.add(entry(2), 1);
    store.flush().await;
    let Health::MemoryOnly { reason } = store.health() else { unreachable!("it is locked") };
    assert!(reason.contains("locked"), "{reason}");
    other.execute_batch("ROLLBACK").unwrap();
    kept_again(&store).await;
    assert_eq!(Store::open(folder.path()).1.usage.len(), 2);
}

async fn kept_again(store: &Store) {
    let kept = async {
        while store.health() != Health::Kept {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, kept).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_locked_at_the_start_is_read_when_it_can_be() {
    let folder = folder();
    let (store, _, _) = Store::open(folder.path());
    store.add(entry(1), 9);
    store.flush().await;
    drop(store);
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (store, contents, mut news) = Store::open(folder.path());
    assert!(contents.usage.is_empty() && matches!(store.health(), Health::MemoryOnly { .. }));
    other.execute_batch("ROLLBACK").unwrap();
    match timeout(PATIENCE, news.recv()).await.unwrap().unwrap() {
        News::Contents(contents) => assert_eq!(contents.usage[0].1, 9),
        News::Usage { totals, .. } => unreachable!("{totals:?}"),
    }
}

#[tokio::test]
async fn a_full_disk_keeps_nothing_back_and_loses_nothing_that_fits_later() {
    let folder = folder();
    let (store, _, _) = Store::open(folder.path());
    store.flush().await;
    // SQLite's own ceiling has the code of a full disk.
    let mut batch = pending::Batch::default();
    let mut file = sqlite::schema::open(folder.path()).unwrap();
    file.pragma_update(None, "max_page_count", 8).unwrap();
    for number in 0..5_000 {
        batch.usage.insert(entry(number), 1);
    }
    let full = sqlite::commit(&mut file, &batch, false).unwrap_err();
    assert_eq!(full.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    file.pragma_update(None, "max_page_count", 1_000_000).unwrap();
    assert_eq!(sqlite::commit(&mut file, &batch, false).unwrap().len(), 5_000);
}

#[tokio::test]
async fn what_counts_no_longer_is_removed() {
    let folder = folder();
    let mut file = sqlite::schema::open(folder.path()).unwrap();
    let mut batch = pending::Batch::default();
    batch.usage.insert(entry(1), 1);
    batch.usage.insert(Entry { start: 1_000_000, ..entry(2) }, 1);
    sqlite::commit(&mut file, &batch, true).unwrap();
    let left = sqlite::usage::load(&file).unwrap();
    assert_eq!(left, [(entry(1), 1)]);
}

#[test]
fn changes_that_wait_have_a_ceiling() {
    let queue = Queue::default();
    for number in 0..250_000_u32 {
        queue.add(entry(number), 1);
    }
    assert_eq!(queue.dropped(), 50_000);
    let (batch, _) = queue.take();
    queue.add(entry(1), 1);
    queue.put_back(batch);
    let (batch, _) = queue.take();
    assert_eq!((batch.usage.len(), batch.usage[&entry(1)]), (pending::MOST, 2));
}
