//! Changing a packet, and sending it on.
//!
//! Checksums are corrected by what changed, never computed: that is right for packets whose
//! checksum the card or the stack completes later, too, and for those that stand for many.

use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, TC_ACT_REDIRECT, bpf_redir_neigh as Neighbour};
use aya_ebpf::helpers::{bpf_redirect, bpf_redirect_neigh, bpf_skb_change_head, bpf_skb_vlan_pop};
use aya_ebpf::programs::TcContext;
use gateway_common::flow::FlowKey;

use crate::header::MAX_TAGS;
use crate::packet::Packet;
use crate::wire::{HOPS, IPV4_HEADER, TCP_HEADER, TIMESTAMPS, USUAL_HEADER, WHOLE};

/// The change of an address leaves the sum over an IPv6 packet as it is (`BPF_F_IPV6`,
/// linux/bpf.h).
const BPF_F_IPV6: u64 = 128;

/// Octets of the headers of an IPv4 packet.
const V4: usize = IPV4_HEADER + USUAL_HEADER;

/// What a change adds to a checksum.
#[derive(Clone, Copy)]
pub(crate) struct Difference(u64);

impl Difference {
    pub(crate) const NONE: Self = Self(0);

    /// Four octets at an even distance from the beginning of what the checksum covers.
    #[inline(always)]
    pub(crate) fn add(&mut self, old: [u8; 4], new: [u8; 4]) {
        self.0 += u64::from(!u32::from_ne_bytes(old)) + u64::from(u32::from_ne_bytes(new));
    }

    /// Four octets at an odd distance: each is in the other half of its word (RFC 1071 section 2).
    #[inline(always)]
    pub(crate) fn add_odd(&mut self, old: [u8; 4], new: [u8; 4]) {
        self.0 += u64::from((!u32::from_ne_bytes(old)).rotate_left(8))
            + u64::from(u32::from_ne_bytes(new).rotate_left(8));
    }

    /// An address, or anything else of even length.
    #[inline(always)]
    pub(crate) fn add_all<const N: usize>(&mut self, old: [u8; N], new: [u8; N]) {
        let (old, new) = (old.as_chunks().0.iter(), new.as_chunks().0.iter());
        for (old, new) in old.zip(new) {
            self.add(*old, *new);
        }
    }

    /// All that differs between the addresses of two flows.
    #[inline(always)]
    pub(crate) fn add_flow(&mut self, old: &FlowKey, new: &FlowKey) {
        let (old, new) =
            (old.addresses().as_flattened().as_chunks().0, new.addresses().as_flattened().as_chunks().0);
        for (old, new) in old.iter().zip(new) {
            self.add(*old, *new);
        }
    }

    /// As the kernel's helpers want it.
    #[inline(always)]
    const fn fold(self) -> u64 {
        let once = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        (once & 0xffff_ffff) + (once >> 32)
    }

    /// Corrects a checksum over an IPv4 header.
    #[inline(always)]
    pub(crate) fn in_header(self, ctx: &TcContext, checksum: usize) -> bool {
        ctx.l3_csum_replace(checksum, 0, self.fold(), 0).is_ok()
    }

    /// A checksum as it is after the change (RFC 1624 section 3).
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    const fn correct(self, sum: [u8; 2]) -> [u8; 2] {
        let mut sum = self.fold() + !u16::from_ne_bytes(sum) as u64;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        (!(sum as u16)).to_ne_bytes()
    }

    /// Corrects a checksum over what is behind the IP header, by a change in there.
    #[inline(always)]
    pub(crate) fn in_segment(self, ctx: &TcContext, checksum: usize) -> bool {
        ctx.l4_csum_replace(checksum, 0, self.fold(), 0).is_ok()
    }

    /// The same by a change of addresses.
    #[inline(always)]
    fn in_addresses(self, ctx: &TcContext, checksum: usize, v6: bool) -> bool {
        let pseudo = u64::from(BPF_F_PSEUDO_HDR);
        // Kernels that do not know the flag say so, and are right without it but for packets whose sum the
        // card has computed, and nobody looks at that when they are forwarded.
        v6 && ctx.l4_csum_replace(checksum, 0, self.fold(), pseudo | BPF_F_IPV6).is_ok()
            || ctx.l4_csum_replace(checksum, 0, self.fold(), pseudo).is_ok()
    }
}

/// Replaces source and destination address by those it goes out with, in its headers only.
#[inline(never)]
pub(crate) fn readdress(packet: &mut Packet) {
    packet.moved.add_flow(&packet.flow, &packet.out);
    if packet.v6 {
        packet.headers.v6().addresses = *packet.out.addresses();
        return;
    }
    let hops = &mut packet.headers.v4.hops;
    [hops.source, hops.destination] = packet.out.v4();
    hops.sum = packet.moved.correct(hops.sum);
}

/// Takes one from time to live or hop limit, as every router does, in its headers only.
#[inline(always)]
pub(crate) fn age(packet: &mut Packet) {
    age_to(packet, packet.ttl - 1);
}

#[inline(always)]
fn age_to(packet: &mut Packet, left: u8) {
    packet.ttl = left;
    if packet.v6 {
        packet.headers.v6().hops = left;
        return;
    }
    let hops = &mut packet.headers.v4.hops;
    let mut change = Difference::NONE;
    change.add([hops.ttl, 0, 0, 0], [left, 0, 0, 0]);
    hops.ttl = left;
    hops.sum = change.correct(hops.sum);
}

