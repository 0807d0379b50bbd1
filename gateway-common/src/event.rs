//! What the program tells as it happens: things worth a line in the log.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::flow::FlowKey;
use crate::reason::Reason;

/// Least time between two events of one reason on one processor, in nanoseconds; what happens in
/// between is only counted.
pub const QUIET: u64 = 1_000_000_000;

/// One packet worth a line.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    time: u64,
    count: u64,
    reason: u32,
    interface: u32,
    error: i32,
    flow: FlowKey,
}
const _: () = assert!(size_of::<Event>() == 64);

impl Event {
    /// At `time` (nanoseconds of `CLOCK_MONOTONIC`) a packet of `flow` came in on `interface` and
    /// met `reason`, for the `count`th time on this processor. `error`: what a helper returned.
    #[must_use]
    #[inline(always)]
    pub const fn new(
        time: u64,
        count: u64,
        reason: Reason,
        interface: u32,
        error: i32,
        flow: FlowKey,
    ) -> Self {
        Self { time, count, reason: reason as u32, interface, error, flow }
    }

    /// When: nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn time(&self) -> u64 {
        self.time
    }

    /// How many packets met the same reason on the same processor, this one included.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// What the packet met; `None`: a number this version does not know.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| *reason as u32 == self.reason)
    }

    /// Number of the interface.
    #[must_use]
    pub const fn interface(&self) -> u32 {
        self.interface
    }

    /// What a kernel helper returned: 0, or a negative errno.
    #[must_use]
    pub const fn error(&self) -> i32 {
        self.error
    }

    /// The packet's flow.
    #[must_use]
    pub const fn flow(&self) -> &FlowKey {
        &self.flow
    }
}
