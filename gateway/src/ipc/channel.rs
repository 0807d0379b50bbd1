//! The socket between the two processes: one packet is one JSON message with its descriptors.
//!
//! Owns framing, sizes and the passing of descriptors (`unix(7)`, `SCM_RIGHTS`). Never looks at
//! what a message says. Whatever the other side sends is a value or an [`Error`], never a panic,
//! and never takes more memory than [`MAX_MESSAGE`].

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Octets of the longest message. Fits into the send buffer every Linux gives a socket (212,992).
pub const MAX_MESSAGE: usize = 128 * 1024;

/// Descriptors of one message.
pub const MAX_DESCRIPTORS: usize = 32;

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other process has closed its end.
    #[error("the other process has closed its end")]
    Closed,
    /// Longer than [`MAX_MESSAGE`].
    #[error("a message is longer than {MAX_MESSAGE} octets")]
    TooLong,
    /// More than [`MAX_DESCRIPTORS`].
    #[error("a message carries more than {MAX_DESCRIPTORS} descriptors")]
    TooManyDescriptors,
    /// Not JSON, or not the message that is expected here.
    #[error("a message cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// A message of ours cannot be written as JSON.
    #[error("a message cannot be written")]
    Unwritable(#[source] serde_json::Error),
    /// The socket itself.
    #[error("the socket between the processes failed")]
    Socket(#[from] io::Error),
}

impl From<rustix::io::Errno> for Error {
    fn from(error: rustix::io::Errno) -> Self {
        match error {
            rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET => Self::Closed,
            rustix::io::Errno::MSGSIZE => Self::TooLong,
            other => Self::Socket(other.into()),
        }
    }
}

/// Two ends that are connected to each other. Both close on exec; hand the child's end over as its
/// standard input.
///
/// # Errors
///
/// When the system has no descriptor left.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Takes the end that the parent process gave as standard input, which becomes empty.
///
/// # Errors
///
/// When it is no socket.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::net::sockopt::socket_type(&channel)?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(channel)
}

/// Sends one message without a runtime, if there is room for it at once.
///
/// # Errors
///
/// As [`Channel::send`].
pub fn send_now(socket: &OwnedFd, message: &impl Serialize) -> Result<(), Error> {
    Ok(send(socket.as_fd(), &written(message)?, &[])?)
}

/// A message as it is sent.
fn written(message: &impl Serialize) -> Result<Vec<u8>, Error> {
    let text = serde_json::to_vec(message).map_err(Error::Unwritable)?;
    if text.len() > MAX_MESSAGE { Err(Error::TooLong) } else { Ok(text) }
}

/// One end, for use in a tokio runtime.
#[derive(Debug)]
pub struct Channel {
    /// A `SOCK_SEQPACKET` socket. tokio has no type for one; it only waits for it here, and to
    /// `epoll(7)` all sockets are alike.
    socket: UnixDatagram,
    /// Where messages arrive; room for the longest takes longer to make than most take to read.
    packet: Mutex<Vec<u8>>,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Channel {
    /// Takes over one end of a [`pair`].
    ///
    /// # Errors
    ///
    /// When it is not a socket of that kind, or the runtime cannot watch it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(socket: OwnedFd) -> Result<Self, Error> {
        if rustix::net::sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(Error::Socket(io::Error::from(io::ErrorKind::InvalidInput)));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        let packet = Mutex::new(vec![0; MAX_MESSAGE]);
        Ok(Self { socket: UnixDatagram::from_std(socket.into())?, packet })
    }

    /// The end itself, which the runtime watches no more.
    ///
    /// # Errors
    ///
    /// When the runtime cannot let it go.
    pub fn into_socket(self) -> Result<OwnedFd, Error> {
        Ok(self.socket.into_std()?.into())
    }

    /// Sends one message with copies of `descriptors`; waits while the other side is behind.
    /// Cancelled, it has sent all or nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when nobody is there to read it; the others as they say.
    pub async fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let text = written(message)?;
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(Error::TooManyDescriptors);
        }
        let sent = || Ok(send(self.socket.as_fd(), &text, descriptors)?);
        self.socket.async_io(Interest::WRITABLE, sent).await.map_err(from_io)
    }

    /// Sends one message if there is room for it at once; says whether there was.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn try_send(&self, message: &impl Serialize) -> Result<bool, Error> {
        let text = written(message)?;
        match send(self.socket.as_fd(), &text, &[]) {
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            sent => Ok(sent.map(|()| true)?),
        }
    }

    /// Receives one message with its descriptors, which close on exec; `None` when the other side
    /// has closed. Cancelled, it has received all or nothing.
    ///
    /// # Errors
    ///
    /// What the other side did wrong. A malformed message is gone, the next one can be received.
    pub async fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>, Error> {
        let received = || {
            let mut packet = self.packet.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(receive(self.socket.as_fd(), &mut packet)?)
        };
        let received = match self.socket.async_io(Interest::READABLE, received).await.map_err(from_io) {
            Err(Error::Closed) => return Ok(None),
            other => other?,
        };
        // `recvmsg(2)` cannot tell an empty packet from the end; nobody here sends an empty one.
        if received.text.is_empty() && received.descriptors.is_empty() {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(Error::TooLong);
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Error::TooManyDescriptors);
        }
        let message = serde_json::from_slice(&received.text).map_err(Error::Malformed)?;
        Ok(Some((message, received.descriptors)))
    }
}

