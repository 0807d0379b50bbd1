//! The set of intercepted ports: one bit a port, in words of 64.

/// Words in the set.
pub const WORDS: u32 = 65_536 / 64;

/// Which word holds the bit of `port`.
#[must_use]
#[inline(always)]
pub const fn word(port: u16) -> u32 {
    (port >> 6) as u32
}

/// The bit of `port` within its word.
#[must_use]
#[inline(always)]
pub const fn bit(port: u16) -> u64 {
    1 << (port & 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_a_bit_of_its_own() {
        for port in 0..=u16::MAX {
            assert!(word(port) < WORDS);
            assert_eq!(u64::from(word(port)) * 64 + u64::from(bit(port).trailing_zeros()), u64::from(port));
        }
    }
}
