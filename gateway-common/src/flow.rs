//! What the kernel notes of a flow's first packet.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IPv4 address as the IPv6 address that stands for it (RFC 4291 section 2.5.5.2).
#[must_use]
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// A flow, from its client's point of view. IPv4 addresses are [`mapped`].
///
/// It is aligned for the kernel program, which would otherwise copy it octet by octet. Functions that fill one
/// where it lies are for that program too: it has few registers, and pays for its stack.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowKey {
    /// The client's, and the server's.
    addresses: [[u8; 16]; 2],
    ports: [[u8; 2]; 2],
}
const _: () = assert!(size_of::<FlowKey>() == 36);

impl FlowKey {
    /// The flow from `client` to `server`, each an address and a port in network byte order.
    #[must_use]
    #[inline(always)]
    pub const fn new(client: ([u8; 16], [u8; 2]), server: ([u8; 16], [u8; 2])) -> Self {
        Self { addresses: [client.0, server.0], ports: [client.1, server.1] }
    }

    /// The same flow, as if the server were the client.
    #[must_use]
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self::new(self.server_end(), self.client_end())
    }

    /// Becomes another flow, as if that one's server were its client.
    #[inline(always)]
    pub const fn reverse_of(&mut self, other: &Self) {
        self.addresses[0] = other.addresses[1];
        self.addresses[1] = other.addresses[0];
        self.ports[0] = other.ports[1];
        self.ports[1] = other.ports[0];
    }

    /// The client's address and port, in network byte order.
    #[must_use]
    #[inline(always)]
    pub const fn client_end(&self) -> ([u8; 16], [u8; 2]) {
        (self.addresses[0], self.ports[0])
    }

    /// The server's.
    #[must_use]
    #[inline(always)]
    pub const fn server_end(&self) -> ([u8; 16], [u8; 2]) {
        (self.addresses[1], self.ports[1])
    }

    /// Gets another client.
    #[inline(always)]
    pub const fn set_client(&mut self, addr: &[u8; 16], port: [u8; 2]) {
        self.addresses[0] = *addr;
        self.ports[0] = port;
    }

    /// Gets another server.
    #[inline(always)]
    pub const fn set_server(&mut self, addr: &[u8; 16], port: [u8; 2]) {
        self.addresses[1] = *addr;
        self.ports[1] = port;
    }

    /// The client's address, and the server's behind it.
    #[must_use]
    #[inline(always)]
    pub const fn addresses(&self) -> &[[u8; 16]; 2] {
        &self.addresses
    }

    /// The same, to be filled.
    #[must_use]
    #[inline(always)]
    pub const fn addresses_mut(&mut self) -> &mut [[u8; 16]; 2] {
        &mut self.addresses
    }

    /// Gets these IPv4 addresses.
    #[inline(always)]
    pub fn set_v4(&mut self, client: &[u8; 4], server: &[u8; 4]) {
        const MAPPED: u32 = 0xffff_u32.to_be();
        let [client, server] = [u32::from_ne_bytes(*client), u32::from_ne_bytes(*server)];
        let [addresses @ .., _] = self.words_mut();
        *addresses = [0, 0, MAPPED, client, 0, 0, MAPPED, server];
    }

    /// Its addresses, if they are of IPv4.
    #[must_use]
    #[inline(always)]
    pub const fn v4(&self) -> [[u8; 4]; 2] {
        let [[.., a, b, c, d], [.., e, f, g, h]] = &self.addresses;
        [[*a, *b, *c, *d], [*e, *f, *g, *h]]
    }

    /// The client's port and the server's, in network byte order: what a TCP header begins with.
    #[must_use]
    #[inline(always)]
    pub const fn ports(&self) -> [u8; 4] {
        let [[a, b], [c, d]] = self.ports;
        [a, b, c, d]
    }

    /// Gets these ports, in network byte order.
    #[inline(always)]
    pub fn set_ports(&mut self, ports: [u8; 4]) {
        let [.., both] = self.words_mut();
        *both = u32::from_ne_bytes(ports);
    }

    /// The same as `==`, by words.
    #[must_use]
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        difference(self.words(), other.words()) == 0
    }

    /// Whether it has the same addresses as another.
    #[must_use]
    #[inline(always)]
    pub fn has_addresses_of(&self, other: &Self) -> bool {
        let ([ours @ .., _], [theirs @ .., _]) = (self.words(), other.words());
        difference(ours, theirs) == 0
    }

    #[inline(always)]
    fn words_mut(&mut self) -> &mut [u32; 9] {
        zerocopy::transmute_mut!(self)
    }

    #[inline(always)]
    fn words(&self) -> &[u32; 9] {
        zerocopy::transmute_ref!(self)
    }

    /// A number that differs between most flows.
    #[must_use]
    #[inline(always)]
    pub const fn mixed(&self) -> u32 {
        let [client, server] = self.v4();
        let addresses = u32::from_ne_bytes(client) ^ u32::from_ne_bytes(server).rotate_left(7);
        // The golden ratio, as Knuth has it for hashing (TAOCP section 6.4).
        (addresses ^ u32::from_ne_bytes(self.ports())).wrapping_mul(0x9e37_79b1) >> 16
    }

    /// The client's address.
    #[must_use]
    #[inline(always)]
    pub const fn client_addr(&self) -> [u8; 16] {
        self.addresses[0]
    }

    /// The server's address.
    #[must_use]
    #[inline(always)]
    pub const fn server_addr(&self) -> [u8; 16] {
        self.addresses[1]
    }

    /// The client's port.
    #[must_use]
    #[inline(always)]
    pub const fn client_port(&self) -> u16 {
        u16::from_be_bytes(self.ports[0])
    }

    /// The server's port.
    #[must_use]
    #[inline(always)]
    pub const fn server_port(&self) -> u16 {
        u16::from_be_bytes(self.ports[1])
    }
}

