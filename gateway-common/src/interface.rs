//! What the program must know of an interface it runs on.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Room for interfaces.
pub const MAX_INTERFACES: u32 = 16_384;

/// Place of the IPv4 listener among the listeners.
pub const LISTENER_V4: u32 = 0;
/// Place of the IPv6 listener.
pub const LISTENER_V6: u32 = 1;
/// How many listeners there are.
pub const LISTENERS: u32 = 2;

const CLIENT: u16 = 1;
const ETHERNET: u16 = 2;
const BRIDGED: u16 = 4;

/// What the program must know of an interface it runs on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Interface {
    flags: u16,
    bridge_mac: [u8; 6],
}
const _: () = assert!(size_of::<Interface>() == 8);

impl Interface {
    /// An interface with an Ethernet header in front of each packet, or one without any link
    /// header, on which only answers are expected.
    #[must_use]
    pub const fn new(ethernet: bool) -> Self {
        Self { flags: if ethernet { ETHERNET } else { 0 }, bridge_mac: [0; 6] }
    }

    /// New flows are taken from this interface.
    #[must_use]
    pub const fn for_clients(mut self) -> Self {
        self.flags |= CLIENT;
        self
    }

    /// The interface is a port of the bridge with this hardware address: steered frames are
    /// addressed to it, or the bridge would send them on.
    #[must_use]
    pub const fn bridged(mut self, mac: [u8; 6]) -> Self {
        self.flags |= BRIDGED;
        self.bridge_mac = mac;
        self
    }

    /// Whether new flows are taken from it.
    #[must_use]
    #[inline(always)]
    pub const fn is_for_clients(&self) -> bool {
        self.flags & CLIENT != 0
    }

    /// Whether packets begin with an Ethernet header.
    #[must_use]
    #[inline(always)]
    pub const fn is_ethernet(&self) -> bool {
        self.flags & ETHERNET != 0
    }

    /// The hardware address of the bridge it is a port of.
    #[must_use]
    #[inline(always)]
    pub const fn bridge_mac(&self) -> Option<[u8; 6]> {
        if self.flags & BRIDGED == 0 { None } else { Some(self.bridge_mac) }
    }
}
