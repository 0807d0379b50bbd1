//! Answering a SYN with a reset, without waking anybody (RFC 9293 section 3.10.7.1).
//!
//! The SYN itself becomes the answer and goes back through the interface it came in on: addresses
//! and ports change places, which no checksum notices, and the rest is corrected by what changed.
//! Options stay: nobody reads them in a reset.

use aya_ebpf::bindings::TC_ACT_REDIRECT;
use aya_ebpf::programs::TcContext;

use crate::packet::{Metadata, Packet};
use crate::rewrite::{self, Difference};

const RST: u8 = 4;
const ACK: u8 = 16;
/// Time to live of an answer.
const HOPS: u8 = 64;
/// Two hardware addresses.
const HARDWARE: usize = 12;

/// Turns the SYN into a reset and sends it back; says whether it will be. If not, the packet is
/// good for nothing any more and is to be dropped.
#[inline(never)]
pub(crate) fn reset(ctx: &TcContext, packet: &mut Packet) -> bool {
    // Options of IPv4 may be a route, which would have to be turned round: such a SYN is not answered.
    if !packet.v6 && !packet.is_plain() {
        return false;
    }
    let answered = answer(ctx, packet)
        && packet.change.in_segment(ctx, packet.tcp + 16)
        && turn_round(ctx, packet)
        && (packet.link.mac.is_none() || turn_frame_round(ctx));
    answered && rewrite::send_back(Metadata::of(ctx).interface()) == i64::from(TC_ACT_REDIRECT)
}

/// Ports, numbers, flags and window.
#[inline(never)]
fn answer(ctx: &TcContext, packet: &mut Packet) -> bool {
    let [p0, p1, q0, q1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = packet.headers.tcp;
    // A SYN may carry text (RFC 7413), and the answer acknowledges it.
    let octets = packet.text();
    let next = u32::from_be_bytes([s0, s1, s2, s3]).wrapping_add(1).wrapping_add(octets).to_be_bytes();
    packet.change = Difference::NONE;
    packet.change.add([s0, s1, s2, s3], [0; 4]);
    packet.change.add([a0, a1, a2, a3], next);
    packet.change.add([offset, flags, w0, w1], [offset, RST | ACK, 0, 0]);
    let [n0, n1, n2, n3] = next;
    let header = [q0, q1, p0, p1, 0, 0, 0, 0, n0, n1, n2, n3, offset, RST | ACK, 0, 0];
    ctx.store(packet.tcp, &header, 0).is_ok()
}

/// Source and destination of the IP header, and its time to live.
#[inline(never)]
fn turn_round(ctx: &TcContext, packet: &mut Packet) -> bool {
    if packet.v6 {
        packet.out.reverse_of(&packet.flow);
        if ctx.store(packet.ip + 8, packet.out.addresses(), 0).is_err() {
            return false;
        }
    } else {
        let hops = &mut packet.headers.v4.hops;
        core::mem::swap(&mut hops.source, &mut hops.destination);
    }
    // For IPv4 this writes the addresses too.
    rewrite::set_hops(ctx, packet, HOPS)
}

/// Destination and source of the frame.
#[inline(never)]
fn turn_frame_round(ctx: &TcContext) -> bool {
    let Ok([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) = ctx.load::<[u8; HARDWARE]>(0) else {
        return false;
    };
    ctx.store(0, &[s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5], 0).is_ok()
}
