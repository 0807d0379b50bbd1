//! The virus scanner clamd: INSTREAM over TCP and UNIX sockets (clamd(8), section COMMANDS).
//!
//! Streams a message while it arrives, as long as it arrives at a fair pace; a slower one is
//! streamed when it is complete. Sends the whole message or nothing that counts: a stream that is
//! given up is closed without its end mark, for which clamd gives no verdict.

mod answer;
mod check;

use std::mem;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::connection::{Reply, Sent, connect, converse};
use super::failure::Failure;
use super::limit::Place;
use super::step::StepCell;
use crate::config::file::ScannerAddress;
use crate::outcome::Finding;
use crate::spool::SpoolReader;
use answer::Answer;

/// How long an early scan waits for a block more. Below clamd's own `ReadTimeout` (120 s by
/// default), and short, because the scan holds a place meanwhile.
const EARLY_PATIENCE: Duration = Duration::from_secs(3);

/// How long a reply may be; clamd's own are below 1 KiB.
const REPLY_LENGTH: u64 = 4096;

/// One clamd.
#[derive(Debug)]
pub(super) struct Clamd {
    address: ScannerAddress,
    check: check::Check,
}

impl Clamd {
    pub(super) fn new(address: &ScannerAddress) -> Self {
        Self { address: address.clone(), check: check::Check::default() }
    }

    /// Streams the message from the reader's place to its end and reads the answer. `None`: it
    /// arrives too slowly to hold a place for it.
    pub(super) async fn scan(
        &self,
        reader: &mut SpoolReader,
        mut place: Place,
        step: &StepCell,
    ) -> Result<Option<Finding>, Failure> {
        let (mut from, mut to) = tokio::io::split(connect(&self.address, step).await?);
        let sending = send(reader, &mut to, &mut place);
        match converse(sending, read_reply(&mut from), step).await? {
            Reply::Early(reply) => match finding(answer::parse(&reply))? {
                Finding::Clean => Err(Failure::EarlyAnswer),
                found @ (Finding::Infected { .. }
                | Finding::Rated(_)
                | Finding::TooLarge
                | Finding::Skipped { .. }
                | Finding::Failed { .. }) => Ok(Some(found)),
            },
            Reply::Complete(reply) => finding(answer::parse(&reply)).map(Some),
            Reply::Unheard => Ok(None),
        }
    }

    /// Asks whether it is well; its version, or what is wrong.
    pub(super) async fn check(&self) -> Result<String, String> {
        self.check.ask(&self.address).await
    }
}

fn finding(answer: Answer) -> Result<Finding, Failure> {
    match answer {
        Answer::Clean => Ok(Finding::Clean),
        Answer::Found(signature) => Ok(Finding::Infected { signature }),
        Answer::TooLarge => Ok(Finding::TooLarge),
        Answer::Failed(text) => Err(Failure::Answer(text)),
    }
}

/// Sends the command and the rest of the message in chunks, each led by its length (32 bits, network
/// order), and the empty chunk that ends it.
async fn send(
    reader: &mut SpoolReader,
    to: &mut (impl AsyncWrite + Unpin),
    place: &mut Place,
) -> Result<Sent, Failure> {
    let mut command = Bytes::from_static(b"zINSTREAM\0");
    loop {
        let chunk = if reader.is_finished() {
            place.complete();
            reader.next().await?
        } else {
            match timeout(EARLY_PATIENCE, reader.next()).await {
                Ok(chunk) => chunk?,
                Err(_) => return Ok(Sent::GivenUp),
            }
        };
        let is_end = chunk.is_none();
        let chunk = chunk.unwrap_or_default();
        let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX).to_be_bytes();
        // One vectored write: no copy, and no packet for the length alone.
        let mut frame = mem::take(&mut command).chain(&length[..]).chain(chunk);
        to.write_all_buf(&mut frame).await.map_err(Failure::Send)?;
        if is_end {
            return Ok(Sent::All);
        }
    }
}

/// Reads one reply, which ends with a NUL as the command does.
async fn read_reply(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Failure> {
    let mut reply = Vec::new();
    let mut from = from.take(REPLY_LENGTH);
    loop {
        // Never reads far beyond the NUL: one connection carries one command.
        let read = from.read_buf(&mut reply).await.map_err(Failure::Receive)?;
        if let Some(end) = memchr::memchr(0, &reply) {
            reply.truncate(end);
            return Ok(reply);
        }
        if read == 0 {
            return Err(Failure::NoAnswer);
        }
    }
}
