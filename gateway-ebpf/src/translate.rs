//! Packets of handed-off flows: renumbered and forwarded.
//!
//! What the numbers become is in [`gateway_common::translation`]; here they are found in the
//! packet and replaced.

use aya_ebpf::programs::TcContext;
use gateway_common::caught::Caught;
use gateway_common::flow::FlowKey;
use gateway_common::reason::Reason;
use gateway_common::translation::{SEEN_DOUBT, SEEN_FIN, SEEN_RST, SEEN_TOLD, State};

use crate::account::Fate;
use crate::entry::Entry;
use crate::packet::{Metadata, Packet};
use crate::rewrite::{self, Difference};
use crate::way::Way;
use crate::wire::{TCP_HEADER, USUAL_HEADER};
use crate::{account, map, way};

const FIN: u8 = 1;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Steps through the options of a packet: no stack needs more than 10, for timestamps and three
/// SACK blocks with their padding. What stands behind stays as it is.
const MAX_STEPS: usize = 12;
/// Where TSval and TSecr are in the TCP header of nearly all packets.
const VALUE: usize = TCP_HEADER + 4;
const ECHO: usize = VALUE + 4;
/// TCP options (IANA).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// What becomes of a packet whose flow is handed off, or is to be; `None`: it is no such packet.
#[inline(always)]
pub(crate) fn judge(ctx: &TcContext, packet: &mut Packet) -> Option<Reason> {
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
            catch(packet, entry);
            Some(Reason::Condemned)
        }
        State::Forwarding => {
            if packet.opens() && give_way(entry, &packet.flow) {
                return None;
            }
            let reason = forward(ctx, packet, entry);
            if matches!(reason, Reason::Translated) {
                // The programs of interfaces above this one must not renumber it again.
                own(ctx);
            }
            Some(reason)
        }
    }
}

/// Marks a packet that the stack is to forward as one of the gateway's own.
#[inline(always)]
pub(crate) fn own(ctx: &TcContext) {
    if let Some(settings) = map::settings() {
        ctx.set_mark(settings.own(Metadata::of(ctx).mark()));
    }
}

/// Tells user space of a packet of a condemned flow, unless it was told of one just before.
#[inline(never)]
fn catch(packet: &Packet, entry: Entry) {
    entry.touch(map::lately());
    let translation = entry.get();
    if !translation.tells() {
        return;
    }
    let octets = packet.text();
    let caught =
        Caught::new(packet.flow, packet.sequence(), packet.acknowledgement(), octets, packet.flags());
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
fn forward(ctx: &TcContext, packet: &mut Packet, entry: Entry) -> Reason {
    prepare(packet, entry);
    let way = way(ctx, packet);
    if matches!(way, Way::Nowhere) && !packet.is_answered_translated(entry.get().is_from_client()) {
        return Reason::TooLarge;
    }
    packet.straight = matches!(way, Way::Neighbour);
    if note(packet, entry) {
        return Reason::OverLimit;
    }
    renumber(ctx, packet, entry);
    if packet.readdressed {
        rewrite::readdress(packet);
    }
    if packet.straight {
        rewrite::age(packet);
        rewrite::unshare(ctx);
    }
    let written =
        rewrite::write(ctx, packet) && more_options(ctx, packet, entry) && rewrite::correct(ctx, packet);
    if !written {
        return Reason::Unwritable;
    }
    if packet.straight && rewrite::redirect(ctx, packet) {
        return Reason::Redirected;
    }
    Reason::Translated
}

/// As whose the packet goes out: in the direction from where the peer's packets come in.
#[inline(never)]
pub(crate) fn prepare(packet: &mut Packet, entry: Entry) {
    packet.out = packet.flow;
    entry.get().set_out(&mut packet.out);
    packet.readdressed = false;
    if !packet.flow.has_addresses_of(&packet.out) {
        packet.readdressed = true;
    }
    packet.change = Difference::NONE;
    packet.moved = Difference::NONE;
}

/// The way of a packet whose `octets` are known.
#[inline(always)]
pub(crate) fn way(ctx: &TcContext, packet: &mut Packet) -> Way {
    if packet.ttl <= 1 {
        return Way::Nowhere;
    }
    packet.now = map::lately();
    // Each segment of a packet that stands for many must fit, not the packet.
    packet.segments = Metadata::of(ctx).segments();
    let size = Metadata::of(ctx).segment_size();
    packet.segment = if size == 0 { packet.octets } else { packet.headers() + size };
    match way::find(ctx, packet) {
        // The stack knows which interface a tag belongs to, and the rules for that one. It takes no
        // packet, though, that claims to be from this machine.
        Way::Neighbour if packet.tags != 0 && !packet.readdressed => Way::Stack,
        Way::Nowhere if !packet.keeps_whole() => Way::Stack,
        way @ (Way::Neighbour | Way::Nowhere | Way::Stack) => way,
    }
}

/// Counts a packet. True: its client is over a limit.
#[inline(never)]
fn note(packet: &mut Packet, entry: Entry) -> bool {
    let translation = entry.get();
    let from_client = translation.is_from_client();
    if from_client {
        packet.carried.flow = packet.flow;
    } else {
        packet.carried.flow.reverse_of(&packet.out);
    }
    packet.carried.octets = packet.text();
    let (flags, held) = (packet.flags(), translation.is_held());
    // What ends a flow is what the limit is for. What has no text is asked about only where text was
    // stopped: it takes a look into the account.
    let asked = (packet.carried.octets != 0 || held) && flags & RST == 0;
    if asked {
        match account::carry(&mut packet.carried, !from_client, held) {
            Fate::Passes if held => hold(packet, entry, false),
            Fate::Passes => {}
            Fate::Known if !held => {
                hold(packet, entry, true);
                return true;
            }
            Fate::Known | Fate::Stopped => return true,
        }
    }
    if flags & (FIN | RST) != 0 || translation.seen() & SEEN_DOUBT != 0 {
        note_end(packet, entry);
    }
    if flags & ACK != 0 {
        entry.acknowledge(packet.acknowledgement());
    }
    entry.count(translation, packet.segments, packet.carried.octets.into(), packet.now);
    false
}

/// Once text is stopped, what has no text is asked about too, in both directions.
#[inline(never)]
fn hold(packet: &Packet, entry: Entry, held: bool) {
    entry.hold(held);
    if let Some(peer) = entry.peer(&packet.flow) {
        peer.hold(held);
    }
}

/// Notes that the sender ends its direction or the flow, if it may be the sender who says so, or that
/// it has not been reset.
#[inline(never)]
fn note_end(packet: &Packet, entry: Entry) {
    let (translation, flags, now) = (entry.get(), packet.flags(), map::lately());
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
        account::end(&packet.carried.flow);
    }
}

