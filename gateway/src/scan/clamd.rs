//! The virus scanner clamd: INSTREAM over TCP and UNIX sockets (clamd(8), section COMMANDS).
//!
//! Streams a message while it arrives, as long as it arrives at a fair pace; a slower one is
//! streamed when it is complete. Sends the whole message or nothing that counts: a stream that is
//! given up is closed without its end mark, for which clamd gives no verdict.

use std::future::pending;
use std::io;
use std::mem;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use super::health::{Health, ScannerView};
use super::limit::{Place, Places};
use super::verdict::{self, Answer};
use super::{Step, StepCell};
use crate::config::file::{Clamd as Config, ScannerAddress};
use crate::outcome::Verdict;
use crate::spool::{self, BLOCK, SpoolReader};

/// The scanner's name in records and in the console.
pub(super) const NAME: &str = "clamd";

/// Until clamd accepts a connection: it is near, so a few seconds mean that it is not well.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Before a failed connection is tried the second and last time: clamd may be restarting.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Between two attempts at a UNIX socket whose backlog is full.
const BACKLOG_PAUSE: Duration = Duration::from_millis(50);

/// How long an early scan waits for [`BLOCK`] more bytes. Below clamd's own `ReadTimeout` (120 s by
/// default), and short, because the scan holds a place meanwhile.
const EARLY_PATIENCE: Duration = Duration::from_secs(3);

/// How long a reply may be; clamd's own are below 1 KiB.
const REPLY_LENGTH: u64 = 4096;

