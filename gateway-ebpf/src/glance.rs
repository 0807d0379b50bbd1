//! A first look, which settles nearly all packets of a router: TCP between other ports, and UDP.
//!
//! It reads once, where the stack says that the IP header begins. Of packets that are the gateway's business that
//! is mostly all there is to read, too. Whatever it is not sure of is parsed.

use aya_ebpf::programs::TcContext;
use gateway_common::reason::Reason;

use crate::header::TCP;
use crate::packet::{Metadata, Packet};
use crate::read;
use crate::wire::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER, USUAL_HEADER};

/// Ethertypes (IANA), as the stack keeps them: in network byte order.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;
/// Protocol number (IANA).
const UDP: u8 = 17;
/// Version 4, and five words: no options, which would move the ports.
const PLAIN: u8 = 0x45;

/// Where ports are in a TCP header.
const SOURCE: usize = 0;
const DESTINATION: usize = 2;

/// What the first look shows.
pub(crate) enum Seen {
    /// It is none of the gateway's business.
    Unrelated(Reason),
    /// A packet of TCP from or to an intercepted port, but none that opens a flow or answers that: its headers have
    /// been read, and nothing lies between them. See [`crate::header::take`].
    Headers,
    /// Not enough.
    Little,
}

/// Looks at a packet.
#[inline(never)]
pub(crate) fn look(ctx: &TcContext, packet: &mut Packet) -> Seen {
    match Metadata::of(ctx).ethertype() {
        IPV4 => {
            packet.v6 = false;
            let read =
                read::from_ip::<{ IPV4_HEADER + USUAL_HEADER }, { IPV4_HEADER + TCP_HEADER }>(ctx, packet);
            let v4 = &packet.headers.v4;
            let protocol = v4.hops.protocol;
            if read && v4.version == PLAIN && !v4.is_fragment() {
                judge(packet, protocol)
            } else {
                Seen::Little
            }
        }
        IPV6 => {
            packet.v6 = true;
            let read =
                read::from_ip::<{ IPV6_HEADER + USUAL_HEADER }, { IPV6_HEADER + TCP_HEADER }>(ctx, packet);
            let v6 = packet.headers.v6();
            let protocol = v6.next;
            if read && v6.version >> 4 == 6 { judge(packet, protocol) } else { Seen::Little }
        }
        _ => Seen::Little,
    }
}

#[inline(always)]
fn judge(packet: &mut Packet, protocol: u8) -> Seen {
    match protocol {
        UDP => Seen::Unrelated(Reason::NotTcp),
        TCP => {
            packet.to_server = packet.has_intercepted::<DESTINATION>();
            if !packet.to_server && !packet.has_intercepted::<SOURCE>() {
                return Seen::Unrelated(Reason::OtherPort);
            }
            if packet.is_of_handshake() { Seen::Little } else { Seen::Headers }
        }
        _ => Seen::Little,
    }
}
