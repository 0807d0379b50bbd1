//! Where packets of handed-off flows go.
//!
//! The kernel's answer holds for a moment: a busy flow asks once in that time and not for each
//! packet, which costs a third of all that the program does with one. A route that changes is
//! noticed a moment later.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
    bpf_redir_neigh as Neighbour,
};
use aya_ebpf::programs::TcContext;
use gateway_common::flow::FlowKey;

use crate::packet::{Metadata, Packet};
use crate::{map, socket};

/// Where a packet goes.
pub(crate) enum Way {
    /// To the neighbour that the packet's notes name.
    Neighbour,
    /// Nowhere: it is larger than the link takes, or has been under way for too long.
    Nowhere,
    /// Wherever the stack says.
    Stack,
}

/// How long an answer holds, in nanoseconds.
const MOMENT: u64 = 16_000_000;

/// An answer.
#[repr(C)]
pub(crate) struct Known {
    /// Of whose packets, as they go out.
    flow: FlowKey,
    /// Through which interface they came in.
    came_in: u32,
    /// When the kernel gave it: nanoseconds of `CLOCK_MONOTONIC`.
    since: u64,
    /// Octets that a packet may have.
    longest: u32,
    way_out: u32,
    neighbour: Neighbour,
}

impl Known {
    #[inline(always)]
    fn holds(&self, packet: &Packet, interface: u32, now: u64) -> bool {
        self.came_in == interface
            && now.wrapping_sub(self.since) < MOMENT
            && packet.segment <= self.longest
            && self.flow.is(&packet.out)
    }
}

/// The way of a packet whose segments are as long as it says.
#[inline(never)]
pub(crate) fn find(ctx: &TcContext, packet: &mut Packet) -> Way {
    let now = packet.now;
    let Some(known) = map::known(packet, packet.out.mixed()) else { return Way::Stack };
    if !known.holds(packet, Metadata::of(ctx).interface(), now) {
        let way = ask(ctx, packet, known);
        if !matches!(way, Way::Neighbour) {
            return way;
        }
        known.since = now;
    }
    packet.way_out = known.way_out;
    packet.neighbour = known.neighbour;
    Way::Neighbour
}

#[inline(never)]
fn ask(ctx: &TcContext, packet: &mut Packet, known: &mut Known) -> Way {
    let interface = Metadata::of(ctx).interface();
    let route = &mut packet.route;
    socket::set_route(route, packet.v6, &packet.out, interface);
    #[expect(clippy::cast_possible_truncation, reason = "compared in the same line")]
    let length = if packet.segment > 0xffff { 0xffff } else { packet.segment as u16 };
    route.__bindgen_anon_1.tot_len = length;
    let answer = socket::look_up_route(ctx, route);
    if answer == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED) {
        return Way::Nowhere;
    }
    if answer != i64::from(BPF_FIB_LKUP_RET_SUCCESS) && answer != i64::from(BPF_FIB_LKUP_RET_NO_NEIGH) {
        return Way::Stack;
    }
    known.flow = packet.out;
    known.came_in = interface;
    // SAFETY: both are numbers of 16 bits. Kernels before 5.13 leave what was asked for.
    known.longest = u32::from(unsafe { route.__bindgen_anon_1.mtu_result });
    known.way_out = route.ifindex;
    known.neighbour.nh_family = u32::from(route.family);
    // SAFETY: all of the union is initialized, as the larger of its members.
    known.neighbour.__bindgen_anon_1.ipv6_nh = unsafe { route.__bindgen_anon_4.ipv6_dst };
    Way::Neighbour
}
