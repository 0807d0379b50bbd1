//! What becomes of a packet that goes out.
//!
//! A flow that is handed off, or just being, belongs to no socket: whatever the stack still says
//! about it, a reset most of all, would break it.
//!
//! What a socket of the gateway says in the middle of its flow is not looked up, for that is nearly all that goes
//! out here, and the table is too large for a processor's cache. A flow is handed off when its two sockets have
//! nothing left to say but an acknowledgement, which at that moment is true on either side of the handoff.

use aya_ebpf::programs::TcContext;
use gateway_common::reason::Reason;
use gateway_common::translation::State;

use crate::entry::Entry;
use crate::glance::Seen;
use crate::packet::{Metadata, Packet};
use crate::{account, glance, header, icmp, map, translate};

/// `Some`: it goes no further.
#[inline(always)]
pub(crate) fn judge(ctx: &TcContext, packet: &mut Packet) -> Option<Reason> {
    let metadata = Metadata::of(ctx);
    if matches!(glance::look(ctx, packet), Seen::Unrelated(_))
        || !map::interface(packet, metadata.interface())
    {
        return None;
    }
    if header::parse(ctx, packet).is_err() {
        if packet.icmp {
            icmp::judge_own(ctx, packet);
        }
        return None;
    }
    let to_client = map::is_intercepted(&mut packet.number, packet.flow.client_port());
    if !to_client && !map::is_intercepted(&mut packet.number, packet.flow.server_port()) {
        return None;
    }
    packet.check(ctx).ok()?;
    turn(packet);
    let is_between = is_own(metadata) && !packet.is_of_handshake() && !packet.ends();
    if !is_between && let Some(entry) = Entry::of(&packet.out) {
        match entry.get().state() {
            State::Forwarding if packet.opens() && translate::give_way(entry, &packet.out) => return None,
            State::Frozen | State::Forwarding => return Some(Reason::Stray),
            State::Condemned => {
                if packet.opens() {
                    translate::give_way(entry, &packet.out);
                }
                // Otherwise it is what resets the two ends.
                return None;
            }
            State::Watched | State::Over => {}
        }
    }
    if to_client && is_own(metadata) && is_over(packet) {
        return Some(Reason::OverLimit);
    }
    None
}

/// Whether a socket of the gateway sends it. Asked twice: what is kept meanwhile would lie on the stack.
#[inline(always)]
fn is_own(metadata: Metadata) -> bool {
    map::settings().is_some_and(|settings| settings.is_own(metadata.mark()))
}

/// The flow as its other end sees it. A function of its own, for the copies lie on the stack.
#[inline(never)]
fn turn(packet: &mut Packet) {
    packet.out.reverse_of(&packet.flow);
}

/// Counts what the gateway sends to a client. True: it is one packet too many.
#[inline(never)]
fn is_over(packet: &mut Packet) -> bool {
    if packet.answers() {
        account::answered(&packet.out, packet.sequence());
        return false;
    }
    if packet.ends() {
        account::end(&packet.out);
    }
    // What ends a flow is what the limit is for.
    if packet.resets() {
        return false;
    }
    packet.carried.flow = packet.out;
    packet.carried.octets = packet.text();
    account::meet(&mut packet.carried, true)
}
