//! Packets of handed-off flows: renumbered and forwarded.
//!
//! What the numbers become is in [`gateway_common::translation`]; here they are found in the
//! packet and replaced.

use aya_ebpf::programs::TcContext;
use gateway_common::flow::FlowKey;
use gateway_common::reason::Reason;
use gateway_common::settings::Settings;
use gateway_common::translation::{SEEN_FIN, SEEN_RST, State, Translation};

use crate::entry::Entry;
use crate::header::{Metadata, Packet};
use crate::map;
use crate::rewrite::{self, Difference, Way};

const FIN: u8 = 1;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Octets of options in a TCP header at most.
const MAX_OPTIONS: usize = 40;
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
        State::Forwarding => {
            if packet.opens() && give_way(entry, translation) {
                return None;
            }
            Some(Forwarding { ctx, metadata, settings, packet, entry, translation }.run())
        }
    }
}

/// Ends a flow whose addresses and ports its client uses again; not one that is still open, as far
/// as anybody can tell.
#[inline(never)]
fn give_way(entry: Entry, translation: &Translation) -> bool {
    let peer = Entry::of(translation.peer());
    let reset = peer.is_some_and(|peer| peer.get().has_reset());
    if !reset && !translation.has_fin() && !translation.has_reset() {
        return false;
    }
    entry.end();
    if let Some(peer) = peer {
        peer.end();
    }
    true
}

/// A packet that is renumbered and forwarded.
struct Forwarding<'a> {
    ctx: &'a TcContext,
    metadata: &'a Metadata,
    settings: &'a Settings,
    packet: &'a mut Packet,
    entry: Entry,
    translation: &'a Translation,
}

impl Forwarding<'_> {
    #[inline(never)]
    fn run(&mut self) -> Reason {
        self.packet.out = turned(self.translation.peer());
        let length = length(self.ctx, self.packet);
        let headers = (self.packet.tcp - self.packet.ip + self.packet.header_length()) as u32;
        let way = self.way(length, headers);
        if matches!(way, Way::TooLarge) && self.packet.keeps_whole(self.ctx) {
            return Reason::TooLarge;
        }
        self.note(u64::from(length - headers));
        if self.rewrite().is_err() {
            return Reason::Truncated;
        }
        if let Way::Neighbour(interface, neighbour) = way
            && rewrite::age(self.ctx, self.packet).is_ok()
            && rewrite::redirect(interface, neighbour)
        {
            return Reason::Redirected;
        }
        // The programs of interfaces above this one must not renumber it again.
        self.ctx.set_mark(self.settings.own(self.metadata.mark));
        Reason::Translated
    }

    #[inline(always)]
    fn way(&self, length: u32, headers: u32) -> Way {
        // A tag would stay on the packet, and an exhausted packet is the stack's to answer.
        if self.packet.link.vlan != [[0; 2]; 2] || self.packet.ttl <= 1 {
            return Way::Stack;
        }
        // Each segment of a packet that stands for many must fit, not the packet.
        let size = self.metadata.segment_size;
        let segment = if size == 0 { length } else { headers + size };
        #[expect(clippy::cast_possible_truncation, reason = "compared in the same line")]
        let segment = if segment > 0xffff { 0xffff } else { segment as u16 };
        rewrite::way(self.ctx, self.packet, segment, self.metadata.interface)
    }

    #[inline(always)]
    fn note(&self, octets: u64) {
        let flags = self.packet.header[13];
        let fin = if flags & FIN != 0 { SEEN_FIN } else { 0 };
        let reset = if flags & RST != 0 { SEEN_RST } else { 0 };
        let seen = self.translation.seen() | fin | reset;
        if seen != self.translation.seen() {
            self.entry.note(seen);
        }
        let segments = if self.metadata.segments == 0 { 1 } else { self.metadata.segments };
        self.entry.count(self.translation, u64::from(segments), octets, map::now());
    }

    #[inline(always)]
    fn rewrite(&self) -> Result<(), i64> {
        let Self { ctx, packet, entry, translation, .. } = self;
        Renumbering { ctx, packet, entry: *entry, translation, change: Difference::NONE }.run()?;
        let same = packet.flow.client_addr() == packet.out.client_addr()
            && packet.flow.server_addr() == packet.out.server_addr();
        if same { Ok(()) } else { rewrite::readdress(ctx, packet) }
    }
}

/// Addresses and ports of what goes out in the direction from where `peer` comes in.
#[inline(always)]
const fn turned(peer: &FlowKey) -> FlowKey {
    FlowKey::new(
        (peer.server_addr(), peer.server_port().to_be_bytes()),
        (peer.client_addr(), peer.client_port().to_be_bytes()),
    )
}

