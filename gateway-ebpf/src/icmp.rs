//! ICMP errors about flows that the gateway has.
//!
//! An error quotes the packet it is about as that packet left the gateway, and goes to whoever it
//! seemed to come from. A sender believes an error only if it quotes numbers of its own (RFC 5927
//! section 4), so those about handed-off flows are translated back. Those about the gateway's own
//! connections, which may carry a client's address, are the gateway's.

use aya_ebpf::programs::TcContext;
use gateway_common::flow::{FlowKey, mapped};
use gateway_common::reason::Reason;
use gateway_common::translation::State;

use crate::entry::Entry;
use crate::header::TCP;
use crate::packet::Packet;
use crate::rewrite::{self, Difference};
use crate::socket;
use crate::way::Way;
use crate::wire::IPV6_HEADER;
use crate::{ingress, map, translate};

/// Octets before what is quoted (RFC 792, RFC 4443 section 2.1).
const HEADER: usize = 8;
/// The checksum's place.
const CHECKSUM: usize = 2;

/// What becomes of an ICMP packet that came in.
#[inline(always)]
pub(crate) fn judge(ctx: &TcContext, packet: &mut Packet) -> Reason {
    let Some(settings) = map::settings() else { return Reason::NotTcp };
    if !find(ctx, packet) {
        return Reason::NotTcp;
    }
    if let Some(entry) = forwarding(packet) {
        translate::prepare(packet, entry);
        if !(quote(ctx, packet, entry) && outer(ctx, packet) && correct(ctx, packet)) {
            return Reason::Unwritable;
        }
        return send(ctx, packet);
    }
    if socket::is_gateways(ctx, packet, settings) {
        ingress::divert(ctx, settings, packet);
        return Reason::IcmpSteered;
    }
    Reason::NotTcp
}

/// Translates an error that the stack has just made about a packet which the program had renumbered
/// and left to it. The program only leaves those to be answered that the stack would take for
/// its own if they came as they were: see [`Packet::is_answered_translated`].
#[inline(always)]
pub(crate) fn judge_own(ctx: &TcContext, packet: &mut Packet) {
    if !find(ctx, packet) {
        return;
    }
    let Some(entry) = forwarding(packet) else { return };
    translate::prepare(packet, entry);
    if packet.is_answered_translated(!entry.get().is_from_client()) {
        // What cannot be written is an error more that its receiver does not understand.
        let _ = quote(ctx, packet, entry) && outer(ctx, packet) && correct(ctx, packet);
    }
}

/// The entry of packets that come in from where the quoted one was going.
#[inline(always)]
fn forwarding(packet: &Packet) -> Option<Entry> {
    Entry::of(&packet.flow).filter(|entry| entry.get().state() == State::Forwarding)
}

/// Whether it is an error about a packet from or to an intercepted port; then `packet.flow` is how
/// packets come in from where the quoted one was going, `packet.quoted` where the TCP header is
/// quoted, and the TCP header in [`Packet::headers`] begins with it.
#[inline(always)]
fn find(ctx: &TcContext, packet: &mut Packet) -> bool {
    let Ok(kind) = ctx.load::<u8>(packet.tcp) else { return false };
    let found = if packet.v6 {
        // Unreachable, too big, time exceeded, parameter problem (RFC 4443 section 3).
        matches!(kind, 1..=4) && quoted_v6(ctx, packet)
    } else {
        // Unreachable, time exceeded, parameter problem (RFC 792).
        matches!(kind, 3 | 11 | 12) && quoted_v4(ctx, packet)
    };
    found && ports(ctx, packet)
}

#[inline(never)]
fn quoted_v4(ctx: &TcContext, packet: &mut Packet) -> bool {
    let at = packet.tcp + HEADER;
    let Ok(header) = ctx.load::<[u8; 20]>(at) else { return false };
    let length = (header[0] & 0xf) as usize * 4;
    let is_first = header[6] & 0x1f == 0 && header[7] == 0;
    if header[0] >> 4 != 4 || length < 20 || header[9] != TCP || !is_first {
        return false;
    }
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
    packet.quoted = at + length;
    turn(packet, mapped([s0, s1, s2, s3]), mapped([d0, d1, d2, d3]))
}

#[inline(never)]
fn quoted_v6(ctx: &TcContext, packet: &mut Packet) -> bool {
    let at = packet.tcp + HEADER;
    let Ok([first, _, _, _, _, _, next, _]) = ctx.load::<[u8; 8]>(at) else { return false };
    if first >> 4 != 6 || next != TCP {
        return false;
    }
    let (Ok(source), Ok(destination)) = (ctx.load(at + 8), ctx.load(at + 24)) else { return false };
    packet.quoted = at + IPV6_HEADER;
    turn(packet, source, destination)
}

/// Notes the quoted addresses. The error must go to whoever sent what it quotes.
#[inline(always)]
fn turn(packet: &mut Packet, source: [u8; 16], destination: [u8; 16]) -> bool {
    if packet.flow.server_addr() != source {
        return false;
    }
    packet.flow = FlowKey::new((destination, [0; 2]), (source, [0; 2]));
    true
}

