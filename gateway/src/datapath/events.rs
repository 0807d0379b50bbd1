//! What the program tells: events worth a line, and debug lines.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use gateway_common::caught::Caught;
use gateway_common::event::Event;
use gateway_common::name;
use tracing::debug;
use zerocopy::FromBytes as _;

use super::maps;
use super::object::Error;

/// Events worth a line. At most one a second comes of each reason and processor, so a stranger
/// cannot choose how many there are. The descriptor is readable while there are any.
pub struct Events(RingBuf<MapData>);

impl Events {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        maps::take(ebpf, name::EVENTS).map(Self)
    }

    /// The next event, if there is one.
    pub fn pop(&mut self) -> Option<Event> {
        // The program writes nothing but whole events.
        self.0.next().and_then(|bytes| Event::read_from_bytes(&bytes).ok())
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Events").field(&self.as_raw_fd()).finish()
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Packets of condemned flows. The descriptor is readable while there are any.
pub struct CaughtPackets(RingBuf<MapData>);

impl CaughtPackets {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        maps::take(ebpf, name::CAUGHT).map(Self)
    }

    /// The next packet, if there is one.
    pub fn pop(&mut self) -> Option<Caught> {
        self.0.next().and_then(|bytes| Caught::read_from_bytes(&bytes).ok())
    }
}

impl fmt::Debug for CaughtPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CaughtPackets").field(&self.0.as_raw_fd()).finish()
    }
}

impl AsFd for CaughtPackets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The program's debug lines.
pub(super) struct Log(EbpfLogger<ToTracing>);

impl Log {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        // The only way this fails is that the object has no such map.
        EbpfLogger::init_with_logger(ebpf, ToTracing).map(Self).map_err(|_| Error::Incomplete("AYA_LOGS"))
    }

    pub(super) fn flush(&mut self) {
        self.0.flush();
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Log").field(&self.0.as_raw_fd()).finish()
    }
}

/// Hands the lines to `tracing`.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        debug!(line = %record.args(), "kernel program");
    }

    fn flush(&self) {}
}
