//! What becomes of a packet that goes out.
//!
//! A flow that is handed off, or just being, belongs to no socket: whatever the stack still says
//! about it, a reset most of all, would break it.

use aya_ebpf::programs::TcContext;
use gateway_common::flow::FlowKey;
use gateway_common::reason::Reason;
use gateway_common::translation::State;

use crate::entry::Entry;
use crate::header::{self, Metadata};
use crate::{icmp, map, translate};

/// `Some`: it goes no further.
#[inline(always)]
pub(crate) fn judge(ctx: &TcContext) -> Option<Reason> {
    let metadata = Metadata::of(ctx);
    if metadata.came_in {
        return None;
    }
    let interface = map::interface(metadata.interface)?;
    let packet = map::packet()?;
    if header::parse(ctx, &metadata, interface, packet).is_err() {
        if packet.icmp {
            icmp::judge_own(ctx, packet);
        }
        return None;
    }
    if !map::is_intercepted(packet.flow.server_port()) && !map::is_intercepted(packet.flow.client_port()) {
        return None;
    }
    let flow = packet.flow;
    let answer = FlowKey::new(
        (flow.server_addr(), flow.server_port().to_be_bytes()),
        (flow.client_addr(), flow.client_port().to_be_bytes()),
    );
    let entry = Entry::of(&answer)?;
    match entry.get().state() {
        State::Forwarding if packet.opens() && translate::give_way(entry) => None,
        State::Frozen | State::Forwarding => Some(Reason::Stray),
        State::Condemned => {
            if packet.opens() {
                translate::give_way(entry);
            }
            // Otherwise it is what resets the two ends.
            None
        }
        State::Watched | State::Over => None,
    }
}
