//! Fills a queue: so many messages that wait for another attempt in an hour.
//!
//! `cargo xtask bench growth` runs this where a million messages by SMTP would take longer than what is measured. They
//! go the way that the relay lane's go from the end of their dialogue on, and are deferred as deliveries defer them.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use gateway::clock;
use gateway::config::units::ByteCount;
use gateway::queue::{Envelope, Queue, Recipient, Standing, Target};
use gateway_tests::lab::Family;
use gateway_tests::message;
use tokio::task::JoinSet;

/// Messages that are written at once, as of so many sessions.
const TOGETHER: u32 = 1_000;
/// Octets of a message.
const LENGTH: usize = 1024;
const ANOTHER_ATTEMPT: Duration = Duration::from_secs(60 * 60);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder: PathBuf = arguments.next().context("no folder")?.into();
    let count: u32 = arguments.next().context("no number of messages")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fill(Queue::open(&folder, ByteCount::new(0))?, count))
}

async fn fill(queue: Queue, count: u32) -> anyhow::Result<()> {
    let content = Bytes::from(message::large("waiting", LENGTH, 1));
    let due = milliseconds(clock::wall() + ANOTHER_ATTEMPT)?;
    let mut left = count;
    while left > 0 {
        let some = left.min(TOGETHER);
        let mut sessions = JoinSet::new();
        for number in left - some..left {
            let (queue, envelope, content) = (queue.clone(), envelope(number), vec![content.clone()]);
            sessions.spawn(async move { queue.accept(envelope, content).await });
        }
        for taken in sessions.join_all().await {
            ensure!(queue.set_standing(taken?, Standing::Deferred(due)), "a message is gone");
        }
        left -= some;
    }
    ensure!(queue.settled().await, "the disk failed");
    ensure!(queue.counts().deferred == usize::try_from(count)?, "{:?}", queue.counts());
    Ok(())
}

fn envelope(number: u32) -> Envelope {
    Envelope {
        arrived: clock::wall_millis(),
        sender: "sender@client.example".to_owned(),
        recipients: vec![Recipient::new(format!("recipient{number}@server.example"))],
        target: Target::Original(Family::V4.smtp()),
        ..Envelope::default()
    }
}

fn milliseconds(wall: SystemTime) -> anyhow::Result<u64> {
    Ok(u64::try_from(wall.duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?)
}
