//! What the kernel counts of each client, and what a client may have.
//!
//! A client is an address, or all addresses of one prefix. Times are divided into periods of one
//! length, numbered from 1 since the system started; an account holds two of them, the current one
//! and the one before. Distinct destinations are counted by linear counting (Whang, Vander-Zanden
//! and Taylor, 1990) in 256 bits: right to about 5% at 100 destinations and to 12% at 1,000, while
//! it takes 32 octets however many there are.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

mod book;
mod limits;
mod sketch;

pub use book::{Book, client};
pub use limits::{Limits, OnExcess};
pub use sketch::{BITS, Bit, estimate};

/// Room in the trie of networks with limits of their own.
pub const MAX_NETWORKS: u32 = 65_536;
/// Room for different limits. Number 0 is for clients that no network names.
pub const MAX_CLASSES: u32 = 1_024;

/// More destinations than this are not told apart well enough to be limited.
pub const MOST_DESTINATIONS: u32 = 1_000;

/// How long an account may say that its last packet came earlier than it did, in nanoseconds. To
/// write it at each packet would take the account from the other processors each time.
pub const SOON: u64 = 1 << 28;

/// Over `open-sessions`.
pub const OPEN_SESSIONS: u32 = 1;
/// Over `sessions`.
pub const SESSIONS: u32 = 2;
/// Over `bytes`.
pub const BYTES: u32 = 4;
/// Over `destinations`.
pub const DESTINATIONS: u32 = 8;

/// What is counted in one period.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Period {
    number: u32,
    syns: u32,
    sessions: u32,
    excess: u32,
    from_client: u64,
    from_server: u64,
    destinations: [u64; 4],
}
const _: () = assert!(size_of::<Period>() == 64);

impl Period {
    /// Where `number` lies, in octets.
    pub const NUMBER: usize = offset_of!(Self, number);
    /// Where `syns` lies.
    pub const SYNS: usize = offset_of!(Self, syns);
    /// Where `sessions` lies.
    pub const SESSIONS: usize = offset_of!(Self, sessions);
    /// Where `excess` lies.
    pub const EXCESS: usize = offset_of!(Self, excess);
    /// Where `from_client` lies; `from_server` lies behind it.
    pub const OCTETS: usize = offset_of!(Self, from_client);
    /// Where `destinations` lies.
    pub const DESTINATIONS: usize = offset_of!(Self, destinations);

    const fn empty(number: u32) -> Self {
        Self { number, syns: 0, sessions: 0, excess: 0, from_client: 0, from_server: 0, destinations: [0; 4] }
    }

    /// Its number.
    #[must_use]
    #[inline(always)]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// SYNs of flows that the gateway would take, those that were sent again and those that were
    /// refused counted.
    #[must_use]
    pub const fn syns(&self) -> u32 {
        self.syns
    }

    /// Handshakes that were completed.
    #[must_use]
    #[inline(always)]
    pub const fn sessions(&self) -> u32 {
        self.sessions
    }

    /// Which limits the client wanted to go beyond: bits such as [`BYTES`].
    #[must_use]
    #[inline(always)]
    pub const fn excess(&self) -> u32 {
        self.excess
    }

    /// Octets of text in packets from the client, those that were sent again counted again.
    #[must_use]
    pub const fn from_client(&self) -> u64 {
        self.from_client
    }

    /// Octets of text in packets to the client.
    #[must_use]
    pub const fn from_server(&self) -> u64 {
        self.from_server
    }

    /// Octets both ways.
    #[must_use]
    #[inline(always)]
    pub const fn octets(&self) -> u64 {
        self.from_client.wrapping_add(self.from_server)
    }

    /// About how many destinations there were.
    #[must_use]
    pub const fn destinations(&self) -> u32 {
        estimate(self.bits())
    }

    /// How many bits destinations have set.
    #[must_use]
    #[inline(always)]
    pub const fn bits(&self) -> u32 {
        let [a, b, c, d] = self.destinations;
        a.count_ones() + b.count_ones() + c.count_ones() + d.count_ones()
    }

    /// Whether this bit is set.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, bit: Bit) -> bool {
        self.destinations[bit.word()] & bit.mask() != 0
    }
}

