//! What the program tells of packets of condemned flows, so that their ends can be reset.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::flow::FlowKey;

/// In `flags`: as in the TCP header (RFC 9293 section 3.1).
const FIN: u32 = 1;
const SYN: u32 = 2;
const RST: u32 = 4;
const ACK: u32 = 16;

/// A packet of a condemned flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Caught {
    flow: FlowKey,
    sequence: u32,
    acknowledgement: u32,
    octets: u32,
    flags: u32,
}
const _: () = assert!(size_of::<Caught>() == 52);

impl Caught {
    /// A packet that came in as `flow` with these numbers, `octets` of text and these flags.
    #[must_use]
    #[inline(always)]
    pub const fn new(flow: FlowKey, sequence: u32, acknowledgement: u32, octets: u32, flags: u8) -> Self {
        Self { flow, sequence, acknowledgement, octets, flags: flags as u32 }
    }

    /// From whom to whom.
    #[must_use]
    pub const fn flow(&self) -> &FlowKey {
        &self.flow
    }

    /// Sequence number of its first octet.
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Sequence number behind its last octet; SYN and FIN count as one each.
    #[must_use]
    pub const fn next_sequence(&self) -> u32 {
        let syn = if self.flags & SYN != 0 { 1 } else { 0 };
        let fin = if self.flags & FIN != 0 { 1 } else { 0 };
        self.sequence.wrapping_add(self.octets).wrapping_add(syn).wrapping_add(fin)
    }

    /// What its sender expects next; `None`: it does not say.
    #[must_use]
    pub const fn acknowledgement(&self) -> Option<u32> {
        if self.flags & ACK == 0 { None } else { Some(self.acknowledgement) }
    }

    /// Whether its sender has no such connection any more.
    #[must_use]
    pub const fn is_reset(&self) -> bool {
        self.flags & RST != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_counts_text_and_flags_modulo_2_32() {
        let fin = Caught::new(FlowKey::default(), u32::MAX - 9, 5, 10, 0x11);
        assert_eq!((fin.next_sequence(), fin.acknowledgement(), fin.is_reset()), (1, Some(5), false));
        let reset = Caught::new(FlowKey::default(), 7, 5, 0, 4);
        assert_eq!((reset.next_sequence(), reset.acknowledgement(), reset.is_reset()), (7, None, true));
    }
}
