//! SYNs that meet a connection of the gateway's which is over, and which the stack still remembers (TIME-WAIT).
//!
//! The TC program judges such a SYN like any other, and gives it to what is remembered, which alone knows whether it
//! begins another connection (RFC 9293 section 3.10.7.4). If it does, the stack looks for a listener where the client
//! meant to go, and this program names the gateway's. Without it the client hears of numbers that it does not know, and
//! sends its SYN again after a second.
//!
//! When the TC program looks for a packet's socket, the kernel asks for listeners, too. Whichever is named, it is none to
//! that program, and so it is spared the search for a note that most such packets do not have.

use core::ptr;

use aya_ebpf::programs::SkLookupContext;
use gateway_common::flow::{FlowKey, mapped};

use crate::map;
use crate::socket::{AF_INET6, Socket};

/// `IPPROTO_TCP`.
const TCP: u32 = 6;
/// Between the note of a SYN and the stack's search for a listener, in nanoseconds: far more than that takes.
const JUST_NOW: u64 = 1_000_000_000;

/// Names the gateway's listener, if the TC program has just taken a SYN of this flow.
#[inline(always)]
pub(crate) fn find_listener(ctx: &SkLookupContext) {
    if map::packet().is_some_and(|packet| packet.asking) {
        return;
    }
    let Some((flow, v6)) = flow(ctx) else { return };
    // SAFETY: any octets are a note, should it be overwritten in this moment.
    let Some(note) = (unsafe { map::FLOWS.get(flow) }) else { return };
    // An older one is about another connection, and the address may be this machine's own by now.
    if map::now().wrapping_sub(note.time()) > JUST_NOW {
        return;
    }
    if let Some(listener) = Socket::listener(v6) {
        // Refused, the stack finds what it would have found.
        listener.take(ctx).ok();
    }
}

/// The flow that a listener is looked for, and whether it is one of IPv6.
#[inline(always)]
fn flow(ctx: &SkLookupContext) -> Option<(FlowKey, bool)> {
    macro_rules! field {
        ($($name:tt)+) => {
            // SAFETY: the kernel lets programs read these fields, each word by itself.
            unsafe { ptr::read_volatile(&raw const (*ctx.lookup).$($name)+) }
        };
    }
    let family = field!(family);
    // All fields are read before one is chosen: the verifier takes no pointer to one or the other.
    let client_v6 =
        [field!(remote_ip6[0]), field!(remote_ip6[1]), field!(remote_ip6[2]), field!(remote_ip6[3])];
    let server_v6 = [field!(local_ip6[0]), field!(local_ip6[1]), field!(local_ip6[2]), field!(local_ip6[3])];
    let (client_v4, server_v4) = (field!(remote_ip4), field!(local_ip4));
    if field!(protocol) != TCP {
        return None;
    }
    let v6 = family == u32::from(AF_INET6);
    let (client, server) = if v6 {
        (zerocopy::transmute!(client_v6), zerocopy::transmute!(server_v6))
    } else {
        (mapped(client_v4.to_ne_bytes()), mapped(server_v4.to_ne_bytes()))
    };
    #[expect(clippy::cast_possible_truncation, reason = "a port")]
    let port = field!(local_port) as u16;
    Some((FlowKey::new((client, field!(remote_port).to_ne_bytes()), (server, port.to_be_bytes())), v6))
}