/// Notes the quoted ports, and the octets they are in: no more of TCP need be quoted than eight.
#[inline(never)]
fn ports(ctx: &TcContext, packet: &mut Packet) -> bool {
    let Ok([p0, p1, q0, q1, s0, s1, s2, s3]) = ctx.load::<[u8; 8]>(packet.quoted) else { return false };
    let ports = [u16::from_be_bytes([p0, p1]), u16::from_be_bytes([q0, q1])];
    let number = &mut packet.number;
    if !map::is_intercepted(number, ports[0]) && !map::is_intercepted(number, ports[1]) {
        return false;
    }
    let (from, to) = (packet.flow.client_addr(), packet.flow.server_addr());
    packet.flow = FlowKey::new((from, [q0, q1]), (to, [p0, p1]));
    packet.name();
    let Some(quoted) = packet.headers.tcp.first_chunk_mut() else { return false };
    *quoted = [p0, p1, q0, q1, s0, s1, s2, s3];
    true
}

/// Makes the quoted packet what its sender has sent: addresses, ports and sequence number.
#[inline(never)]
fn quote(ctx: &TcContext, packet: &mut Packet, entry: Entry) -> bool {
    packet.change = Difference::NONE;
    let at = packet.tcp + HEADER;
    if packet.readdressed {
        packet.change.add_all(packet.flow.server_addr(), packet.out.server_addr());
        packet.change.add_all(packet.flow.client_addr(), packet.out.client_addr());
        let (source, destination) = (packet.out.server_addr(), packet.out.client_addr());
        let written = if packet.v6 {
            ctx.store(at + 8, &source, 0).is_ok() && ctx.store(at + 24, &destination, 0).is_ok()
        } else {
            let ([.., a, b, c, d], [.., e, f, g, h]) = (source, destination);
            // The quoted header's sum takes up the change: the sum over it stays as it is.
            let change = packet.change;
            packet.change = Difference::NONE;
            ctx.store(at + 12, &[a, b, c, d, e, f, g, h], 0).is_ok() && change.in_header(ctx, at + 10)
        };
        if !written {
            return false;
        }
    }
    let [p0, p1, q0, q1, s0, s1, s2, s3, ..] = packet.headers.tcp;
    let [f0, f1] = packet.out.server_port().to_be_bytes();
    let [t0, t1] = packet.out.client_port().to_be_bytes();
    let [n0, n1, n2, n3] = entry.get().acknowledgement(u32::from_be_bytes([s0, s1, s2, s3])).to_be_bytes();
    packet.change.add([p0, p1, q0, q1], [f0, f1, t0, t1]);
    packet.change.add([s0, s1, s2, s3], [n0, n1, n2, n3]);
    ctx.store(packet.quoted, &[f0, f1, t0, t1, n0, n1, n2, n3], 0).is_ok()
}

/// Sends the error to the real sender. It comes from whoever told, but from no address behind one
/// that is translated.
#[inline(never)]
fn outer(ctx: &TcContext, packet: &mut Packet) -> bool {
    if !packet.readdressed {
        return true;
    }
    let hidden = packet.flow.client_addr() != packet.out.client_addr();
    if packet.v6 { outer_v6(ctx, packet, hidden) } else { rewrite::readdress_v4(ctx, packet, hidden) }
}

#[inline(never)]
fn outer_v6(ctx: &TcContext, packet: &mut Packet, hidden: bool) -> bool {
    let [from, to] = *packet.out.addresses();
    packet.change.add_all(packet.flow.server_addr(), to);
    if hidden {
        let Ok(source) = ctx.load::<[u8; 16]>(packet.ip + 8) else { return false };
        packet.change.add_all(source, from);
        if ctx.store(packet.ip + 8, &from, 0).is_err() {
            return false;
        }
    }
    ctx.store(packet.ip + 24, &to, 0).is_ok()
}

/// Corrects the error's own checksum, which for IPv6 includes its addresses (RFC 4443 section 2.3).
#[inline(always)]
fn correct(ctx: &TcContext, packet: &Packet) -> bool {
    packet.change.in_segment(ctx, packet.tcp + CHECKSUM)
}

/// Sends it on: the stack would take what comes from an address of this machine for a lie.
#[inline(never)]
fn send(ctx: &TcContext, packet: &mut Packet) -> Reason {
    #[expect(clippy::cast_possible_truncation, reason = "a packet has less than 4 GiB")]
    let length = ctx.len() - packet.ip as u32;
    packet.octets = length;
    let way = translate::way(ctx, packet);
    let left = packet.ttl.saturating_sub(1);
    if matches!(way, Way::Neighbour) && rewrite::set_hops(ctx, packet, left) && rewrite::redirect(ctx, packet)
    {
        return Reason::IcmpRedirected;
    }
    translate::own(ctx);
    Reason::IcmpTranslated
}
