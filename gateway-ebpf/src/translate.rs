//! Packets of handed-off flows: renumbered and forwarded.
//!
//! What the numbers become is in [`gateway_common::translation`]; here they are found in the
//! packet and replaced.

use aya_ebpf::programs::TcContext;
use gateway_common::caught::Caught;
use gateway_common::flow::FlowKey;
use gateway_common::reason::Reason;
use gateway_common::settings::Settings;
use gateway_common::translation::{SEEN_DOUBT, SEEN_FIN, SEEN_RST, SEEN_TOLD, State};

use crate::entry::Entry;
use crate::header::{Metadata, Packet};
use crate::rewrite::{self, Difference, Way};
use crate::{account, map};

const FIN: u8 = 1;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Steps through the options of a packet: no stack needs more than 10, for timestamps and three
/// SACK blocks with their padding. What stands behind stays as it is.
const MAX_STEPS: usize = 12;
/// TCP options (IANA).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// What becomes of a packet whose flow is handed off, or is to be; `None`: it is no such packet.
#[inline(always)]
pub(crate) fn judge(
    ctx: &TcContext,
    metadata: &Metadata,
    settings: &Settings,
    packet: &mut Packet,
) -> Option<Reason> {
    let entry = Entry::of(&packet.flow)?;
    let translation = entry.get();
    match translation.state() {
        State::Over => None,
        State::Watched => {
            entry.count(translation, 1, 0, map::now());
            None
        }
        State::Frozen => Some(Reason::Frozen),
        State::Condemned => {
            if packet.opens() && give_way(entry) {
                return None;
            }
            catch(ctx, packet, entry);
            Some(Reason::Condemned)
        }
        State::Forwarding => {
            if packet.opens() && give_way(entry) {
                return None;
            }
            let reason = forward(ctx, metadata, packet, entry);
            if matches!(reason, Reason::Translated) {
                // The programs of interfaces above this one must not renumber it again.
                ctx.set_mark(settings.own(metadata.mark));
            }
            Some(reason)
        }
    }
}

/// Tells user space of a packet of a condemned flow, unless it was told of one just before.
#[inline(never)]
fn catch(ctx: &TcContext, packet: &Packet, entry: Entry) {
    entry.touch(map::now());
    let translation = entry.get();
    if !translation.tells() {
        return;
    }
    let octets = text(ctx, packet);
    let [_, _, _, _, _, _, _, _, a0, a1, a2, a3, _, flags, ..] = packet.header;
    let ack = u32::from_be_bytes([a0, a1, a2, a3]);
    let caught = Caught::new(packet.flow, packet.sequence(), ack, octets, flags);
    // Without room in the buffer, the next packet is told of.
    if map::CAUGHT.output::<Caught>(caught, 0).is_ok() {
        entry.note(translation.seen() | SEEN_TOLD);
    }
}

/// Ends a flow that is closed, or that the gateway has ended, because somebody uses its addresses
/// and ports again; not one that is still open, as far as anybody can tell.
#[inline(never)]
pub(crate) fn give_way(entry: Entry) -> bool {
    let translation = entry.get();
    let Some(peer) = Entry::of(translation.peer()) else { return false };
    let other = peer.get();
    let reset = translation.has_reset() || other.has_reset();
    let closed = translation.has_fin() && other.has_fin();
    if !reset && !closed && !matches!(translation.state(), State::Condemned) {
        return false;
    }
    entry.end();
    peer.end();
    true
}

/// Renumbers a packet and finds its way. Each step has a frame of its own on the stack, which has
/// 512 octets for all that are open at once.
#[inline(never)]
fn forward(ctx: &TcContext, metadata: &Metadata, packet: &mut Packet, entry: Entry) -> Reason {
    prepare(packet, entry);
    let octets = packet.length(ctx);
    let way = way(ctx, metadata, packet, octets);
    if matches!(way, Way::Nowhere) && !packet.is_answered_translated(entry.get().is_from_client()) {
        return Reason::TooLarge;
    }
    if note(packet, entry, metadata.segments, octets) {
        return Reason::OverLimit;
    }
    let written = renumber(ctx, packet, entry)
        && (packet.header_length() <= 20 || options(ctx, packet, entry))
        && packet.change.in_segment(ctx, packet.tcp + 16)
        && (!packet.is_readdressed() || rewrite::readdress(ctx, packet));
    if !written {
        return Reason::Unwritable;
    }
    if matches!(way, Way::Neighbour) && rewrite::age(ctx, packet) && rewrite::redirect(ctx, packet) {
        return Reason::Redirected;
    }
    Reason::Translated
}

