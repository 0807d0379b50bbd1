//! Read and write: where splice(2) is refused or not wanted.

use std::io;

use tokio::net::TcpStream;
use tokio::task::consume_budget;

use super::{Break, writable};

/// The buffer of one direction, in bytes; held only while there is something to move.
const BUFFER_SIZE: usize = 64 * 1024;

/// Writes `first`, then copies from one socket to another until the first one's end.
pub(super) async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    first: Vec<u8>,
    on_read: &(impl Fn(u64) + Sync),
    on_written: &(impl Fn(u64) + Sync),
) -> Result<(), Break> {
    write_all(from, to, &first, on_written).await?;
    drop(first);
    loop {
        from.readable().await.map_err(Break::Read)?;
        let mut buffer = vec![0; BUFFER_SIZE];
        loop {
            match from.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    on_read(u64::try_from(count).unwrap_or(u64::MAX));
                    write_all(from, to, buffer.get(..count).unwrap_or_default(), on_written).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Break::Read(error)),
            }
            consume_budget().await;
        }
    }
}

async fn write_all(
    from: &TcpStream,
    to: &TcpStream,
    mut bytes: &[u8],
    on_written: &(impl Fn(u64) + Sync),
) -> Result<(), Break> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(0) => return Err(Break::Write(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                on_written(u64::try_from(count).unwrap_or(u64::MAX));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => writable(from, to).await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Break::Write(error)),
        }
    }
    Ok(())
}
