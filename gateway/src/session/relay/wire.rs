//! The connection to a client, in clear or under TLS.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::linger;
use crate::smtp::server::TlsSession;

/// Octets read at once: a TLS record.
const READ: usize = 16 * 1024;
/// How long the farewell of TLS may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What has happened.
#[derive(Debug)]
pub(super) enum Moved {
    /// So many octets were taken to be sent.
    Out(usize),
    /// So many octets were read.
    In(usize),
    /// The client will send no more.
    Ended,
    /// Nothing can be read or written any more.
    Lost,
}

/// A connection; without its octets while TLS is being agreed on.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    /// Octets were taken that may still be in a buffer.
    unflushed: bool,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

impl Wire {
    pub(super) const fn plain(stream: TcpStream) -> Self {
        Self { stream: Stream::Plain(stream), unflushed: false }
    }

    /// Agrees on TLS with the client behind `stream`.
    pub(super) async fn secured(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<(Self, TlsSession)> {
        let stream = acceptor.accept(stream).await?;
        let (_, session) = stream.get_ref();
        let version = session.protocol_version().map(|version| format!("{version:?}"));
        let suite = session.negotiated_cipher_suite().map(|suite| suite_name(suite.suite()));
        let session = TlsSession { version: version.unwrap_or_default(), suite: suite.unwrap_or_default() };
        Ok((Self { stream: Stream::Secured(Box::new(stream)), unflushed: false }, session))
    }

    /// The socket, for the handshake.
    pub(super) fn into_plain(self) -> Option<TcpStream> {
        match self.stream {
            Stream::Plain(stream) => Some(stream),
            Stream::Secured(_) => None,
        }
    }

    /// Writes of `output`, or reads into `input` where that is wanted, whichever can be done first. Cancelled,
    /// it has done neither.
    pub(super) fn poll_move(
        &mut self,
        output: &[u8],
        input: Option<&mut BytesMut>,
        context: &mut Context<'_>,
    ) -> Poll<Moved> {
        if let Poll::Ready(written) = self.poll_out(output, context) {
            return Poll::Ready(written.map_or(Moved::Lost, Moved::Out));
        }
        let Some(input) = input else { return Poll::Pending };
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        match ready!(self.stream.poll_read(context, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => Poll::Ready(Moved::Ended),
            Ok(()) => {
                input.extend_from_slice(buffer.filled());
                Poll::Ready(Moved::In(buffer.filled().len()))
            }
            // Under TLS, the end without a farewell is no more than the end.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Moved::Ended),
            Err(_) => Poll::Ready(Moved::Lost),
        }
    }

    fn poll_out(&mut self, output: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !output.is_empty() {
            let written = ready!(self.stream.poll_write(context, output))?;
            self.unflushed = true;
            return Poll::Ready(if written == 0 {
                Err(io::ErrorKind::WriteZero.into())
            } else {
                Ok(written)
            });
        }
        if self.unflushed {
            ready!(self.stream.poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Pending
    }

    /// Closes it so that the client reads the last reply.
    pub(super) async fn close(self) {
        match self.stream {
            Stream::Plain(stream) => linger::close(stream).await,
            Stream::Secured(mut stream) => {
                if let Ok(Ok(())) = timeout(FAREWELL, stream.shutdown()).await {
                    linger::close(stream.into_inner().0).await;
                }
            }
        }
    }
}

impl Stream {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secured(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, output: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, output),
            Self::Secured(stream) => Pin::new(stream).poll_write(context, output),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secured(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}

/// The registered name of a cipher suite: rustls writes those of TLS 1.3 with a number more.
fn suite_name(suite: rustls::CipherSuite) -> String {
    format!("{suite:?}").replacen("TLS13_", "TLS_", 1)
}
