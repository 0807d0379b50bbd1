//! Closing a connection so that the other side reads the last reply.
//!
//! A socket closed with unread octets sends a reset, and a reset throws away what the other
//! side has not read yet. So: end the writing, and read on for a moment.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::smtp::reply::Reply;

/// How long the other side may take to read and close.
const PATIENCE: Duration = Duration::from_secs(2);
/// Octets read at most.
const ENOUGH: usize = 256 * 1024;

/// Ends the writing and waits until the other side has closed, for a moment.
pub(super) async fn close(mut stream: TcpStream) {
    let closing = async {
        stream.shutdown().await?;
        let mut scratch = [0; 2048];
        let mut read = 0usize;
        while read < ENOUGH {
            match stream.read(&mut scratch).await? {
                0 => break,
                octets => read = read.saturating_add(octets),
            }
        }
        std::io::Result::Ok(())
    };
    // Whoever does not close in time is cut off by the drop.
    if let Ok(Err(error)) = timeout(PATIENCE, closing).await {
        tracing::trace!(%error, "close");
    }
}

/// Writes one reply and closes.
pub(super) async fn say_and_close(mut stream: TcpStream, reply: &Reply) {
    let mut wire = BytesMut::new();
    reply.encode(&mut wire);
    if let Ok(Ok(())) = timeout(PATIENCE, stream.write_all(&wire)).await {
        close(stream).await;
    }
}
