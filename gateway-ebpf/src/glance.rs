//! A first look, which settles nearly all packets of a router: TCP between other ports, and UDP.
//!
//! It reads once, where the stack says that the IP header begins, and writes nothing down. Whatever
//! it is not sure of is parsed.

use aya_ebpf::programs::TcContext;
use gateway_common::reason::Reason;

use crate::header::{self, TCP};
use crate::map;

/// Ethertypes (IANA), as the stack keeps them: in network byte order.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;
/// Protocol number (IANA).
const UDP: u8 = 17;

/// Why the packet is none of the gateway's business, if that is to be seen at once.
#[inline(never)]
pub(crate) fn unrelated(ctx: &TcContext) -> Option<Reason> {
    match header::ethertype(ctx) {
        IPV4 => {
            let [first, _, _, _, _, _, flags, fragment, _, protocol, .., p0, p1, q0, q1] =
                header::at_ip::<24>(ctx)?;
            // Options would move the ports, and most fragments have none.
            let plain = first == 0x45 && flags & 0x3f == 0 && fragment == 0;
            if plain { judge(protocol, [p0, p1], [q0, q1]) } else { None }
        }
        IPV6 => {
            let [_, _, _, _, _, _, next, .., p0, p1, q0, q1] = header::at_ip::<44>(ctx)?;
            judge(next, [p0, p1], [q0, q1])
        }
        _ => None,
    }
}

#[inline(always)]
fn judge(protocol: u8, source: [u8; 2], destination: [u8; 2]) -> Option<Reason> {
    match protocol {
        UDP => Some(Reason::NotTcp),
        TCP if !map::is_intercepted(u16::from_be_bytes(destination))
            && !map::is_intercepted(u16::from_be_bytes(source)) =>
        {
            Some(Reason::OtherPort)
        }
        _ => None,
    }
}
