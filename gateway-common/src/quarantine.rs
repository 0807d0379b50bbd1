//! Networks whose new flows are held off: locks.
//!
//! They lie in a trie of the longest prefix, keyed as lanes are. A lock that has expired counts as
//! absent, and then the next shorter one around it is asked: user space takes its time with
//! removing it.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Room for locks. Memory is taken one by one.
pub const MAX_LOCKS: u32 = 1_000_000;
/// Networks of a configuration that no lock touches, at most.
pub const MOST_EXEMPT: u32 = 65_536;
/// Room for those, for others in their place that are there first, and for those of operators.
pub const MAX_EXEMPT: u32 = 2 * MOST_EXEMPT + 1_024;
/// Locks around one another of which all but the last may have expired and still count as absent.
pub const MAX_NESTED: usize = 4;

/// What becomes of a SYN from a locked network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nobody answers it.
    Drop,
    /// It is answered with a reset.
    Reset,
    /// The proxy answers with one SMTP reply.
    Reject,
}

const RESET: u32 = 1;
const REJECT: u32 = 2;

/// A lock.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Lock {
    expiry: u64,
    hits: u64,
    last: u64,
    action: u32,
    prefix: u32,
}
const _: () = assert!(size_of::<Lock>() == 32);

impl Lock {
    /// Where `hits` lies, in octets.
    pub const HITS: usize = offset_of!(Self, hits);
    /// Where `last` lies.
    pub const LAST: usize = offset_of!(Self, last);

    /// A lock of a network with a prefix of this length until `expiry` (nanoseconds of
    /// `CLOCK_MONOTONIC`; 0: for ever).
    #[must_use]
    pub const fn new(prefix: u32, action: Action, expiry: u64) -> Self {
        let action = match action {
            Action::Drop => 0,
            Action::Reset => RESET,
            Action::Reject => REJECT,
        };
        Self { expiry, hits: 0, last: 0, action, prefix }
    }

    /// The same, with what `other` has counted.
    #[must_use]
    pub const fn counting_on(mut self, other: &Self) -> Self {
        self.hits = other.hits;
        self.last = other.last;
        self
    }

    /// What becomes of a SYN. A number of no action drops it.
    #[must_use]
    #[inline(always)]
    pub const fn action(&self) -> Action {
        match self.action {
            RESET => Action::Reset,
            REJECT => Action::Reject,
            _ => Action::Drop,
        }
    }

    /// Whether it counts at `now` (nanoseconds of `CLOCK_MONOTONIC`).
    #[must_use]
    #[inline(always)]
    pub const fn holds(&self, now: u64) -> bool {
        self.expiry == 0 || now < self.expiry
    }

    /// Length of the network's prefix, in bits of a mapped address.
    #[must_use]
    #[inline(always)]
    pub const fn prefix(&self) -> u32 {
        self.prefix
    }

    /// SYNs that met it.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.hits
    }

    /// When the last of them came, in nanoseconds of `CLOCK_MONOTONIC`; 0: never.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_holds_until_its_expiry_and_one_without_for_ever() {
        let lock = Lock::new(128, Action::Reset, 1_000);
        assert!(lock.holds(999) && !lock.holds(1_000));
        assert!(Lock::new(128, Action::Drop, 0).holds(u64::MAX));
        for action in [Action::Drop, Action::Reset, Action::Reject] {
            assert_eq!(Lock::new(96, action, 0).action(), action);
        }
    }
}