/// Octets of the packet from its IP header on, without the padding of the link.
#[inline(always)]
fn length(ctx: &TcContext, packet: &Packet) -> u32 {
    let whole = ctx.len() - packet.ip as u32;
    let field = if packet.v6 { packet.ip + 4 } else { packet.ip + 2 };
    let Ok(said) = ctx.load::<[u8; 2]>(field) else { return whole };
    let said = u32::from(u16::from_be_bytes(said)) + if packet.v6 { 40 } else { 0 };
    let least = (packet.tcp - packet.ip) as u32 + packet.header_length() as u32;
    // Packets of more than 64 KiB say 0.
    if said < least || said > whole { whole } else { said }
}

/// A packet while its numbers are replaced.
struct Renumbering<'a> {
    ctx: &'a TcContext,
    packet: &'a Packet,
    entry: Entry,
    translation: &'a Translation,
    /// What of its TCP header has changed.
    change: Difference,
}

impl Renumbering<'_> {
    /// Ports, sequence and acknowledgement number, window and options.
    #[inline(always)]
    fn run(mut self) -> Result<(), i64> {
        let [p0, p1, q0, q1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = self.packet.header;
        let [f0, f1] = self.translation.peer().server_port().to_be_bytes();
        let [t0, t1] = self.translation.peer().client_port().to_be_bytes();
        self.change.add([p0, p1, q0, q1], [f0, f1, t0, t1]);
        let seq = self.translation.sequence(u32::from_be_bytes([s0, s1, s2, s3])).to_be_bytes();
        self.change.add([s0, s1, s2, s3], seq);
        let mut ack = [a0, a1, a2, a3];
        if flags & ACK != 0 {
            ack = self.translation.acknowledgement(u32::from_be_bytes(ack)).to_be_bytes();
            self.change.add([a0, a1, a2, a3], ack);
        }
        let [x0, x1] = self.translation.window(u16::from_be_bytes([w0, w1])).to_be_bytes();
        self.change.add([offset, flags, w0, w1], [offset, flags, x0, x1]);
        let ([s0, s1, s2, s3], [a0, a1, a2, a3]) = (seq, ack);
        let header = [f0, f1, t0, t1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, x0, x1];
        self.ctx.store(self.packet.tcp, &header, 0)?;
        if self.packet.header_length() > 20 {
            self.options()?;
        }
        rewrite::correct(self.ctx, self.packet, self.change)
    }

    /// Edges of SACK blocks (RFC 2018 section 3) and timestamps (RFC 7323 section 3).
    #[inline(never)]
    fn options(&mut self) -> Result<(), i64> {
        let end = self.packet.tcp + self.packet.header_length();
        let mut at = self.packet.tcp + 20;
        let mut edges = 0u8;
        for _ in 0..MAX_OPTIONS {
            if at + 1 >= end {
                break;
            }
            if edges != 0 {
                let edge: [u8; 4] = self.ctx.load(at)?;
                self.replace(at, edge, self.translation.acknowledgement(u32::from_be_bytes(edge)))?;
                edges -= 1;
                at += 4;
                continue;
            }
            let [kind, length] = self.ctx.load::<[u8; 2]>(at)?;
            if kind == NO_OPERATION {
                at += 1;
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
            if kind == TIMESTAMPS && length == 10 && self.translation.has_timestamps() {
                self.timestamps(at + 2)?;
            }
            at += length as usize;
        }
        Ok(())
    }

    #[inline(always)]
    fn timestamps(&mut self, at: usize) -> Result<(), i64> {
        let [v0, v1, v2, v3, e0, e1, e2, e3] = self.ctx.load::<[u8; 8]>(at)?;
        let value = u32::from_be_bytes([v0, v1, v2, v3]);
        let difference = match self.translation.timestamp_difference() {
            Some(difference) => difference,
            None => {
                let difference = self.translation.first_timestamp(value);
                self.entry.fix_timestamps(difference, self.entry.get().seen());
                difference
            }
        };
        self.replace(at, [v0, v1, v2, v3], value.wrapping_add(difference))?;
        // The echo is of a timestamp that went the other way, and was changed there.
        let peer = Entry::of(self.translation.peer()).and_then(|peer| peer.get().timestamp_difference());
        let echo = u32::from_be_bytes([e0, e1, e2, e3]);
        let echo = peer.map_or(0, |difference| echo.wrapping_sub(difference));
        self.replace(at + 4, [e0, e1, e2, e3], echo)
    }

    #[inline(always)]
    fn replace(&mut self, at: usize, old: [u8; 4], new: u32) -> Result<(), i64> {
        let new = new.to_be_bytes();
        self.ctx.store(at, &new, 0)?;
        if (at - self.packet.tcp) & 1 == 0 {
            self.change.add(old, new);
        } else {
            self.change.add_odd(old, new);
        }
        Ok(())
    }
}
