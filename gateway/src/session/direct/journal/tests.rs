use std::net::SocketAddr;

use super::*;
use crate::intercept::address::{ClientAddr, LocalAddr, OriginalDst, UpstreamAddr};
use crate::outcome::Conduct;
use crate::tls::TlsFacts;

fn entry(port: u16, opened: u64) -> Entry {
    let server = SocketAddr::from(([198, 51, 100, 2], 25));
    let local = SocketAddr::from(([203, 0, 113, 1], 40_000));
    let ends = FlowEnds {
        client: ClientAddr::new(SocketAddr::from(([192, 0, 2, 2], port))),
        destination: OriginalDst::new(server),
        upstream: (LocalAddr::new(local), UpstreamAddr::new(server)),
    };
    Entry {
        ends,
        session: SessionId::next(clock::wall()),
        opened,
        lane: "inspect".to_owned(),
        helo: "client.example".to_owned(),
        messages: 1,
        from_client: 100,
        from_server: 200,
        conduct: Conduct::default(),
        facts: None,
        tls: Some(TlsFacts { server_name: Some("mx.example".to_owned()), ..TlsFacts::default() }),
    }
}

/// A folder as the gateway has one.
fn folder() -> (tempfile::TempDir, Folder) {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(&root.path().join("spool")).unwrap();
    (root, folder)
}

#[test]
fn what_one_process_has_noted_another_recalls_once() {
    let (_root, folder) = folder();
    let old = Journal::open(folder.clone());
    let (first, second, third) = (entry(1, 10), entry(2, 20), entry(3, 30));
    old.note(&first);
    old.note(&second);
    let new = Journal::open(folder);
    assert_eq!(new.recall(&first.ends), Some(first.clone()));
    assert_eq!(new.recall(&first.ends), None);
    // The old one still drains.
    old.note(&third);
    assert_eq!(new.recall(&third.ends), None);
    new.look();
    assert_eq!(new.recall(&third.ends), Some(third));
    assert_eq!(new.recall(&second.ends), Some(second));
}

#[test]
fn two_sessions_of_a_client_with_the_same_port_are_told_apart() {
    let (_root, folder) = folder();
    let journal = Journal::open(folder.clone());
    let (first, mut second) = (entry(1, 10), entry(1, 20));
    second.ends.upstream.0 = LocalAddr::new(SocketAddr::from(([203, 0, 113, 1], 40_001)));
    journal.note(&first);
    journal.note(&second);
    let other = Journal::open(folder);
    assert_eq!(other.recall(&first.ends), Some(first));
    assert_eq!(other.recall(&second.ends), Some(second));
}

#[test]
fn what_was_told_is_not_told_again_however_often_it_is_noted() {
    let (_root, folder) = folder();
    let old = Journal::open(folder.clone());
    let (over, open) = (entry(1, 10), entry(2, 20));
    old.note(&over);
    let new = Journal::open(folder.clone());
    assert_eq!(new.recall(&over.ends), Some(over.clone()));
    // It has gone on since it was expected; and the old process has heard of no end.
    old.note(&over);
    (0..=SLACK + 2).for_each(|_| old.note(&open));
    old.tidy(1, || vec![over.clone(), open.clone()]);
    new.look();
    assert_eq!(new.recall(&over.ends), None);
    assert_eq!(new.lock().recalled.len(), 1);
    drop(old);
    new.tidy(0, Vec::new);
    let next = Journal::open(folder);
    assert_eq!(next.recall(&over.ends), None);
    assert_eq!(next.recall(&open.ends), Some(open));
}

#[test]
fn of_two_sessions_with_the_same_ends_the_later_one_counts() {
    let (_root, folder) = folder();
    let journal = Journal::open(folder.clone());
    let (early, late) = (entry(1, 10), entry(1, 20));
    journal.note(&late);
    journal.note(&early);
    assert_eq!(Journal::open(folder).recall(&late.ends), Some(late));
}

#[test]
fn a_line_that_was_cut_off_is_read_when_it_is_whole_and_nonsense_is_skipped() {
    let (_root, folder) = folder();
    let mut file = folder.create("flows-1-1").unwrap();
    let (first, second) = (entry(1, 10), entry(2, 20));
    let line = serde_json::to_vec(&second).unwrap();
    let (half, rest) = line.split_at(40);
    file.write_all(b"{\"client\":7}\n").unwrap();
    file.write_all(&serde_json::to_vec(&first).unwrap()).unwrap();
    file.write_all(b"\n").unwrap();
    file.write_all(half).unwrap();
    let journal = Journal::open(folder);
    assert_eq!(journal.recall(&second.ends), None);
    file.write_all(rest).unwrap();
    file.write_all(b"\n").unwrap();
    journal.look();
    assert_eq!(journal.recall(&second.ends), Some(second));
    assert_eq!(journal.recall(&first.ends), Some(first));
}

#[test]
fn files_of_processes_that_have_ended_go_and_what_they_knew_stays() {
    let (_root, folder) = folder();
    let (first, second) = (entry(1, 10), entry(2, 20));
    let old = Journal::open(folder.clone());
    old.note(&first);
    let living = Journal::open(folder.clone());
    living.note(&second);
    drop(old);
    let new = Journal::open(folder.clone());
    new.tidy(0, Vec::new);
    assert_eq!(folder.names().unwrap().len(), 2, "one of the one that lives, and the new one");
    drop(new);
    let next = Journal::open(folder.clone());
    assert_eq!(next.recall(&first.ends), Some(first));
    assert_eq!(next.recall(&second.ends), Some(second));
}

#[test]
fn a_long_file_is_written_anew_and_what_nobody_asks_for_is_forgotten() {
    let (_root, folder) = folder();
    let journal = Journal::open(folder.clone());
    for number in 0..=SLACK + 2 {
        journal.note(&entry(1, u64::try_from(number).unwrap()));
    }
    let last = entry(1, 5_000);
    journal.tidy(1, || vec![last]);
    assert_eq!(journal.lock().own.as_ref().unwrap().lines, 1);
    let other = Journal::open(folder.clone());
    for _ in 0..=KEPT {
        other.tidy(0, Vec::new);
    }
    assert_eq!(other.lock().recalled.len(), 1, "the other one lives");
    drop(journal);
    for _ in 0..=KEPT {
        other.tidy(0, Vec::new);
    }
    assert!(other.lock().recalled.is_empty());
    other.discard();
    assert!(folder.names().unwrap().is_empty());
}