/// As whose the packet goes out: in the direction from where the peer's packets come in.
#[inline(never)]
pub(crate) fn prepare(packet: &mut Packet, entry: Entry) {
    let peer = entry.get().peer();
    packet.out = FlowKey::new(
        (peer.server_addr(), peer.server_port().to_be_bytes()),
        (peer.client_addr(), peer.client_port().to_be_bytes()),
    );
    packet.change = Difference::NONE;
}

/// Octets of the packet behind its TCP header.
#[inline(always)]
pub(crate) fn text(ctx: &TcContext, packet: &Packet) -> u32 {
    packet.text(packet.length(ctx))
}

/// The way of a packet of so many octets from its IP header on.
#[inline(always)]
pub(crate) fn way(ctx: &TcContext, metadata: &Metadata, packet: &mut Packet, length: u32) -> Way {
    if packet.ttl <= 1 {
        return Way::Nowhere;
    }
    // Each segment of a packet that stands for many must fit, not the packet.
    let size = metadata.segment_size;
    let segment = if size == 0 { length } else { packet.headers() + size };
    #[expect(clippy::cast_possible_truncation, reason = "compared in the same line")]
    let segment = if segment > 0xffff { 0xffff } else { segment as u16 };
    match rewrite::way(ctx, packet, segment, metadata.interface) {
        // A tag would stay on the packet.
        Way::Neighbour if packet.link.vlan != [[0; 2]; 2] => Way::Stack,
        Way::Nowhere if !packet.keeps_whole(ctx) => Way::Stack,
        way @ (Way::Neighbour | Way::Nowhere | Way::Stack) => way,
    }
}

/// Counts a packet. True: its client is over a limit.
#[inline(never)]
fn note(packet: &Packet, entry: Entry, segments: u32, octets: u32) -> bool {
    let (translation, now) = (entry.get(), map::now());
    let text = packet.text(octets);
    let from_client = translation.is_from_client();
    let flow = if from_client { &packet.flow } else { translation.peer() };
    if account::carry(flow, !from_client, text, true) {
        return true;
    }
    let flags = packet.header[13];
    if flags & (FIN | RST) != 0 || translation.seen() & SEEN_DOUBT != 0 {
        note_end(packet, entry, flags, now);
    }
    if flags & ACK != 0 {
        entry.acknowledge(packet.acknowledgement());
    }
    let segments = if segments == 0 { 1 } else { segments };
    entry.count(translation, segments, u64::from(text), now);
    false
}

/// Notes that the sender ends its direction or the flow, if it may be the sender who says so, or that
/// it has not been reset.
#[inline(always)]
fn note_end(packet: &Packet, entry: Entry, flags: u8, now: u64) {
    let translation = entry.get();
    let Some(peer) = Entry::of(translation.peer()) else { return };
    let mut seen = translation.seen();
    if flags & (FIN | RST) == 0 {
        entry.note(seen & !SEEN_DOUBT);
        peer.note(peer.get().seen() & !SEEN_RST);
        return;
    }
    if !translation.may_end(packet.sequence(), peer.get(), now) {
        return;
    }
    if flags & FIN != 0 {
        seen |= SEEN_FIN;
    }
    if flags & RST != 0 {
        seen |= SEEN_RST;
        peer.note(peer.get().seen() | SEEN_DOUBT);
    }
    entry.note(seen);
    if flags & RST != 0 || peer.get().has_fin() {
        let flow = if translation.is_from_client() { &packet.flow } else { translation.peer() };
        account::end(flow);
    }
}

