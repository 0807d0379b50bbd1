//! How accounts are kept.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::sketch::Bit;
use crate::flow::FlowKey;
use crate::lane::Address;

/// How accounts are kept.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Book {
    mask_high: u64,
    mask_low: u64,
    mask_v4: u64,
    period: u64,
    seed: u64,
    generation: u32,
    epoch: u32,
}
const _: () = assert!(size_of::<Book>() == 48);

/// The third quarter of an IPv4 address in its mapped form.
const MAPPED: u32 = 0xffff;

impl Book {
    /// Where the masks lie, in octets: three words.
    pub const MASKS: usize = offset_of!(Self, mask_high);

    /// Accounts for prefixes of these lengths and periods of so many nanoseconds. `seed` keeps
    /// strangers from choosing destinations that look like one.
    #[must_use]
    pub const fn new(v4: u32, v6: u32, period: u64, seed: u64) -> Self {
        let (high, low) = if v6 >= 64 { (64, v6 - 64) } else { (v6, 0) };
        Self {
            mask_high: prefix(high),
            mask_low: prefix(low),
            mask_v4: prefix(if v4 > 32 { 64 } else { v4 + 32 }),
            period,
            seed,
            generation: 1,
            epoch: 1,
        }
    }

    /// The same, as what follows `old`: limits and counts of open sessions of before are void.
    #[must_use]
    pub const fn following(mut self, old: &Self) -> Self {
        self.generation = old.generation.wrapping_add(1);
        self.epoch = old.epoch.wrapping_add(1);
        self
    }

    /// What a gateway's first book follows: no other one at another time says the same of accounts
    /// that are left from an earlier gateway.
    #[must_use]
    pub const fn begun(mut self, now: u64) -> Self {
        self.generation = crate::translation::moment(now);
        self.epoch = self.generation;
        self
    }

    /// The same, when the proxy has counted again.
    #[must_use]
    pub const fn next_epoch(mut self) -> Self {
        self.epoch = self.epoch.wrapping_add(1);
        self
    }

    /// Whether accounts are kept.
    #[must_use]
    #[inline(always)]
    pub const fn is_kept(&self) -> bool {
        self.period != 0
    }

    /// Changes with every change of limits.
    #[must_use]
    #[inline(always)]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Changes whenever the proxy has counted its open sessions.
    #[must_use]
    #[inline(always)]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Number of the period at a time in nanoseconds of `CLOCK_MONOTONIC`; `None`: no accounts
    /// are kept.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "periods of a second last for 136 years")]
    pub const fn number(&self, now: u64) -> Option<u32> {
        match now.checked_div(self.period) {
            Some(number) => Some(number as u32 + 1),
            None => None,
        }
    }

    /// The client that an address belongs to: the first address of its prefix.
    #[must_use]
    #[inline(always)]
    pub const fn client(&self, address: &Address) -> Address {
        client([self.mask_high, self.mask_low, self.mask_v4], address)
    }

    /// The bit of a flow's destination.
    #[must_use]
    #[inline(always)]
    pub const fn destination(&self, flow: &FlowKey) -> Bit {
        let (high, low) = halves(&flow.server_addr());
        Bit::of(mix(mix(high ^ self.seed) ^ low))
    }
}

/// The same, by the three words that lie at [`Book::MASKS`].
#[must_use]
#[inline(always)]
pub const fn client([mask_high, mask_low, mask_v4]: [u64; 3], address: &Address) -> Address {
    // By words of 32 bits as they lie: the kernel program has an address at multiples of four octets.
    let [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]] = quarters(address);
    let (a, b) = (u32::from_ne_bytes([a0, a1, a2, a3]), u32::from_ne_bytes([b0, b1, b2, b3]));
    let (c, d) = (u32::from_ne_bytes([c0, c1, c2, c3]), u32::from_ne_bytes([d0, d1, d2, d3]));
    // The upper half is 0 then, and stays so under any mask.
    let mapped = a | b == 0 && c == MAPPED.to_be();
    let low = if mapped { mask_v4 } else { mask_low };
    let [a0, a1, a2, a3] = (a & upper(mask_high).to_be()).to_ne_bytes();
    let [b0, b1, b2, b3] = (b & lower(mask_high).to_be()).to_ne_bytes();
    let [c0, c1, c2, c3] = (c & upper(low).to_be()).to_ne_bytes();
    let [d0, d1, d2, d3] = (d & lower(low).to_be()).to_ne_bytes();
    [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3]
}

#[inline(always)]
const fn quarters(address: &Address) -> [[u8; 4]; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]]
}

#[inline(always)]
const fn upper(word: u64) -> u32 {
    (word >> 32) as u32
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a half is what it is for")]
const fn lower(word: u64) -> u32 {
    word as u32
}

/// The finalizer of MurmurHash3: every bit of the input changes about half of the output.
#[inline(always)]
pub(super) const fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    word = (word ^ word >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ word >> 33
}

/// A mask of the upper bits.
const fn prefix(length: u32) -> u64 {
    match length {
        0 => 0,
        1..=63 => !(u64::MAX >> length),
        _ => u64::MAX,
    }
}

#[inline(always)]
const fn halves(address: &Address) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p]))
}
