//! Reports, on real queues.

use std::io;

use tempfile::TempDir;

use super::*;
use crate::config::Config;
use crate::delivery::settings;
use crate::delivery::settings::Disk;
use crate::queue::tests::queue_that_fails_at;

#[test]
fn reports_go_back_through_a_relay_but_into_no_mailbox() {
    let relay = |text: &str| Target::Relay(text.to_owned());
    for (target, expected) in [
        (Target::Mx, Target::Mx),
        (relay("[mail.test]:587"), relay("[mail.test]:587")),
        (relay("lmtp:unix:/run/lmtp"), Target::Mx),
        (Target::Original("192.0.2.1:25".parse().unwrap()), Target::Mx),
    ] {
        assert_eq!(way_back(&target), expected);
    }
}

/// An office whose postmaster gets a copy of what is returned, and whose disk fails at the write of this number.
fn office(folder: &TempDir, fails_at: usize) -> Office {
    let text = "delivery: {trouble-shooting: {notify-classes: [bounce]}}";
    let config: Config = crate::config::parse(text, "test").unwrap();
    let queue = queue_that_fails_at(&folder.path().join("queue"), fails_at, || {
        io::ErrorKind::ReadOnlyFilesystem.into()
    });
    let host = settings::Host { name: "gw.test", addresses: &[] };
    let setup = Setup::new(&config, host, &Disk).unwrap();
    let telemetry = Arc::new(Telemetry::new(&config.log, clock::now(), clock::wall()));
    let resolver = Arc::new(Resolver::new(&config.dns).unwrap());
    Office::new(queue, resolver, telemetry, setup).0
}

/// To whom reports on a message went, and whether that counts as told.
async fn told(fails_at: usize) -> (bool, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let office = office(&folder, fails_at);
    let envelope = Envelope {
        arrived: clock::wall_millis(),
        sender: "s@a.test".to_owned(),
        ..Envelope::to(["r@b.test"])
    };
    let id = office.queue.accept(envelope.clone(), vec!["Subject: x\r\n\r\n".into()]).await.unwrap();
    let outcome = Outcome::Bounced(Report::permanent(1, 1, "no".to_owned()));
    let fates = [Fate { place: 0, outcome, remote: None, server_reports: false }];
    let subject = Subject { id, envelope: Arc::new(envelope) };
    let is_told = office.tell(&subject, Kind::Failure, &fates, |_| Action::Failed).await.is_ok();
    let mut readers = Vec::new();
    for report in office.queue.list(Some(id), 9) {
        let stored = office.queue.read(report.id).await.unwrap();
        readers.extend(stored.envelope.recipients.into_iter().map(|reader| reader.address));
    }
    (is_told, readers)
}

// The first write begins the segment, the second is the message, the third the report to its sender.
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_who_was_told_is_not_told_again_for_the_postmasters_sake() {
    let readers = |readers: &[&str]| readers.iter().map(|reader| (*reader).to_owned()).collect::<Vec<_>>();
    assert_eq!(told(5).await, (true, readers(&["s@a.test", "postmaster@gw.test"])));
    assert_eq!(told(4).await, (true, readers(&["s@a.test"])));
    assert_eq!(told(3).await, (false, vec![]));
}