/// Gives the packet headers of its own, as the stack does when it forwards (`skb_cow` in `ip_forward`).
///
/// Those of a packet from a sender on this machine, say in a container, are shared with the segment that
/// the sender keeps until it is acknowledged. Sent on like that, whoever lets go of one of the two takes
/// the cache line from the other's processor: of a large packet's whole way that is 6 %. A packet
/// from a card shares nothing, and stays as it is.
#[inline(always)]
pub(crate) fn unshare(ctx: &TcContext) {
    // SAFETY: the helper checks the packet, and no pointer into it is kept. Without memory for a copy
    // the packet stays as it was.
    unsafe { bpf_skb_change_head(ctx.skb.skb, 0, 0) };
}

/// Writes its headers: all that a router or [`readdress`] changes in that of IP, and that of TCP.
#[inline(never)]
pub(crate) fn write(ctx: &TcContext, packet: &mut Packet) -> bool {
    let (v6, options) = (packet.v6, packet.has_first_options());
    if !packet.is_plain() {
        return write_ip(ctx, packet) && write_tcp(ctx, packet);
    }
    let (ip, octets) = (packet.ip, packet.headers.octets());
    let written = match (v6, options) {
        (false, true) => octets.last_chunk::<{ V4 - HOPS }>().map(|all| ctx.store(ip + HOPS, all, 0)),
        (false, false) => octets
            .last_chunk::<{ V4 - HOPS }>()
            .and_then(|all| all.first_chunk::<{ V4 - HOPS - TIMESTAMPS }>())
            .map(|all| ctx.store(ip + HOPS, all, 0)),
        (true, true) => Some(ctx.store(ip, octets, 0)),
        (true, false) => octets.first_chunk::<{ WHOLE - TIMESTAMPS }>().map(|all| ctx.store(ip, all, 0)),
    };
    matches!(written, Some(Ok(())))
}

#[inline(always)]
fn write_tcp(ctx: &TcContext, packet: &Packet) -> bool {
    let header = &packet.headers.tcp;
    if packet.has_first_options() {
        return ctx.store(packet.tcp, header, 0).is_ok();
    }
    header.first_chunk::<TCP_HEADER>().is_some_and(|header| ctx.store(packet.tcp, header, 0).is_ok())
}

#[inline(always)]
fn write_ip(ctx: &TcContext, packet: &mut Packet) -> bool {
    if packet.v6 { ctx.store(packet.ip, packet.headers.v6(), 0).is_ok() } else { store_hops(ctx, packet) }
}

/// Corrects the checksum of TCP by what changed in what it covers.
#[inline(always)]
pub(crate) fn correct(ctx: &TcContext, packet: &Packet) -> bool {
    let sum = packet.tcp + 16;
    packet.change.in_segment(ctx, sum)
        && (!packet.readdressed || packet.moved.in_addresses(ctx, sum, packet.v6))
}

/// Changes time to live or hop limit; of IPv4 it writes all of [`crate::wire::Hops`].
#[inline(never)]
pub(crate) fn set_hops(ctx: &TcContext, packet: &mut Packet, left: u8) -> bool {
    age_to(packet, left);
    if packet.v6 { ctx.store(packet.ip + 7, &packet.ttl, 0).is_ok() } else { store_hops(ctx, packet) }
}

/// Sends a packet of IPv4 to the server it goes out to; if it `hides` where it comes from, as its client.
#[inline(never)]
pub(crate) fn readdress_v4(ctx: &TcContext, packet: &mut Packet, hides: bool) -> bool {
    let hops = &mut packet.headers.v4.hops;
    let [source, destination] = packet.out.v4();
    let mut change = Difference::NONE;
    change.add(hops.destination, destination);
    hops.destination = destination;
    if hides {
        change.add(hops.source, source);
        hops.source = source;
    }
    hops.sum = change.correct(hops.sum);
    store_hops(ctx, packet)
}

#[inline(always)]
fn store_hops(ctx: &TcContext, packet: &Packet) -> bool {
    ctx.store(packet.ip + HOPS, &packet.headers.v4.hops, 0).is_ok()
}

const ETHERNET_HEADER: u32 = 14;
const NEIGHBOUR_LENGTH: i32 = 20;
const _: () = assert!(size_of::<Neighbour>() == 20);

/// Sends the packet to the neighbour that was found; says whether it will be.
#[inline(always)]
pub(crate) fn redirect(ctx: &TcContext, packet: &mut Packet) -> bool {
    if packet.ip == 0 {
        // The kernel takes off the link header that it believes is there.
        // SAFETY: the helper checks the packet, and no pointer into it is kept.
        if unsafe { bpf_skb_change_head(ctx.skb.skb, ETHERNET_HEADER, 0) } != 0 {
            return false;
        }
    }
    // They would stay on the packet.
    for tag in 0..MAX_TAGS {
        // SAFETY: the helper checks the packet, and no pointer into it is kept.
        if tag < packet.tags && unsafe { bpf_skb_vlan_pop(ctx.skb.skb) } != 0 {
            return false;
        }
    }
    let neighbour = &raw mut packet.neighbour;
    // SAFETY: `neighbour` has the length given.
    let answer = unsafe { bpf_redirect_neigh(packet.way_out, neighbour, NEIGHBOUR_LENGTH, 0) };
    answer == i64::from(TC_ACT_REDIRECT)
}

/// Sends the packet out through the interface with this number, its link header as it is; returns
/// what the program is to return.
#[inline(always)]
pub(crate) fn send_back(interface: u32) -> i64 {
    // SAFETY: the helper takes two numbers.
    unsafe { bpf_redirect(interface, 0) }
}
