//! What becomes of a new flow by its client's or server's address alone.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Room in each of the two tries.
pub const MAX_PREFIXES: u32 = 65_536;

/// The address part of a trie's key; IPv4 addresses are [`crate::flow::mapped`], so that their
/// prefixes are 96 bits longer.
pub type Address = [u8; 16];

/// Length of the prefix that stands for `0.0.0.0/0`.
pub const V4_PREFIX: u32 = 96;

/// The forwarding lanes that the kernel carries out itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The flow is forwarded as if there were no gateway.
    Bypass,
    /// Its packets are dropped.
    Block,
    /// The proxy decides.
    User,
}

/// A trie's value: the lane, and the place in the ordered list of the rule that says so.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Entry {
    rule: u32,
    lane: u32,
}
const _: () = assert!(size_of::<Entry>() == 8);

const BYPASS: u32 = 1;
const BLOCK: u32 = 2;
const USER: u32 = 3;

impl Entry {
    /// Rule number `rule`, counted from 0, says `lane`.
    #[must_use]
    pub const fn new(rule: u32, lane: Lane) -> Self {
        let lane = match lane {
            Lane::Bypass => BYPASS,
            Lane::Block => BLOCK,
            Lane::User => USER,
        };
        Self { rule, lane }
    }

    /// The rule's place in the list.
    #[must_use]
    #[inline(always)]
    pub const fn rule(&self) -> u32 {
        self.rule
    }

    /// What it says. A number of no lane leaves it to the proxy.
    #[must_use]
    #[inline(always)]
    pub const fn lane(&self) -> Lane {
        match self.lane {
            BYPASS => Lane::Bypass,
            BLOCK => Lane::Block,
            _ => Lane::User,
        }
    }
}

/// The lane of a flow for whose client and server these entries were found: the earlier rule wins.
#[must_use]
#[inline(always)]
pub const fn choose(client: Option<&Entry>, server: Option<&Entry>) -> Lane {
    match (client, server) {
        (Some(client), Some(server)) if client.rule() <= server.rule() => client.lane(),
        (_, Some(server)) => server.lane(),
        (Some(client), None) => client.lane(),
        (None, None) => Lane::User,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_rule_wins() {
        let (first, second) = (Entry::new(0, Lane::Block), Entry::new(1, Lane::Bypass));
        assert_eq!(choose(Some(&first), Some(&second)), Lane::Block);
        assert_eq!(choose(Some(&second), Some(&first)), Lane::Block);
        assert_eq!(choose(None, Some(&second)), Lane::Bypass);
        assert_eq!(choose(Some(&second), None), Lane::Bypass);
        assert_eq!(choose(None, None), Lane::User);
    }
}