/// One client's account.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Account {
    periods: [Period; 2],
    syns: u64,
    sessions: u64,
    /// Octets of all periods but the current one: a packet is added in one place only.
    from_client: u64,
    from_server: u64,
    last: u64,
    epoch: u32,
    opened: u32,
    closed: u32,
    class: u32,
    generation: u32,
    reserved: u32,
}
const _: () = assert!(size_of::<Account>() == 192);

impl Account {
    /// Where `syns` lies, in octets.
    pub const SYNS: usize = offset_of!(Self, syns);
    /// Where `sessions` lies.
    pub const SESSIONS: usize = offset_of!(Self, sessions);
    /// Where `from_client` lies; `from_server` lies behind it.
    pub const OCTETS: usize = offset_of!(Self, from_client);
    /// Where `last` lies.
    pub const LAST: usize = offset_of!(Self, last);
    /// Where `epoch` lies.
    pub const EPOCH: usize = offset_of!(Self, epoch);
    /// Where `opened` lies.
    pub const OPENED: usize = offset_of!(Self, opened);
    /// Where `closed` lies.
    pub const CLOSED: usize = offset_of!(Self, closed);
    /// Where `class` lies.
    pub const CLASS: usize = offset_of!(Self, class);
    /// Where `generation` lies.
    pub const GENERATION: usize = offset_of!(Self, generation);

    /// The period that packets were last counted in.
    #[must_use]
    #[inline(always)]
    pub const fn current(&self) -> &Period {
        let [current, _] = &self.periods;
        current
    }

    /// What was counted in the period with this number, as far as it is known.
    #[must_use]
    pub const fn period(&self, number: u32) -> Period {
        let [current, previous] = &self.periods;
        if current.number == number {
            *current
        } else if previous.number == number {
            *previous
        } else {
            Period::empty(number)
        }
    }

    /// SYNs since the account was opened.
    #[must_use]
    pub const fn syns(&self) -> u64 {
        self.syns
    }

    /// Handshakes completed since then.
    #[must_use]
    pub const fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Octets from the client and to it since then.
    #[must_use]
    pub const fn octets(&self) -> (u64, u64) {
        let now = self.current();
        (self.from_client.wrapping_add(now.from_client), self.from_server.wrapping_add(now.from_server))
    }

    /// When its last packet with text came or went, to [`SOON`]: nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    #[inline(always)]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// In which [`Book::epoch`] sessions were last opened or closed.
    #[must_use]
    #[inline(always)]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The number of its limits, good in one [`Book::generation`] only.
    #[must_use]
    #[inline(always)]
    pub const fn class(&self) -> u32 {
        self.class
    }

    /// The same where it lies, for a look-up.
    #[must_use]
    #[inline(always)]
    pub const fn class_number(&self) -> &u32 {
        &self.class
    }

    /// In which [`Book::generation`] its limits were looked up.
    #[must_use]
    #[inline(always)]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Open sessions: those the proxy counted last, with those that came and went since.
    #[must_use]
    #[inline(always)]
    pub const fn open(&self, report: Option<&Report>, epoch: u32) -> u32 {
        let known = match report {
            Some(report) if report.epoch == epoch => report.open,
            _ => 0,
        };
        if self.epoch != epoch {
            return known;
        }
        known.saturating_add(self.opened).saturating_sub(self.closed)
    }
}

/// What the proxy says of a client, which the kernel cannot know.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Report {
    epoch: u32,
    open: u32,
    /// Two periods, the even one first, and how many connections failed in each.
    periods: [u32; 2],
    failed: [u32; 2],
}
const _: () = assert!(size_of::<Report>() == 24);

impl Report {
    /// The same, but with so many open sessions in this epoch.
    #[must_use]
    pub const fn with_open(mut self, epoch: u32, open: u32) -> Self {
        self.epoch = epoch;
        self.open = open;
        self
    }

    /// The same, with so many failed connections more in this period.
    #[must_use]
    pub const fn with_failed(mut self, period: u32, more: u32) -> Self {
        let count = self.failed(period).saturating_add(more);
        if period & 1 == 0 {
            (self.periods[0], self.failed[0]) = (period, count);
        } else {
            (self.periods[1], self.failed[1]) = (period, count);
        }
        self
    }

    /// Connections to servers for this client that failed in this period.
    #[must_use]
    pub const fn failed(&self, period: u32) -> u32 {
        let ([even, odd], [in_even, in_odd]) = (self.periods, self.failed);
        match period & 1 {
            0 if even == period => in_even,
            1 if odd == period => in_odd,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