/// The error that `async_io` carried as one of `std`, as ours again.
fn from_io(error: io::Error) -> Error {
    match rustix::io::Errno::from_io_error(&error) {
        Some(number) => number.into(),
        None => Error::Socket(error),
    }
}

fn send(socket: BorrowedFd<'_>, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(rustix::io::Errno::MSGSIZE);
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

struct Received {
    text: Vec<u8>,
    flags: ReturnFlags,
    descriptors: Vec<OwnedFd>,
}

fn receive(socket: BorrowedFd<'_>, packet: &mut [u8]) -> rustix::io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let answer =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(packet)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let text = packet.get(..answer.bytes).unwrap_or_default().to_vec();
    Ok(Received { text, flags: answer.flags, descriptors })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;
    use crate::ipc::{ToDatapath, ToProxy};

    fn channels() -> (Channel, Channel) {
        let (left, right) = pair().unwrap();
        (Channel::new(left).unwrap(), Channel::new(right).unwrap())
    }

    fn raw(channel: &Channel, text: &[u8], descriptors: &[BorrowedFd<'_>]) {
        send(channel.socket.as_fd(), text, descriptors).unwrap();
    }

    #[tokio::test]
    async fn a_message_arrives_with_its_descriptors_in_order() {
        let (left, right) = channels();
        let mut first = tempfile::tempfile().unwrap();
        let mut second = tempfile::tempfile().unwrap();
        first.write_all(b"first").unwrap();
        second.write_all(b"second").unwrap();
        let sent = ToProxy::Reload { ticket: 7 };
        left.send(&sent, &[first.as_fd(), second.as_fd()]).await.unwrap();
        let (message, descriptors) = right.receive::<ToProxy>().await.unwrap().unwrap();
        assert_eq!(message, sent);
        let texts: Vec<String> = descriptors
            .into_iter()
            .map(|descriptor| {
                assert!(rustix::io::fcntl_getfd(&descriptor).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
                let mut file = File::from(descriptor);
                file.rewind().unwrap();
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            })
            .collect();
        assert_eq!(texts, ["first", "second"]);
    }

    #[tokio::test]
    async fn a_malformed_message_is_an_error_and_the_next_one_is_read() {
        let (left, right) = channels();
        for text in [&b"{"[..], b"\xff\xfe\x00", b"{\"type\":\"heart\"}", b"[[[[[[[[[[[[[[", b"null"] {
            raw(&left, text, &[]);
            assert!(matches!(right.receive::<ToDatapath>().await, Err(Error::Malformed(_))));
        }
        raw(&left, "[".repeat(100_000).as_bytes(), &[]);
        assert!(matches!(right.receive::<ToDatapath>().await, Err(Error::Malformed(_))));
        left.send(&ToDatapath::Heartbeat, &[]).await.unwrap();
        assert_eq!(right.receive::<ToDatapath>().await.unwrap().unwrap().0, ToDatapath::Heartbeat);
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_refused_on_both_sides() {
        let (left, right) = channels();
        let sent = ToProxy::ReloadRefused { problems: "x".repeat(MAX_MESSAGE) };
        assert!(matches!(left.send(&sent, &[]).await, Err(Error::TooLong)));
        raw(&left, &vec![b' '; MAX_MESSAGE + 1], &[]);
        assert!(matches!(right.receive::<ToProxy>().await, Err(Error::TooLong)));
    }

    #[tokio::test]
    async fn descriptors_beyond_the_limit_are_refused_and_none_stays_open() {
        let (left, right) = channels();
        let file = tempfile::tempfile().unwrap();
        let many = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
        assert!(matches!(left.send(&ToProxy::Drain, &many).await, Err(Error::TooManyDescriptors)));

        let (reader, writer) = io::pipe().unwrap();
        let many = vec![writer.as_fd(); MAX_DESCRIPTORS * 2];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS * 2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        let text = serde_json::to_vec(&ToProxy::Drain).unwrap();
        let socket = &left.socket;
        rustix::net::sendmsg(socket, &[IoSlice::new(&text)], &mut control, SendFlags::empty()).unwrap();
        assert!(matches!(right.receive::<ToProxy>().await, Err(Error::TooManyDescriptors)));

        drop(writer);
        let mut rest = Vec::new();
        // Ends only because every copy of the writing end is closed.
        (&reader).read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn the_end_of_the_other_side_is_none_also_with_unread_messages_of_ours() {
        let (left, right) = channels();
        left.send(&ToProxy::Drain, &[]).await.unwrap();
        drop(right);
        assert!(left.receive::<ToDatapath>().await.unwrap().is_none());
        assert!(matches!(left.send(&ToProxy::Drain, &[]).await, Err(Error::Closed)));
    }

    #[tokio::test]
    async fn a_message_that_may_not_wait_is_dropped_while_the_other_side_is_behind() {
        let (left, right) = channels();
        let mut sent = 0;
        while left.try_send(&ToProxy::Reload { ticket: sent }).unwrap() {
            sent += 1;
        }
        assert!(sent > 10, "{sent}");
        for ticket in 0..sent {
            let (message, _) = right.receive::<ToProxy>().await.unwrap().unwrap();
            assert_eq!(message, ToProxy::Reload { ticket });
        }
        assert!(left.try_send(&ToProxy::Drain).unwrap());
    }

    #[tokio::test]
    async fn a_stream_socket_is_not_taken() {
        let (left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Channel::new(left.into()).is_err());
    }
}
