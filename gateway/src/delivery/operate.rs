//! What operators have done with mail in the queue, apart from marks that the queue takes by itself.

use super::destination::DestinationError;
use super::next_hop::NextHop;
use super::office::Office;
use crate::queue::{Queue, QueueId, ReadError, Standing, Target, WriteError};

/// Messages that are looked at before others may have a turn.
const PAGE: usize = 1_000;

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The message cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is being delivered, or another operator has it.
    #[error("the message is being delivered")]
    UnderWay,
    /// It is no destination.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The queue cannot be written.
    #[error("the queue cannot be written: {0}")]
    Write(#[from] WriteError),
}

/// Tries messages now; destinations that are left alone are not any more. Returns how many there were.
pub async fn retry(office: &Office, ids: &[QueueId]) -> usize {
    office.revive().await;
    ids.iter().filter(|id| office.queue.set_standing(**id, Standing::Ready)).count()
}

/// Tries all mail for a destination now: a domain, or a next hop as [`NextHop::parse`] reads it. Returns how many
/// messages there were that waited for another attempt.
///
/// # Errors
///
/// It is no destination.
pub async fn flush(office: &Office, destination: &str) -> Result<usize, OperateError> {
    let wanted = NextHop::parse(destination)?;
    let name = office.setup.load().name.clone();
    office.revive().await;
    let (mut after, mut count) = (None, 0usize);
    loop {
        let page = office.queue.list(after, PAGE);
        let Some(last) = page.last() else { return Ok(count) };
        after = Some(last.id);
        for summary in page.iter().filter(|summary| matches!(summary.standing, Standing::Deferred(_))) {
            let Ok(stored) = office.queue.read(summary.id).await else { continue };
            let goes_there = stored.envelope.recipients.iter().any(|recipient| {
                NextHop::of(&stored.envelope.target, &recipient.address, &name).is_ok_and(|hop| {
                    hop.protocol == wanted.protocol && hop.destinations == wanted.destinations
                })
            });
            if goes_there && office.queue.set_standing(summary.id, Standing::Ready) {
                count = count.saturating_add(1);
            }
        }
    }
}

/// Puts a message into the queue anew, for the recipients that are left, and returns its new name.
///
/// It goes to `target` if there is one, and as if its sender had never been warned. Its age stays what it is. Broken off,
/// the message is as it was.
///
/// # Errors
///
/// The message is as it was.
pub async fn requeue(office: &Office, id: QueueId, target: Option<Target>) -> Result<QueueId, OperateError> {
    if let Some(Target::Relay(text)) = &target {
        NextHop::parse(text)?;
    }
    let queue = &office.queue;
    queue.find(id).ok_or(ReadError::Gone)?;
    // Whoever asked may leave at any time.
    let claim = queue.claim(id).ok_or(OperateError::UnderWay)?;
    let new = copy(queue, id, target).await?;
    claim.remove();
    Ok(new)
}

async fn copy(queue: &Queue, id: QueueId, target: Option<Target>) -> Result<QueueId, OperateError> {
    let stored = queue.read(id).await?;
    let mut envelope = stored.envelope;
    let settled = stored.settled;
    envelope.recipients = (0u32..)
        .zip(envelope.recipients)
        .filter(|(place, _)| settled.binary_search(place).is_err())
        .map(|(_, recipient)| recipient)
        .collect();
    if let Some(target) = target {
        envelope.target = target;
    }
    let mut large = queue.begin(envelope).await?;
    let mut reader = stored.content.reader();
    while let Some(piece) = reader.next().await? {
        large.write(piece).await?;
    }
    Ok(large.finish().await?)
}
