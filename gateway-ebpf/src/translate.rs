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
use crate::header::{Metadata, Packet, TCP_HEADER, USUAL_HEADER};
use crate::rewrite::{self, Difference};
use crate::way::Way;
use crate::{account, map, way};

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
            entry.count(translation, 1, 0, map::lately());
            None
        }
        State::Frozen => Some(Reason::Frozen),
        State::Condemned => {
            if packet.opens() && give_way(entry, &packet.flow) {
                return None;
            }
            catch(ctx, packet, entry);
            Some(Reason::Condemned)
        }
        State::Forwarding => {
            if packet.opens() && give_way(entry, &packet.flow) {
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
    entry.touch(map::lately());
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
/// and ports again; not one that is still open, as far as anybody can tell. The entry is that of `key`.
#[inline(never)]
pub(crate) fn give_way(entry: Entry, key: &FlowKey) -> bool {
    let translation = entry.get();
    let Some(peer) = entry.peer(key) else { return false };
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
#[inline(always)]
pub(crate) fn prepare(packet: &mut Packet, entry: Entry) {
    packet.out = entry.get().out(&packet.flow);
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
    match way::find(ctx, packet, segment, metadata.interface) {
        // The stack knows which interface a tag belongs to, and the rules for that one. It takes no
        // packet, though, that claims to be from this machine.
        Way::Neighbour if packet.tags != 0 && !packet.is_readdressed() => Way::Stack,
        Way::Nowhere if !packet.keeps_whole(ctx) => Way::Stack,
        way @ (Way::Neighbour | Way::Nowhere | Way::Stack) => way,
    }
}

/// Counts a packet. True: its client is over a limit.
#[inline(never)]
fn note(packet: &mut Packet, entry: Entry, segments: u32, octets: u32) -> bool {
    let (translation, now) = (entry.get(), map::lately());
    let text = packet.text(octets);
    let from_client = translation.is_from_client();
    if !from_client {
        packet.turned = packet.out.reversed();
    }
    let flow = if from_client { &packet.flow } else { &packet.turned };
    let (flags, held) = (packet.header[13], translation.is_held());
    // What ends a flow is what the limit is for. What has no text is asked about only where text was
    // stopped: it takes a look into the account.
    let asked = (text != 0 || held) && flags & RST == 0;
    if asked && account::carry(&packet.flow, flow, !from_client, text, held) {
        return true;
    }
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
    let Some(peer) = entry.peer(&packet.flow) else { return };
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
        account::end(if translation.is_from_client() { &packet.flow } else { &packet.turned });
    }
}

/// Ports, numbers, window and options.
#[inline(always)]
fn renumber(ctx: &TcContext, packet: &mut Packet, entry: Entry) -> bool {
    let usual = packet.has_timestamps(ctx) && entry.get().has_timestamps();
    numbers(packet, entry);
    if !usual {
        let Some(header) = packet.header.first_chunk::<TCP_HEADER>() else { return false };
        return ctx.store(packet.tcp, header, 0).is_ok()
            && (packet.header_length() <= TCP_HEADER || options(ctx, packet, entry, TCP_HEADER));
    }
    usual_timestamps(packet, entry);
    ctx.store(packet.tcp, &packet.header, 0).is_ok()
        && (packet.header_length() <= USUAL_HEADER || options(ctx, packet, entry, USUAL_HEADER))
}

/// Ports, sequence and acknowledgement number, and window.
#[inline(never)]
fn numbers(packet: &mut Packet, entry: Entry) {
    let translation = entry.get();
    let [p0, p1, q0, q1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = packet.header;
    let [f0, f1] = packet.out.client_port().to_be_bytes();
    let [t0, t1] = packet.out.server_port().to_be_bytes();
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
    let Some(begin) = packet.header.first_chunk_mut() else { return };
    *begin = [f0, f1, t0, t1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, x0, x1];
}

/// Timestamps where nearly all packets have them.
#[inline(never)]
fn usual_timestamps(packet: &mut Packet, entry: Entry) {
    let Some(&old) = packet.header.last_chunk() else { return };
    let [v0, v1, v2, v3, e0, e1, e2, e3] = old;
    let new = timestamps(packet, old, entry);
    let [n0, n1, n2, n3, m0, m1, m2, m3] = new;
    packet.change.add([v0, v1, v2, v3], [n0, n1, n2, n3]);
    packet.change.add([e0, e1, e2, e3], [m0, m1, m2, m3]);
    if let Some(place) = packet.header.last_chunk_mut() {
        *place = new;
    }
}

/// Edges of SACK blocks (RFC 2018 section 3) and timestamps (RFC 7323 section 3), in the options that
/// begin `from` octets into the TCP header.
#[inline(never)]
fn options(ctx: &TcContext, packet: &mut Packet, entry: Entry, from: usize) -> bool {
    let translation = entry.get();
    let end = packet.tcp + packet.header_length();
    let mut at = packet.tcp + from;
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
            && !odd_timestamps(ctx, packet, at + 2, entry)
        {
            return false;
        }
        at += length as usize;
    }
    true
}

/// Timestamps wherever they are.
#[inline(never)]
fn odd_timestamps(ctx: &TcContext, packet: &mut Packet, at: usize, entry: Entry) -> bool {
    let Ok(old) = ctx.load::<[u8; 8]>(at) else { return false };
    let [v0, v1, v2, v3, e0, e1, e2, e3] = old;
    let [n0, n1, n2, n3, m0, m1, m2, m3] = timestamps(packet, old, entry);
    replace(ctx, packet, at, [v0, v1, v2, v3], u32::from_be_bytes([n0, n1, n2, n3]))
        && replace(ctx, packet, at + 4, [e0, e1, e2, e3], u32::from_be_bytes([m0, m1, m2, m3]))
}

/// TSval and TSecr as they go out.
#[inline(always)]
fn timestamps(packet: &Packet, [v0, v1, v2, v3, e0, e1, e2, e3]: [u8; 8], entry: Entry) -> [u8; 8] {
    let translation = entry.get();
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
    let echo = match translation.echo_difference().or_else(|| learn_echo(packet, entry)) {
        Some(difference) => u32::from_be_bytes([e0, e1, e2, e3]).wrapping_sub(difference),
        None => 0,
    };
    let [n0, n1, n2, n3] = value.wrapping_add(difference).to_be_bytes();
    let [m0, m1, m2, m3] = echo.to_be_bytes();
    [n0, n1, n2, n3, m0, m1, m2, m3]
}

/// What the other direction adds to its timestamps, once it has seen one. It stays as it is from
/// then on, so the entry keeps it.
#[inline(never)]
fn learn_echo(packet: &Packet, entry: Entry) -> Option<u32> {
    let difference = entry.peer(&packet.flow)?.get().timestamp_difference()?;
    entry.fix_echo(difference);
    Some(difference)
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
