//! The splice lane: bytes pass between client and server unread.
//!
//! Owns how the bytes are moved, and that an end, an abort or a silence on one side reaches the
//! other: what the two would see on a direct connection. Never looks into the bytes and knows
//! nothing of SMTP. The fastest way to move them is to leave that to the kernel: see [`kernel`].
//!
//! An idle session costs its two sockets and nothing else: a pipe is taken for a burst of data and
//! given back as soon as it is empty. A direction whose receiver does not read holds one pipe (two
//! descriptors) of up to 256 KiB beside the kernel's socket buffers.

mod copy;
pub mod kernel;
mod pipe;
mod splice;

use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tracing::debug;

use crate::clock;
use crate::config::file::SpliceEngine;

use kernel::{Answer, Attempts, Kernel};
use pipe::Pipes;

/// One of the two that talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that opened the flow.
    Client,
    /// The one it was opened to.
    Server,
}

/// How bytes were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// By the kernel program, from some moment on.
    Handoff,
    /// splice(2) through a pipe, in both directions.
    Splice,
    /// Read and write, in one direction at least.
    Copy,
}

impl Engine {
    /// One word, as shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handoff => "handoff",
            Self::Splice => "splice",
            Self::Copy => "copy",
        }
    }
}

/// How a session in the splice lane ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides closed in good order.
    Closed {
        /// Who closed first.
        first: Side,
    },
    /// One side's connection broke: a reset, most often. The other's was reset too.
    Broken {
        /// Whose.
        side: Side,
        /// How.
        error: io::Error,
    },
    /// No byte moved for as long as the idle limit. Both were reset.
    Idle,
    /// The `stop` future was ready. Both were reset.
    Stopped,
    /// It has not: the kernel carries it on.
    HandedOff,
}

/// What became of a session in the splice lane.
#[derive(Debug)]
pub struct Carried {
    /// How it ended.
    pub ended: Ended,
    /// Octets read from the client.
    pub from_client: u64,
    /// Octets read from the server.
    pub from_server: u64,
    /// How they were moved.
    pub engine: Engine,
}

/// The means to carry sessions, shared by all of them.
#[derive(Debug, Default)]
pub struct Handoff {
    pipes: Pipes,
    kernel: Kernel,
}

/// A direction that came to no good end.
#[derive(Debug)]
enum Break {
    /// The socket that is read from failed.
    Read(io::Error),
    /// The socket that is written to failed.
    Write(io::Error),
}

impl Handoff {
    /// Sessions may be left to the kernel.
    #[must_use]
    pub fn with(kernel: Kernel) -> Self {
        Self { kernel, ..Self::default() }
    }

    /// Carries bytes both ways until both directions have ended, one side's connection breaks, no
    /// byte has moved for `idle` (zero: no limit), or `stop` is ready.
    ///
    /// `count` hears of octets as they are read from a side.
    pub async fn carry(
        &self,
        client: TcpStream,
        server: TcpStream,
        engine: SpliceEngine,
        idle: Duration,
        count: impl Fn(Side, u64) + Send + Sync,
        stop: impl Future<Output = ()> + Send,
    ) -> Carried {
        for socket in [&client, &server] {
            // Each piece goes out as it came in; a delay on top would be the gateway's alone.
            if let Err(error) = socket.set_nodelay(true) {
                debug!(%error, "TCP_NODELAY");
            }
        }
        let tally = Tally::new(count, engine);
        let mut attempts = Attempts::new(engine);
        let ended = {
            let mut up = pin!(self.pump(&client, &server, Side::Client, &tally));
            let mut down = pin!(self.pump(&server, &client, Side::Server, &tally));
            let mut silence = pin!(tally.silence(idle));
            let mut stop = pin!(stop);
            let (mut up_runs, mut down_runs) = (true, true);
            let mut first = None;
            let mut broken = None;
            while up_runs || down_runs {
                let whole = up_runs && down_runs && broken.is_none();
                let (side, end) = tokio::select! {
                    end = &mut up, if up_runs => (Side::Client, end),
                    end = &mut down, if down_runs => (Side::Server, end),
                    // A direction that has ended no longer notices that its source is gone.
                    error = failed(&client), if !up_runs => (Side::Client, Err(Break::Read(error))),
                    error = failed(&server), if !down_runs => (Side::Server, Err(Break::Read(error))),
                    () = attempts.due(&tally), if whole && attempts.go_on() => {
                        match self.kernel.hand_off(&client, &server).await {
                            Answer::Refused(reason) => {
                                debug!(reason = reason.name(), "not handed off");
                                if attempts.refused(reason) {
                                    self.kernel.refused(reason);
                                }
                                continue;
                            }
                            Answer::Done => broken = Some(Ended::HandedOff),
                            Answer::Lost => broken = Some(Ended::Stopped),
                        }
                        break;
                    }
                    () = &mut silence => {
                        broken = Some(Ended::Idle);
                        break;
                    }
                    () = &mut stop => {
                        broken = Some(Ended::Stopped);
                        break;
                    }
                };
                match side {
                    Side::Client => up_runs = false,
                    Side::Server => down_runs = false,
                }
                first = first.or(Some(side));
                match end {
                    Ok(()) => {}
                    // What that peer said before it broke may still wait to be read: the other
                    // direction comes to the same end by itself.
                    Err(Break::Write(error)) => {
                        broken = broken.or(Some(Ended::Broken { side: side.other(), error }));
                    }
                    Err(Break::Read(error)) => {
                        broken = broken.or(Some(Ended::Broken { side, error }));
                        break;
                    }
                }
            }
            broken.unwrap_or(Ended::Closed { first: first.unwrap_or(Side::Client) })
        };
        if !matches!(ended, Ended::Closed { .. } | Ended::HandedOff) {
            reset(client);
            reset(server);
        }
        tally.carried(ended)
    }