/// Ports, numbers and window, and the timestamps of nearly all packets.
#[inline(always)]
fn renumber(ctx: &TcContext, packet: &mut Packet, entry: Entry) {
    packet.usual = packet.has_timestamps(ctx) && entry.get().has_timestamps();
    numbers(packet, entry);
    if packet.usual {
        usual_timestamps(packet, entry);
    }
}

/// All options that have not been translated yet.
#[inline(always)]
fn more_options(ctx: &TcContext, packet: &mut Packet, entry: Entry) -> bool {
    let done = if packet.usual { USUAL_HEADER } else { TCP_HEADER };
    packet.header_length() <= done || options(ctx, packet, entry, done)
}

/// Ports, sequence and acknowledgement number, and window.
#[inline(never)]
fn numbers(packet: &mut Packet, entry: Entry) {
    let translation = entry.get();
    packet.put::<0>(packet.out.ports());
    packet.put::<4>(translation.sequence(packet.sequence()).to_be_bytes());
    if packet.flags() & ACK != 0 {
        packet.put::<8>(translation.acknowledgement(packet.acknowledgement()).to_be_bytes());
    }
    let [offset, flags, high, low] = packet.word::<12>();
    let [high, low] = translation.window(u16::from_be_bytes([high, low])).to_be_bytes();
    packet.put::<12>([offset, flags, high, low]);
}

/// Timestamps where nearly all packets have them.
#[inline(never)]
fn usual_timestamps(packet: &mut Packet, entry: Entry) {
    let value = u32::from_be_bytes(packet.word::<VALUE>());
    packet.put::<VALUE>(value.wrapping_add(difference(entry, value)).to_be_bytes());
    let echo = u32::from_be_bytes(packet.word::<ECHO>());
    let echo = echo_difference(packet, entry).map_or(0, |difference| echo.wrapping_sub(difference));
    packet.put::<ECHO>(echo.to_be_bytes());
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
    let Ok(old) = ctx.load::<[u8; 4]>(at) else { return false };
    let value = u32::from_be_bytes(old);
    if !replace(ctx, packet, at, old, value.wrapping_add(difference(entry, value))) {
        return false;
    }
    let Ok(old) = ctx.load::<[u8; 4]>(at + 4) else { return false };
    let echo = u32::from_be_bytes(old);
    let echo = echo_difference(packet, entry).map_or(0, |difference| echo.wrapping_sub(difference));
    replace(ctx, packet, at + 4, old, echo)
}

/// What is added to TSval.
#[inline(always)]
fn difference(entry: Entry, value: u32) -> u32 {
    let translation = entry.get();
    if let Some(difference) = translation.timestamp_difference() {
        return difference;
    }
    let difference = translation.first_timestamp(value);
    entry.fix_timestamps(difference, translation.seen());
    difference
}

/// What is taken from TSecr: it echoes a timestamp that went the other way, and was changed there.
#[inline(always)]
fn echo_difference(packet: &Packet, entry: Entry) -> Option<u32> {
    entry.get().echo_difference().or_else(|| learn_echo(packet, entry))
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
