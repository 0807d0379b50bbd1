//! splice(2): bytes go from socket to pipe to socket as references, not as copies.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::unistd::read;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::consume_budget;

use super::pipe::{Pipe, Pipes};
use super::{Break, writable};

/// How much a pipe holds, in bytes, and so how much one call moves.
pub(super) const PIPE_SIZE: usize = 256 * 1024;

/// Not `SPLICE_F_MORE`: it lets the kernel hold back a part of a segment for up to 200 ms when
/// nothing follows, and what passes here is often a dialogue.
const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

/// How splicing one direction ended.
#[derive(Debug)]
pub(super) enum Spliced {
    /// At the end of the stream; everything is delivered.
    End,
    /// The kernel does not splice here, or there is no pipe to be had; these bytes are read and
    /// not yet delivered.
    Refused(Vec<u8>),
}

/// How emptying a pipe ended.
enum Drained {
    All,
    Refused,
}

/// Splices from one socket to another until the first one's end.
pub(super) async fn pump(
    pipes: &Pipes,
    from: &TcpStream,
    to: &TcpStream,
    on_read: &(impl Fn(u64) + Sync),
    on_written: &(impl Fn(u64) + Sync),
) -> Result<Spliced, Break> {
    loop {
        from.readable().await.map_err(Break::Read)?;
        let Ok(pipe) = pipes.take() else { return Ok(Spliced::Refused(Vec::new())) };
        loop {
            // The pipe is empty here, so a call that would block waits for the socket.
            match from.try_io(Interest::READABLE, || move_bytes(from, &pipe.write, PIPE_SIZE)) {
                Ok(0) => {
                    pipes.give(pipe);
                    return Ok(Spliced::End);
                }
                Ok(moved) => {
                    on_read(u64::try_from(moved).unwrap_or(u64::MAX));
                    let mut left = moved;
                    if let Drained::Refused = drain(&pipe, from, to, &mut left, on_written).await? {
                        return rest(&pipe, left).map(Spliced::Refused).map_err(Break::Read);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_refusal(&error) => return Ok(Spliced::Refused(Vec::new())),
                Err(error) => return Err(Break::Read(error)),
            }
            consume_budget().await;
        }
        pipes.give(pipe);
    }
}

/// Moves the `left` bytes in the pipe on.
async fn drain(
    pipe: &Pipe,
    from: &TcpStream,
    to: &TcpStream,
    left: &mut usize,
    on_written: &(impl Fn(u64) + Sync),
) -> Result<Drained, Break> {
    while *left > 0 {
        match to.try_io(Interest::WRITABLE, || move_bytes(&pipe.read, to, *left)) {
            Ok(0) => return Err(Break::Write(io::ErrorKind::WriteZero.into())),
            Ok(moved) => {
                *left = left.saturating_sub(moved);
                on_written(u64::try_from(moved).unwrap_or(u64::MAX));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => writable(from, to).await?,
            Err(error) if is_refusal(&error) => return Ok(Drained::Refused),
            Err(error) => return Err(Break::Write(error)),
        }
    }
    Ok(Drained::All)
}

fn move_bytes(from: impl AsFd, to: impl AsFd, length: usize) -> io::Result<usize> {
    loop {
        match splice(&from, None, &to, None, length, FLAGS) {
            Err(Errno::EINTR) => {}
            moved => return Ok(moved?),
        }
    }
}

/// Whether the kernel, or a filter on system calls, does not splice between these two.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM))
}

/// Reads what is left in a pipe.
fn rest(pipe: &Pipe, left: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; left];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match read(&pipe.read, room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled = filled.saturating_add(count),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(bytes)
}