/// 0: there is none.
#[inline(always)]
fn difference(one: &[u32], other: &[u32]) -> u32 {
    one.iter().zip(other).fold(0, |found, (one, other)| found | (one ^ other))
}

/// The link layer's part of a [`FlowNote`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Sender's hardware address; absent on devices without a link header.
    pub mac: Option<[u8; 6]>,
    /// Outer and inner VLAN tag with priority bits, in network byte order.
    pub vlan: [[u8; 2]; 2],
}

/// What a SYN offers (RFC 9293 section 3.1, RFC 7323, RFC 2018).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size in network byte order; 0: not offered.
    pub mss: [u8; 2],
    /// Window scale.
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack: bool,
    /// Timestamps.
    pub timestamps: bool,
}

const MAC: u8 = 1;
const WINDOW_SCALE: u8 = 2;
const SACK: u8 = 4;
const TIMESTAMPS: u8 = 8;

/// What the kernel noted of a flow's SYN.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowNote {
    time: u64,
    interface: u32,
    mac: [u8; 6],
    vlan: [[u8; 2]; 2],
    window: [u8; 2],
    mss: [u8; 2],
    ttl: u8,
    window_scale: u8,
    present: u8,
    seen: u8,
    reserved: [u8; 2],
    answer: u32,
    reserved_too: u32,
}
const _: () = assert!(size_of::<FlowNote>() == 40);

/// In `seen`: its handshake was completed.
pub const SEEN_OPEN: u8 = 1;
/// In `seen`: it is over.
pub const SEEN_CLOSED: u8 = 2;
/// In `seen`: its octets pass unread.
pub const SEEN_SPLICED: u8 = 4;
/// In `seen`: its client is over a limit, and the proxy is to refuse it.
pub const SEEN_REFUSED: u8 = 8;
/// In `seen`: its octets were stopped by a limit, and user space was told to end it.
pub const SEEN_CUT: u8 = 16;

impl FlowNote {
    /// A note of a SYN with this `ttl` and `window` (network byte order), seen at `time`
    /// (nanoseconds of `CLOCK_MONOTONIC`) on the interface with this number.
    #[must_use]
    #[inline(always)]
    pub const fn new(
        time: u64,
        interface: u32,
        link: Link,
        ttl: u8,
        window: [u8; 2],
        options: SynOptions,
    ) -> Self {
        let (mac, has_mac) = match link.mac {
            Some(mac) => (mac, MAC),
            None => ([0; 6], 0),
        };
        let (window_scale, has_scale) = match options.window_scale {
            Some(scale) => (scale, WINDOW_SCALE),
            None => (0, 0),
        };
        let sack = if options.sack { SACK } else { 0 };
        let timestamps = if options.timestamps { TIMESTAMPS } else { 0 };
        Self {
            time,
            interface,
            mac,
            vlan: link.vlan,
            window,
            mss: options.mss,
            ttl,
            window_scale,
            present: has_mac | has_scale | sack | timestamps,
            seen: 0,
            reserved: [0; 2],
            answer: 0,
            reserved_too: 0,
        }
    }

    /// Where `seen` lies, in octets.
    pub const SEEN: usize = offset_of!(Self, seen);
    /// Where `answer` lies.
    pub const ANSWER: usize = offset_of!(Self, answer);

    /// The same, when this was seen of the flow, too: `SEEN_…` bits.
    #[must_use]
    #[inline(always)]
    pub const fn with(mut self, seen: u8) -> Self {
        self.seen |= seen;
        self
    }