/// How long a clamd that closed its side for data may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect to clamd: {0}")]
    Connect(#[source] io::Error),
    #[error("clamd did not accept the connection within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    #[error("connection to clamd broke while sending: {0}")]
    Send(#[source] io::Error),
    #[error("connection to clamd broke before its answer: {0}")]
    Receive(#[source] io::Error),
    #[error("clamd closed the connection without a complete answer")]
    NoAnswer,
    #[error("clamd answered before it had the whole message")]
    EarlyAnswer,
    #[error("clamd answered: {0}")]
    Answer(String),
    #[error(transparent)]
    Spool(#[from] spool::Error),
    #[error("the scanner is shut down")]
    Stopped,
}

/// One clamd.
#[derive(Debug)]
pub(super) struct Clamd {
    address: ScannerAddress,
    max_size: u64,
    health_interval: Duration,
    places: Places,
    health: Health,
}

/// What came of a stream.
enum Streamed {
    Answer(Answer),
    /// The message arrives too slowly to hold a place for it.
    TooSlow,
}

impl Clamd {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            address: config.address.clone(),
            max_size: config.max_size.bytes(),
            health_interval: config.health_interval.duration(),
            places: Places::new(config.concurrency),
            health: Health::default(),
        }
    }

    pub(super) const fn address(&self) -> &ScannerAddress {
        &self.address
    }

    pub(super) const fn health_interval(&self) -> Duration {
        self.health_interval
    }

    pub(super) const fn health(&self) -> &Health {
        &self.health
    }

    pub(super) fn view(&self, now: Instant) -> ScannerView {
        self.health.view(now, NAME, String::from(self.address.clone()), &self.places)
    }

    /// Scans one message; stops at once when it grows beyond `max-size`.
    pub(super) async fn scan(&self, reader: SpoolReader, step: &StepCell) -> Verdict {
        let verdict = tokio::select! {
            biased;
            () = outgrown(reader.clone(), self.max_size) => Ok(Answer::TooLarge),
            answer = self.answer(reader, step) => answer,
        };
        match verdict {
            Ok(Answer::Clean) => Verdict::Clean,
            Ok(Answer::Found(signature)) => Verdict::Infected { signature },
            Ok(Answer::TooLarge) => Verdict::TooLarge,
            Ok(Answer::Failed(text)) => Verdict::Failed { reason: Failure::Answer(text).to_string() },
            Err(failure) => {
                if !matches!(failure, Failure::Spool(_)) {
                    self.health.check_soon();
                }
                Verdict::Failed { reason: failure.to_string() }
            }
        }
    }

    async fn answer(&self, mut reader: SpoolReader, step: &StepCell) -> Result<Answer, Failure> {
        reader.reached(u64::try_from(BLOCK).unwrap_or(u64::MAX)).await?;
        if !reader.is_finished()
            && let Some(place) = self.places.take_early()
            && let Streamed::Answer(answer) = self.stream(&mut reader, place, step).await?
        {
            return Ok(answer);
        }
        step.store(Step::Message);
        reader.finished().await?;
        reader.rewind();
        step.store(Step::Place);
        let place = self.places.take().await.ok_or(Failure::Stopped)?;
        match self.stream(&mut reader, place, step).await? {
            Streamed::Answer(answer) => Ok(answer),
            Streamed::TooSlow => Err(Failure::Stopped),
        }
    }

    /// Streams the message from the reader's place to its end and reads the answer.
    async fn stream(
        &self,
        reader: &mut SpoolReader,
        mut place: Place,
        step: &StepCell,
    ) -> Result<Streamed, Failure> {
        step.store(Step::Connect);
        let (mut from, mut to) = tokio::io::split(self.connect().await?);
        step.store(Step::Send);
        // Both at once: clamd answers before the end when the stream is too long for it.
        let mut reply = pin!(read_reply(&mut from));
        let sent = tokio::select! {
            biased;
            reply = &mut reply => return early(&reply?),
            sent = send(reader, &mut to, &mut place) => sent,
        };
        match sent {
            Ok(Sent::All) => {
                step.store(Step::Answer);
                Ok(Streamed::Answer(verdict::parse(&reply.await?)))
            }
            Ok(Sent::TooSlow) => Ok(Streamed::TooSlow),
            // The reply that explains the broken pipe can still be read (`INSTREAM size limit`).
            Err(Failure::Send(error)) => match timeout(LAST_WORDS, reply).await {
                Ok(Ok(reply)) => early(&reply),
                Ok(Err(_)) | Err(_) => Err(Failure::Send(error)),
            },
            Err(failure) => Err(failure),
        }
    }

    /// Connects; tries a second time, since nothing was sent yet.
    async fn connect(&self) -> Result<Box<dyn Stream>, Failure> {
        let first = timeout(CONNECT_TIMEOUT, open(&self.address)).await;
        match first {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(_)) => sleep(CONNECT_PAUSE).await,
            Err(_) => return Err(Failure::ConnectTimeout),
        }
        match timeout(CONNECT_TIMEOUT, open(&self.address)).await {
            Ok(stream) => stream.map_err(Failure::Connect),
            Err(_) => Err(Failure::ConnectTimeout),
        }
    }
}

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// Opens a connection.
pub(super) async fn open(address: &ScannerAddress) -> io::Result<Box<dyn Stream>> {
    match address {
        ScannerAddress::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        ScannerAddress::Unix(path) => loop {
            match UnixStream::connect(path).await {
                Ok(stream) => return Ok(Box::new(stream)),
                // A full backlog is an error here, where TCP waits (connect(2), EAGAIN).
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(BACKLOG_PAUSE).await,
                Err(error) => return Err(error),
            }
        },
    }
}

/// Returns once the message is longer than `max_size`; otherwise never.
async fn outgrown(mut reader: SpoolReader, max_size: u64) {
    let reached = reader.reached(max_size.saturating_add(1)).await;
    if reached.is_err() || reader.available() <= max_size {
        pending().await
    }
}

/// What an answer means that came before the message was sent.
fn early(reply: &[u8]) -> Result<Streamed, Failure> {
    match verdict::parse(reply) {
        Answer::Clean => Err(Failure::EarlyAnswer),
        answer @ (Answer::Found(_) | Answer::TooLarge | Answer::Failed(_)) => Ok(Streamed::Answer(answer)),
    }
}

enum Sent {
    All,
    TooSlow,
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
                Err(_) => return Ok(Sent::TooSlow),
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
pub(super) async fn read_reply(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Failure> {
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
