//! Counting what is distinct in 256 bits.

/// Bits by which destinations are told apart.
pub const BITS: u32 = 256;

/// The bit of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bit(u32);

impl Bit {
    /// The bit of what has this hash.
    #[inline(always)]
    pub(super) const fn of(hash: u64) -> Self {
        Self((hash >> 56) as u32)
    }

    /// Which of the four words it is in.
    #[must_use]
    #[inline(always)]
    pub const fn word(self) -> usize {
        (self.0 >> 6 & 3) as usize
    }

    /// Its place in the word.
    #[must_use]
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        1 << (self.0 & 63)
    }
}

/// How many things most likely set this many bits, each one by chance: the mean of the collector
/// who draws until he has so many different ones of [`BITS`].
#[must_use]
pub const fn estimate(bits: u32) -> u32 {
    const POINT: u32 = 16;
    let mut sum = 0u64;
    let mut found = 0;
    while found < bits && found < BITS {
        sum += ((BITS as u64) << POINT) / (BITS - found) as u64;
        found += 1;
    }
    #[expect(clippy::cast_possible_truncation, reason = "all 256 bits stand for 1,568")]
    let estimate = ((sum + (1 << (POINT - 1))) >> POINT) as u32;
    estimate
}

/// How many bits so many destinations set most likely; 0 stays 0.
pub(super) const fn bits_of(destinations: u32) -> u32 {
    let mut bits = 0;
    while bits < BITS && estimate(bits) < destinations {
        bits += 1;
    }
    bits
}
