//! A first look, which settles nearly all packets of a router: TCP between other ports, and UDP.
//!
//! It reads once, where the stack says that the IP header begins. Whatever it is not sure of is parsed.

use aya_ebpf::programs::TcContext;
use gateway_common::reason::Reason;

use crate::header::TCP;
use crate::packet::{Metadata, Packet};
use crate::{map, read};

/// Ethertypes (IANA), as the stack keeps them: in network byte order.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;
/// Protocol number (IANA).
const UDP: u8 = 17;

/// Why the packet is none of the gateway's business, if that is to be seen at once.
#[inline(never)]
pub(crate) fn unrelated(ctx: &TcContext, packet: &mut Packet) -> Option<Reason> {
    match Metadata::of(ctx).ethertype() {
        IPV4 => {
            let [first, division, hops, .., ports] = read::at_ip::<6>(ctx)?;
            let ([first, ..], [_, _, flags, fragment]) = (first.to_ne_bytes(), division.to_ne_bytes());
            let [_, protocol, ..] = hops.to_ne_bytes();
            // Options would move the ports, and most fragments have none.
            let plain = first == 0x45 && flags & 0x3f == 0 && fragment == 0;
            if plain { judge(packet, protocol, ports) } else { None }
        }
        IPV6 => {
            let [_, lengths, .., ports] = read::at_ip::<11>(ctx)?;
            let [_, _, next, _] = lengths.to_ne_bytes();
            judge(packet, next, ports)
        }
        _ => None,
    }
}

#[inline(always)]
fn judge(packet: &mut Packet, protocol: u8, ports: u32) -> Option<Reason> {
    let [p0, p1, q0, q1] = ports.to_ne_bytes();
    match protocol {
        UDP => Some(Reason::NotTcp),
        TCP if !map::is_intercepted(&mut packet.number, u16::from_be_bytes([q0, q1]))
            && !map::is_intercepted(&mut packet.number, u16::from_be_bytes([p0, p1])) =>
        {
            Some(Reason::OtherPort)
        }
        _ => None,
    }
}
