//! What the loader tells the program.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the loader tells the program.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Settings {
    steered_mark: u32,
    own_mark: u32,
    mask: u32,
    when_down: u32,
}
const _: () = assert!(size_of::<Settings>() == 16);

const DROP: u32 = 1;

impl Settings {
    /// Marks of steered packets and of the gateway's own sockets, both under `mask`. New flows
    /// pass while no socket listens.
    #[must_use]
    pub const fn new(steered_mark: u32, own_mark: u32, mask: u32) -> Self {
        Self { steered_mark: steered_mark & mask, own_mark: own_mark & mask, mask, when_down: 0 }
    }

    /// New flows are dropped while no socket listens.
    #[must_use]
    pub const fn dropping_when_down(mut self) -> Self {
        self.when_down = DROP;
        self
    }

    /// Whether `mark` is that of a packet the program has steered already.
    #[must_use]
    #[inline(always)]
    pub const fn is_steered(&self, mark: u32) -> bool {
        mark & self.mask == self.steered_mark
    }

    /// Whether `mark` is that of the gateway's own sockets.
    #[must_use]
    #[inline(always)]
    pub const fn is_own(&self, mark: u32) -> bool {
        mark & self.mask == self.own_mark
    }

    /// The mark of a packet that had `mark`, once it is steered.
    #[must_use]
    #[inline(always)]
    pub const fn steer(&self, mark: u32) -> u32 {
        mark & !self.mask | self.steered_mark
    }

    /// The mark of a packet that had `mark`, once it is to be taken for the gateway's own.
    #[must_use]
    #[inline(always)]
    pub const fn own(&self, mark: u32) -> u32 {
        mark & !self.mask | self.own_mark
    }

    /// Whether new flows are dropped while no socket listens.
    #[must_use]
    #[inline(always)]
    pub const fn drops_when_down(&self) -> bool {
        self.when_down == DROP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_outside_the_mask_belong_to_others() {
        let settings = Settings::new(0x2500, 0x2600, 0xff00);
        assert!(settings.is_own(0xaa00_26bb));
        assert!(settings.is_steered(0x0001_2500));
        assert!(!settings.is_steered(0x2600));
        assert_eq!(settings.steer(0xaa00_ffbb), 0xaa00_25bb);
    }
}