    /// Moves bytes from one side to the other until the end of that direction, and ends it there.
    async fn pump<F: Fn(Side, u64) + Sync>(
        &self,
        from: &TcpStream,
        to: &TcpStream,
        side: Side,
        tally: &Tally<F>,
    ) -> Result<(), Break> {
        let read = |octets| tally.read(side, octets);
        let written = |octets| tally.written(octets);
        let spliced = if tally.is_copied() {
            splice::Spliced::Refused(Vec::new())
        } else {
            splice::pump(&self.pipes, from, to, &read, &written).await?
        };
        if let splice::Spliced::Refused(rest) = spliced {
            tally.copies();
            copy::pump(from, to, rest, &read, &written).await?;
        }
        SockRef::from(to).shutdown(Shutdown::Write).map_err(Break::Write)
    }
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Closes a connection with a reset, as its other half was: RFC 9293 section 3.6, `SO_LINGER` of
/// zero seconds in socket(7).
fn reset(socket: TcpStream) {
    if let Err(error) = SockRef::from(&socket).set_linger(Some(Duration::ZERO)) {
        debug!(%error, "SO_LINGER");
    }
    drop(socket);
}

/// Returns when the connection fails, though nobody reads from it or writes to it.
async fn failed(socket: &TcpStream) -> io::Error {
    loop {
        if let Err(error) = socket.ready(Interest::ERROR).await {
            return error;
        }
        match socket.take_error() {
            Ok(Some(error)) | Err(error) => return error,
            // Somebody else has taken the error: wait for the next one.
            Ok(None) => {
                socket.try_io(Interest::ERROR, || Err(io::ErrorKind::WouldBlock.into())).unwrap_or(())
            }
        }
    }
}

/// Waits until `to` can be written, unless `from` fails meanwhile: then what it sent is worth
/// nothing to anybody.
async fn writable(from: &TcpStream, to: &TcpStream) -> Result<(), Break> {
    tokio::select! {
        biased;
        ready = to.writable() => ready.map_err(Break::Write),
        error = failed(from) => Err(Break::Read(error)),
    }
}

/// What was moved, how, and when last.
struct Tally<F> {
    count: F,
    from_client: AtomicU64,
    from_server: AtomicU64,
    /// Octets read and not yet written.
    under_way: AtomicU64,
    /// 0 while every byte was spliced.
    copies: AtomicU64,
    began: Instant,
    /// Milliseconds from `began` to the last byte that moved.
    last: AtomicU64,
}

impl<F: Fn(Side, u64)> Tally<F> {
    fn new(count: F, engine: SpliceEngine) -> Self {
        let copies = match engine {
            SpliceEngine::Auto | SpliceEngine::Handoff | SpliceEngine::Splice => 0,
            SpliceEngine::Copy => 1,
        };
        Self {
            count,
            from_client: AtomicU64::new(0),
            from_server: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            copies: AtomicU64::new(copies),
            began: clock::now(),
            last: AtomicU64::new(0),
        }
    }

    fn is_copied(&self) -> bool {
        self.copies.load(Ordering::Relaxed) != 0
    }

    fn copies(&self) {
        self.copies.store(1, Ordering::Relaxed);
    }

    fn read(&self, side: Side, octets: u64) {
        match side {
            Side::Client => self.from_client.fetch_add(octets, Ordering::Relaxed),
            Side::Server => self.from_server.fetch_add(octets, Ordering::Relaxed),
        };
        self.under_way.fetch_add(octets, Ordering::Relaxed);
        (self.count)(side, octets);
        self.touch();
    }

    fn written(&self, octets: u64) {
        self.under_way.fetch_sub(octets, Ordering::Relaxed);
        self.touch();
    }

    /// Whether both sides have spoken, all is delivered, and nothing has moved for `span`.
    fn is_quiet(&self, span: Duration) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        let elapsed = Duration::from_millis(self.elapsed_millis());
        self.from_client.load(Ordering::Relaxed) != 0
            && self.from_server.load(Ordering::Relaxed) != 0
            && self.under_way.load(Ordering::Relaxed) == 0
            && elapsed.saturating_sub(last) >= span
    }

    fn touch(&self) {
        self.last.store(self.elapsed_millis(), Ordering::Relaxed);
    }

    fn elapsed_millis(&self) -> u64 {
        u64::try_from(clock::now().saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns when no byte has moved for `limit`.
    async fn silence(&self, limit: Duration) {
        if limit.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let quiet = self.elapsed_millis().saturating_sub(self.last.load(Ordering::Relaxed));
            let left = limit.saturating_sub(Duration::from_millis(quiet));
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }

    fn carried(&self, ended: Ended) -> Carried {
        Carried {
            engine: if matches!(ended, Ended::HandedOff) {
                Engine::Handoff
            } else if self.is_copied() {
                Engine::Copy
            } else {
                Engine::Splice
            },
            ended,
            from_client: self.from_client.load(Ordering::Relaxed),
            from_server: self.from_server.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests;