/// Ports, sequence and acknowledgement number, and window.
#[inline(never)]
fn renumber(ctx: &TcContext, packet: &mut Packet, entry: Entry) -> bool {
    let translation = entry.get();
    let [p0, p1, q0, q1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = packet.header;
    let [f0, f1] = translation.peer().server_port().to_be_bytes();
    let [t0, t1] = translation.peer().client_port().to_be_bytes();
    packet.change.add([p0, p1, q0, q1], [f0, f1, t0, t1]);
    let seq = translation.sequence(u32::from_be_bytes([s0, s1, s2, s3])).to_be_bytes();
    packet.change.add([s0, s1, s2, s3], seq);
    let mut ack = [a0, a1, a2, a3];
    if flags & ACK != 0 {
        ack = translation.acknowledgement(u32::from_be_bytes(ack)).to_be_bytes();
        packet.change.add([a0, a1, a2, a3], ack);
    }
    let [x0, x1] = translation.window(u16::from_be_bytes([w0, w1])).to_be_bytes();
    packet.change.add([offset, flags, w0, w1], [offset, flags, x0, x1]);
    let ([s0, s1, s2, s3], [a0, a1, a2, a3]) = (seq, ack);
    let header = [f0, f1, t0, t1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, x0, x1];
    ctx.store(packet.tcp, &header, 0).is_ok()
}

/// Edges of SACK blocks (RFC 2018 section 3) and timestamps (RFC 7323 section 3).
#[inline(never)]
fn options(ctx: &TcContext, packet: &mut Packet, entry: Entry) -> bool {
    let translation = entry.get();
    let end = packet.tcp + packet.header_length();
    let mut at = packet.tcp + 20;
    let mut edges = 0u8;
    for _ in 0..MAX_STEPS {
        if at + 1 >= end {
            break;
        }
        if edges != 0 {
            let Ok(edge) = ctx.load::<[u8; 4]>(at) else { return false };
            if !replace(ctx, packet, at, edge, translation.acknowledgement(u32::from_be_bytes(edge))) {
                return false;
            }
            edges -= 1;
            at += 4;
            continue;
        }
        let Ok([kind, length]) = ctx.load::<[u8; 2]>(at) else { return false };
        if kind == NO_OPERATION {
            // Padding mostly comes in pairs.
            at += if length == NO_OPERATION { 2 } else { 1 };
            continue;
        }
        if kind == END || length < 2 || at + length as usize > end {
            break;
        }
        if kind == SACK {
            edges = (length - 2) / 4;
            at += 2;
            continue;
        }
        if kind == TIMESTAMPS
            && length == 10
            && translation.has_timestamps()
            && !timestamps(ctx, packet, at + 2, entry)
        {
            return false;
        }
        at += length as usize;
    }
    true
}

#[inline(never)]
fn timestamps(ctx: &TcContext, packet: &mut Packet, at: usize, entry: Entry) -> bool {
    let translation = entry.get();
    let Ok([v0, v1, v2, v3, e0, e1, e2, e3]) = ctx.load::<[u8; 8]>(at) else { return false };
    let value = u32::from_be_bytes([v0, v1, v2, v3]);
    let difference = match translation.timestamp_difference() {
        Some(difference) => difference,
        None => {
            let difference = translation.first_timestamp(value);
            entry.fix_timestamps(difference, translation.seen());
            difference
        }
    };
    // The echo is of a timestamp that went the other way, and was changed there.
    let peer = Entry::of(translation.peer()).and_then(|peer| peer.get().timestamp_difference());
    let echo = u32::from_be_bytes([e0, e1, e2, e3]);
    let echo = peer.map_or(0, |difference| echo.wrapping_sub(difference));
    replace(ctx, packet, at, [v0, v1, v2, v3], value.wrapping_add(difference))
        && replace(ctx, packet, at + 4, [e0, e1, e2, e3], echo)
}

#[inline(always)]
fn replace(ctx: &TcContext, packet: &mut Packet, at: usize, old: [u8; 4], new: u32) -> bool {
    let new = new.to_be_bytes();
    if (at - packet.tcp) & 1 == 0 {
        packet.change.add(old, new);
    } else {
        packet.change.add_odd(old, new);
    }
    ctx.store(at, &new, 0).is_ok()
}
