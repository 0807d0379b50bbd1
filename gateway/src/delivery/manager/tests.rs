//! Tasks that fail for an error of the gateway's own.

use tempfile::TempDir;

use super::*;
use crate::config::Config;
use crate::config::units::ByteCount;
use crate::delivery::settings::{Disk, Host};
use crate::delivery::transport::Setup;
use crate::dns::Resolver;
use crate::queue::{Envelope, NotifyOn, Queue, Recipient, Standing};
use crate::telemetry::Telemetry;

fn manager(folder: &TempDir) -> (Manager, Asked) {
    let config = Config::default();
    let queue = Queue::open(&folder.path().join("queue"), ByteCount::new(0)).unwrap();
    let resolver = Arc::new(Resolver::new(&config.dns).unwrap());
    let telemetry = Arc::new(Telemetry::new(&config.log, clock::now(), clock::wall()));
    let setup = Setup::new(&config, Host { name: "gw.test", addresses: &[] }, &Disk).unwrap();
    let (office, asked) = Office::new(queue, resolver, telemetry, setup);
    (Manager::new(Arc::new(office)), asked)
}

fn envelope() -> Envelope {
    Envelope { arrived: clock::wall_millis(), ..Envelope::to(["r@example.net"]) }
}

/// Has a task about a new message fail; says how the message stands then.
async fn after_fault(manager: &mut Manager, task: impl FnOnce(QueueId) -> Task) -> Standing {
    let queue = manager.office.queue.clone();
    let id = queue.accept(envelope(), vec!["Subject: a\r\n".into()]).await.unwrap();
    assert_eq!(queue.take(clock::wall(), 9), [id]);
    manager.spawn(task(id), async { unreachable!("a fault") });
    // The postmaster may be told of it by a task of its own.
    while let Some(ended) = manager.tasks.join_next_with_id().await {
        manager.ended(ended);
    }
    assert!(manager.known.is_empty());
    assert!(queue.claim(id).is_some(), "somebody has it still");
    queue.find(id).unwrap().standing
}

#[tokio::test]
async fn a_message_whose_task_fails_is_tried_again_or_kept_for_the_operator() {
    let folder = TempDir::new().unwrap();
    let (mut manager, _asked) = manager(&folder);
    assert!(matches!(after_fault(&mut manager, Task::Conclude).await, Standing::Deferred(_)));
    assert_eq!(after_fault(&mut manager, Task::Read).await, Standing::Held);
}

#[tokio::test]
async fn whom_a_server_has_taken_is_not_tried_again_when_the_delivery_fails_behind_it() {
    let folder = TempDir::new().unwrap();
    let (mut manager, _asked) = manager(&folder);
    let queue = manager.office.queue.clone();
    let recipient = |address: &str, success| Recipient {
        address: address.to_owned(),
        original: None,
        notify: Some(NotifyOn { success, failure: true, delay: true }),
    };
    let recipients =
        vec![recipient("a@b.test", true), recipient("b@b.test", true), recipient("c@b.test", false)];
    let id =
        queue.accept(Envelope { recipients, ..envelope() }, vec!["Subject: a\r\n".into()]).await.unwrap();
    assert_eq!(queue.take(clock::wall(), 9), [id]);
    manager.activate(id, queue.read(id).await.unwrap());
    let Delivery { destination, job, .. } = manager.schedule.next(clock::now()).unwrap();
    let sent = Sent::default();
    sent.add(1);
    let task = Task::Deliver { destination, message: id, recipients: job.recipients.into(), sent };
    manager.spawn(task, async { unreachable!("a fault behind the reply to a text") });
    while let Some(ended) = manager.tasks.join_next_with_id().await {
        manager.ended(ended);
    }
    assert!(manager.known.is_empty() && manager.messages.is_empty());
    assert_eq!(queue.read(id).await.unwrap().settled, [1]);
    assert!(matches!(queue.find(id).unwrap().standing, Standing::Deferred(_)));
    let reports = queue.list(Some(id), 9);
    assert_eq!(reports.len(), 1, "on the success that was asked for");
}