    /// What was seen of the flow: `SEEN_…` bits.
    #[must_use]
    #[inline(always)]
    pub const fn seen(&self) -> u8 {
        self.seen
    }

    /// The acknowledgement number that completes the handshake; 0 before the SYN is answered.
    #[must_use]
    #[inline(always)]
    pub const fn answer(&self) -> u32 {
        self.answer
    }

    /// When it was seen: nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn time(&self) -> u64 {
        self.time
    }

    /// Number of the interface it came in on.
    #[must_use]
    pub const fn interface(&self) -> u32 {
        self.interface
    }

    /// Sender's hardware address; absent on devices without a link header.
    #[must_use]
    pub const fn mac(&self) -> Option<[u8; 6]> {
        if self.present & MAC == 0 { None } else { Some(self.mac) }
    }

    /// Outer and inner VLAN number; 0: none.
    #[must_use]
    pub const fn vlan(&self) -> [u16; 2] {
        let [outer, inner] = self.vlan;
        [u16::from_be_bytes(outer) & 0xfff, u16::from_be_bytes(inner) & 0xfff]
    }

    /// Time to live, or hop limit.
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        self.ttl
    }

    /// Window, unscaled as it always is in a SYN.
    #[must_use]
    pub const fn window(&self) -> u16 {
        u16::from_be_bytes(self.window)
    }

    /// Maximum segment size; 0: not offered.
    #[must_use]
    pub const fn mss(&self) -> u16 {
        u16::from_be_bytes(self.mss)
    }

    /// Window scale.
    #[must_use]
    pub const fn window_scale(&self) -> Option<u8> {
        if self.present & WINDOW_SCALE == 0 { None } else { Some(self.window_scale) }
    }

    /// Whether SACK was offered.
    #[must_use]
    pub const fn sack(&self) -> bool {
        self.present & SACK != 0
    }

    /// Whether timestamps were offered.
    #[must_use]
    pub const fn timestamps(&self) -> bool {
        self.present & TIMESTAMPS != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_filled_part_by_part_is_the_one_that_is_made_at_once() {
        let (client, server) =
            ((mapped([192, 0, 2, 2]), [0x9c, 0x40]), (mapped([198, 51, 100, 25]), [0, 25]));
        let key = FlowKey::new(client, server);
        let mut filled = FlowKey::default();
        filled.set_v4(&[192, 0, 2, 2], &[198, 51, 100, 25]);
        filled.set_ports([0x9c, 0x40, 0, 25]);
        assert_eq!(filled, key);
        assert_eq!(
            (filled.v4(), filled.ports()),
            ([[192, 0, 2, 2], [198, 51, 100, 25]], [0x9c, 0x40, 0, 25])
        );
        filled.reverse_of(&key);
        assert_eq!((filled, filled.client_end()), (key.reversed(), server));
        filled.set_client(&client.0, client.1);
        filled.set_server(&server.0, server.1);
        assert_eq!(filled, key);
    }

    #[test]
    fn keys_that_differ_in_one_octet_are_told_apart_by_words_too() {
        let key = FlowKey::new(([1; 16], [2; 2]), ([3; 16], [4; 2]));
        assert!(key.is(&key.clone()));
        for octet in 0..36 {
            let mut octets: [u8; 36] = zerocopy::transmute!(key);
            octets[octet] ^= 0x80;
            let other: FlowKey = zerocopy::transmute!(octets);
            assert!(!key.is(&other), "octet {octet}");
            assert_eq!(key.has_addresses_of(&other), octet >= 32, "octet {octet}");
        }
    }

    #[test]
    fn a_note_tells_absent_from_zero() {
        let options =
            SynOptions { mss: 1460u16.to_be_bytes(), window_scale: Some(0), sack: true, timestamps: false };
        let link = Link { mac: Some([0; 6]), vlan: [0x6064u16.to_be_bytes(), [0, 0]] };
        let note = FlowNote::new(7, 3, link, 64, 65_535u16.to_be_bytes(), options);
        assert_eq!((note.time(), note.interface(), note.ttl()), (7, 3, 64));
        assert_eq!(note.mac(), Some([0; 6]));
        assert_eq!(note.vlan(), [100, 0]);
        assert_eq!((note.window(), note.mss(), note.window_scale()), (65_535, 1460, Some(0)));
        assert_eq!((note.sack(), note.timestamps()), (true, false));

        let bare = FlowNote::new(7, 3, Link::default(), 64, [0; 2], SynOptions::default());
        assert_eq!((bare.mac(), bare.window_scale(), bare.sack()), (None, None, false));
    }
}
