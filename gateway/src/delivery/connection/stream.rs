//! Octets in both directions at once, in clear text or under TLS.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::TlsConnector;

use super::TlsSession;

/// Octets that are read at a time.
const READ: usize = 8 * 1024;

/// Anything that octets go through.
trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Octets for T {}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// So many octets were taken to be sent.
    Out(usize),
    /// Octets came: see [`Stream::take_received`].
    In,
    /// No more will come.
    Ended,
}

pub(super) struct Stream {
    octets: Box<dyn Octets>,
    received: BytesMut,
    /// Octets were taken that may still be in a buffer.
    unflushed: bool,
    /// Nothing can be written any more; what the server said before it closed can still be read.
    deaf: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(octets: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { octets: Box::new(octets), received: BytesMut::new(), unflushed: false, deaf: false }
    }

    /// The same under TLS.
    pub(super) async fn secured(
        connector: TlsConnector,
        name: ServerName<'static>,
        stream: Self,
    ) -> io::Result<(Self, TlsSession)> {
        let secured = connector.connect(name, stream.octets).await?;
        let (_, session) = secured.get_ref();
        let version = session.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default();
        let suite =
            session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
        Ok((Self::new(secured), TlsSession { version, suite }))
    }

    /// Writes of `output`, or reads, whichever can be done first.
    pub(super) async fn move_octets(&mut self, output: &[u8]) -> Moved {
        poll_fn(|context| self.poll_move(output, context)).await
    }

    fn poll_move(&mut self, output: &[u8], context: &mut Context<'_>) -> Poll<Moved> {
        if !self.deaf
            && let Poll::Ready(written) = self.poll_out(output, context)
        {
            match written {
                Ok(octets) => return Poll::Ready(Moved::Out(octets)),
                Err(_) => self.deaf = true,
            }
        }
        let mut space = [0; READ];
        let mut buffer = ReadBuf::new(&mut space);
        match ready!(Pin::new(&mut self.octets).poll_read(context, &mut buffer)) {
            Ok(()) if !buffer.filled().is_empty() => {
                self.received.extend_from_slice(buffer.filled());
                Poll::Ready(Moved::In)
            }
            Ok(()) | Err(_) => Poll::Ready(Moved::Ended),
        }
    }

    fn poll_out(&mut self, output: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !output.is_empty() {
            let written = ready!(Pin::new(&mut self.octets).poll_write(context, output))?;
            self.unflushed = true;
            return Poll::Ready(if written == 0 {
                Err(io::ErrorKind::WriteZero.into())
            } else {
                Ok(written)
            });
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.octets).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Pending
    }

    /// Appends what was read.
    pub(super) fn take_received(&mut self, to: &mut BytesMut) {
        to.unsplit(self.received.split());
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.octets.flush().await?;
        self.octets.shutdown().await
    }
}
