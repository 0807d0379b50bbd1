//! Headers as they lie in packets. What is longer than an octet is in network byte order.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(crate) const IPV4_HEADER: usize = 20;
pub(crate) const IPV6_HEADER: usize = 40;
pub(crate) const TCP_HEADER: usize = 20;
/// With timestamps and nothing else, as nearly all packets have it.
pub(crate) const USUAL_HEADER: usize = TCP_HEADER + TIMESTAMPS;
/// The option, with its padding.
pub(crate) const TIMESTAMPS: usize = 12;

/// Octets of an IPv4 header before its second half, in which is all that a router changes.
pub(crate) const HOPS: usize = IPV4_HEADER - size_of::<Hops>();

/// An IPv4 header without options (RFC 791 section 3.1).
#[repr(C, align(4))]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(crate) struct Ipv4 {
    /// With the length of the header.
    pub(crate) version: u8,
    service: u8,
    pub(crate) length: [u8; 2],
    identification: [u8; 2],
    pub(crate) fragment: [u8; 2],
    /// From here on it is written again where a packet is sent on: see [`crate::rewrite`].
    pub(crate) hops: Hops,
}
const _: () = assert!(size_of::<Ipv4>() == IPV4_HEADER);

impl Ipv4 {
    /// Whether it belongs to a fragment: there are more, or it is not the first one.
    #[inline(always)]
    pub(crate) const fn is_fragment(&self) -> bool {
        self.fragment[0] & 0x3f != 0 || self.fragment[1] != 0
    }
}

/// The second half of an IPv4 header.
#[repr(C, align(4))]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(crate) struct Hops {
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) sum: [u8; 2],
    pub(crate) source: [u8; 4],
    pub(crate) destination: [u8; 4],
}

/// An IPv6 header (RFC 8200 section 3).
#[repr(C, align(4))]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(crate) struct Ipv6 {
    /// With a half of the traffic class.
    pub(crate) version: u8,
    label: [u8; 3],
    pub(crate) length: [u8; 2],
    pub(crate) next: u8,
    pub(crate) hops: u8,
    pub(crate) addresses: [[u8; 16]; 2],
}
const _: () = assert!(size_of::<Ipv6>() == IPV6_HEADER);

/// The headers of IP and TCP. In nearly all packets nothing lies between them, and so they are here: read and
/// written at once.
#[repr(C, align(4))]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(crate) struct Headers {
    /// The first half of an IPv6 header, which ends where an IPv4 header does.
    before: [u8; IPV6_HEADER - IPV4_HEADER],
    /// The IPv4 header.
    pub(crate) v4: Ipv4,
    /// The TCP header, and the first options.
    pub(crate) tcp: [u8; USUAL_HEADER],
}

/// The same of IPv6.
#[repr(C, align(4))]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
struct HeadersV6 {
    v6: Ipv6,
    tcp: [u8; USUAL_HEADER],
}

/// Octets of [`Headers`].
pub(crate) const WHOLE: usize = IPV6_HEADER + USUAL_HEADER;

impl Headers {
    /// The IPv6 header.
    #[inline(always)]
    pub(crate) fn v6(&mut self) -> &mut Ipv6 {
        let both: &mut HeadersV6 = zerocopy::transmute_mut!(self);
        &mut both.v6
    }

    /// All of it.
    #[inline(always)]
    pub(crate) fn octets(&mut self) -> &mut [u8; WHOLE] {
        zerocopy::transmute_mut!(self)
    }
}
