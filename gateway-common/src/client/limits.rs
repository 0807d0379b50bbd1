//! What a client may have.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::sketch::{Bit, bits_of};
use super::{BYTES, DESTINATIONS, OPEN_SESSIONS, Period, SESSIONS};

/// What becomes of a client that is over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExcess {
    /// Its packets are dropped.
    Drop,
    /// New sessions are answered with a reset; running ones are reset, towards both ends.
    Reset,
    /// New sessions are refused by the proxy; running ones are reset.
    Refuse,
}

const DROP: u32 = 1;
const RESET: u32 = 2;
const REFUSE: u32 = 3;

/// What a client may have; 0: no limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Limits {
    bytes: u64,
    open_sessions: u32,
    sessions: u32,
    destination_bits: u32,
    on_excess: u32,
}
const _: () = assert!(size_of::<Limits>() == 24);

impl Limits {
    /// No limit at all.
    #[must_use]
    pub const fn none(on_excess: OnExcess) -> Self {
        let on_excess = match on_excess {
            OnExcess::Drop => DROP,
            OnExcess::Reset => RESET,
            OnExcess::Refuse => REFUSE,
        };
        Self { bytes: 0, open_sessions: 0, sessions: 0, destination_bits: 0, on_excess }
    }

    /// The same, with at most so many sessions open, and so many opened in a period.
    #[must_use]
    pub const fn with_sessions(mut self, open: u32, opened: u32) -> Self {
        self.open_sessions = open;
        self.sessions = opened;
        self
    }

    /// The same, with at most so many octets in a period, both ways together.
    #[must_use]
    pub const fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// The same, with at most about so many destinations in a period.
    #[must_use]
    pub const fn with_destinations(mut self, destinations: u32) -> Self {
        self.destination_bits = bits_of(destinations);
        self
    }

    /// Whether nothing is limited.
    #[must_use]
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.bytes | (self.open_sessions | self.sessions | self.destination_bits) as u64 == 0
    }

    /// What becomes of a client that is over one of them.
    #[must_use]
    #[inline(always)]
    pub const fn on_excess(&self) -> OnExcess {
        match self.on_excess {
            RESET => OnExcess::Reset,
            REFUSE => OnExcess::Refuse,
            _ => OnExcess::Drop,
        }
    }

    /// Which limits a new session would go beyond, in bits; 0: none. `open`: sessions open now;
    /// `bit`: its destination's.
    #[must_use]
    #[inline(always)]
    pub const fn judge(&self, period: &Period, open: u32, bit: Bit) -> u32 {
        let mut excess = 0;
        if self.open_sessions != 0 && open >= self.open_sessions {
            excess |= OPEN_SESSIONS;
        }
        if self.sessions != 0 && period.sessions >= self.sessions {
            excess |= SESSIONS;
        }
        if self.bytes != 0 && period.octets() >= self.bytes {
            excess |= BYTES;
        }
        if self.destination_bits != 0 && !period.has(bit) && period.bits() >= self.destination_bits {
            excess |= DESTINATIONS;
        }
        excess
    }

    /// Whether a packet with so many octets takes its client beyond `bytes`.
    #[must_use]
    #[inline(always)]
    pub const fn is_exceeded_by(&self, period: &Period, octets: u32) -> bool {
        self.bytes != 0 && period.octets().wrapping_add(octets as u64) > self.bytes
    }
}
