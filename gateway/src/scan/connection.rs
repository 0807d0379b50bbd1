//! Connections to scanners.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use super::failure::Failure;
use super::step::{Step, StepCell};
use crate::config::file::ScannerAddress;

/// Until a scanner accepts a connection: it is near, so a few seconds mean that it is not well.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Before a failed connection is tried the second and last time: the scanner may be restarting.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Between two attempts at a UNIX socket whose backlog is full.
const BACKLOG_PAUSE: Duration = Duration::from_millis(50);

/// How long a scanner that closed its side for data may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(5);

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

/// Opens a connection for a message; tries a second time, since nothing was sent yet.
pub(super) async fn connect(address: &ScannerAddress, step: &StepCell) -> Result<Box<dyn Stream>, Failure> {
    step.store(Step::Connect);
    let stream = match timeout(CONNECT_TIMEOUT, open(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(_)) => {
            sleep(CONNECT_PAUSE).await;
            match timeout(CONNECT_TIMEOUT, open(address)).await {
                Ok(stream) => stream.map_err(Failure::Connect),
                Err(_) => Err(Failure::ConnectTimeout),
            }
        }
        Err(_) => Err(Failure::ConnectTimeout),
    }?;
    step.store(Step::Send);
    Ok(stream)
}

/// What a scanner said, and when.
pub(super) enum Reply {
    /// Before it had the whole message.
    Early(Vec<u8>),
    /// After.
    Complete(Vec<u8>),
    /// It was not heard, because the sending was given up.
    Unheard,
}

/// Whether all was sent.
pub(super) enum Sent {
    All,
    GivenUp,
}

/// Sends and listens, both at once: a scanner that does not want the rest answers before the end.
pub(super) async fn converse(
    sending: impl Future<Output = Result<Sent, Failure>>,
    reply: impl Future<Output = Result<Vec<u8>, Failure>>,
    step: &StepCell,
) -> Result<Reply, Failure> {
    let mut reply = pin!(reply);
    let sent = tokio::select! {
        biased;
        reply = &mut reply => return Ok(Reply::Early(reply?)),
        sent = sending => sent,
    };
    match sent {
        Ok(Sent::All) => {
            step.store(Step::Answer);
            Ok(Reply::Complete(reply.await?))
        }
        Ok(Sent::GivenUp) => Ok(Reply::Unheard),
        // The reply that explains the broken pipe can still be read (`INSTREAM size limit`).
        Err(Failure::Send(error)) => match timeout(LAST_WORDS, reply).await {
            Ok(Ok(reply)) => Ok(Reply::Early(reply)),
            Ok(Err(_)) | Err(_) => Err(Failure::Send(error)),
        },
        Err(failure) => Err(failure),
    }
}
