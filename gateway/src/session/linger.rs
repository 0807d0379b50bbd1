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

/// Closes the connection of a client that has said QUIT and has its answer. It has no more to say (RFC 5321
/// section 4.1.1.10), so there is nothing to wait for: what it has not read yet is the kernel's to send.
pub(super) async fn close_after_quit(stream: TcpStream) {
    // If something has come all the same, a reset would throw the answer away.
    if let Ok(1..) = stream.try_read(&mut [0]) {
        Box::pin(close(stream)).await;
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a client hears that says `words` and waits for the end.
    async fn heard(words: &[u8]) -> std::io::Result<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
        let (mut client, (mut stream, _)) = (client?, accepted?);
        client.write_all(words).await?;
        if !words.is_empty() {
            stream.readable().await?;
        }
        stream.write_all(b"221 2.0.0 Bye\r\n").await?;
        let hearing = async move {
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.map(|_| heard)
        };
        tokio::join!(hearing, close_after_quit(stream)).0
    }

    #[tokio::test]
    async fn the_answer_to_quit_is_heard_whatever_was_said_behind_it() {
        for words in [&b""[..], b"RSET\r\n", &[b'x'; 5000]] {
            assert_eq!(heard(words).await.unwrap(), b"221 2.0.0 Bye\r\n");
        }
    }
}
