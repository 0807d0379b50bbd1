//! From bytes to a TCP packet, or to the reason why it is none.
//!
//! Lengths that headers claim are checked against each other, because padding behind a packet is not part
//! of it.

use aya_ebpf::programs::TcContext;
use gateway_common::flow::{Link, SynOptions};
use gateway_common::reason::Reason;

use crate::packet::{Metadata, Packet};
use crate::read;
use crate::wire::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER};

pub(crate) const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
/// Tags that the program looks behind.
pub(crate) const MAX_TAGS: u32 = 2;
/// IPv6 extension headers that the program looks behind.
const MAX_EXTENSIONS: usize = 8;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// IEEE 802.1Q.
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// IEEE 802.1ad, "QinQ".
const ETHERTYPE_SERVICE_VLAN: [u8; 2] = [0x88, 0xa8];

/// Protocol numbers (IANA).
const HOP_BY_HOP: u8 = 0;
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// Fills `packet` from the headers that were read at once; false: it is to be parsed. Where it came from and what it
/// offers is left out, which only packets that open a flow are asked.
#[inline(never)]
pub(crate) fn take(ctx: &TcContext, packet: &mut Packet) -> bool {
    let header = if packet.v6 {
        let v6 = packet.headers.v6();
        packet.ttl = v6.hops;
        packet.said = u32::from(u16::from_be_bytes(v6.length)) + 40;
        *packet.flow.addresses_mut() = v6.addresses;
        IPV6_HEADER
    } else {
        let v4 = &packet.headers.v4;
        packet.ttl = v4.hops.ttl;
        packet.said = u16::from_be_bytes(v4.length).into();
        packet.flow.set_v4(&v4.hops.source, &v4.hops.destination);
        IPV4_HEADER
    };
    packet.flow.set_ports(packet.word::<0>());
    packet.ip = if packet.interface.is_ethernet() { ETHERNET_HEADER } else { 0 };
    packet.tcp = packet.ip + header;
    packet.tags = u32::from(Metadata::of(ctx).vlan().is_some());
    // Where the stack says that the IP header begins is not told to programs. If nothing is behind the packet,
    // its length shows that no tag lies before it.
    ctx.len() as usize == packet.ip + packet.said as usize
}

/// Finds the TCP header, and fills `packet` on the way.
///
/// # Errors
///
/// Why there is none to be found: such a packet passes.
#[inline(always)]
pub(crate) fn parse(ctx: &TcContext, packet: &mut Packet) -> Result<(), Reason> {
    packet.v6 = false;
    packet.icmp = false;
    packet.ip = 0;
    packet.link = Link::default();
    packet.tags = 0;
    packet.options = SynOptions::default();
    if packet.interface.is_ethernet() {
        ethernet(ctx, packet)?
    } else {
        bare_ip(ctx, packet)?
    }
    if packet.v6 {
        ipv6(ctx, packet)?
    } else {
        ipv4(ctx, packet)?
    }
    tcp(ctx, packet)
}

#[inline(never)]
fn tcp(ctx: &TcContext, packet: &mut Packet) -> Result<(), Reason> {
    packet.whole = false;
    let Some(begin) = packet.headers.tcp.first_chunk_mut::<TCP_HEADER>() else {
        return Err(Reason::Truncated);
    };
    read::to(ctx, packet.tcp, begin)?;
    packet.flow.set_ports(packet.word::<0>());
    Ok(())
}

#[inline(always)]
fn bare_ip(ctx: &TcContext, packet: &mut Packet) -> Result<(), Reason> {
    match read::at::<u8>(ctx, 0)? >> 4 {
        4 => {}
        6 => packet.v6 = true,
        _ => return Err(Reason::NotIp),
    }
    Ok(())
}

#[inline(never)]
fn ethernet(ctx: &TcContext, packet: &mut Packet) -> Result<(), Reason> {
    let [_, _, _, _, _, _, mac @ .., high, low] = read::at::<[u8; ETHERNET_HEADER]>(ctx, 0)?;
    packet.link.mac = Some(mac);
    let mut kind = [high, low];
    let mut ip = ETHERNET_HEADER;
    let mut tags = 0;
    if let Some(tag) = Metadata::of(ctx).vlan() {
        packet.link.vlan[0] = tag;
        tags = 1;
    }
    for _ in 0..MAX_TAGS + 1 {
        if kind != ETHERTYPE_VLAN && kind != ETHERTYPE_SERVICE_VLAN {
            break;
        }
        let [high, low, next @ ..] = read::at::<[u8; VLAN_TAG]>(ctx, ip)?;
        match tags {
            0 => packet.link.vlan[0] = [high, low],
            1 => packet.link.vlan[1] = [high, low],
            _ => return Err(Reason::TooManyTags),
        }
        tags += 1;
        kind = next;
        ip += VLAN_TAG;
    }
    packet.ip = ip;
    packet.tags = tags;
    match kind {
        ETHERTYPE_IPV4 => {}
        ETHERTYPE_IPV6 => packet.v6 = true,
        _ => return Err(Reason::NotIp),
    }
    Ok(())
}

/// RFC 791 section 3.1.
#[inline(never)]
fn ipv4(ctx: &TcContext, packet: &mut Packet) -> Result<(), Reason> {
    read::to(ctx, packet.ip, &mut packet.headers.v4)?;
    let v4 = &packet.headers.v4;
    let length = (v4.version & 0xf) as usize * 4;
    if v4.version >> 4 != 4 || length < IPV4_HEADER {
        return Err(Reason::BadHeader);
    }
    if v4.is_fragment() {
        return Err(Reason::Fragment);
    }
    let (protocol, total) = (v4.hops.protocol, u16::from_be_bytes(v4.length));
    packet.ttl = v4.hops.ttl;
    packet.said = total.into();
    packet.tcp = packet.ip + length;
    packet.flow.set_v4(&v4.hops.source, &v4.hops.destination);
    packet.flow.set_ports([0; 4]);
    packet.icmp = protocol == ICMP;
    if protocol != TCP {
        return Err(Reason::NotTcp);
    }
    let total = total as usize;
    // 0 stands for a packet of more than 64 KiB that the stack has put together ("BIG TCP").
    if total != 0 && total < length + TCP_HEADER {
        return Err(Reason::Truncated);
    }
    Ok(())
}

/// RFC 8200 sections 3 and 4.
#[inline(never)]
fn ipv6(ctx: &TcContext, packet: &mut Packet) -> Result<(), Reason> {
    read::to(ctx, packet.ip, packet.headers.v6())?;
    let v6 = packet.headers.v6();
    if v6.version >> 4 != 6 {
        return Err(Reason::BadHeader);
    }
    let (next, payload) = (v6.next, u16::from_be_bytes(v6.length));
    packet.ttl = v6.hops;
    packet.said = u32::from(payload) + 40;
    *packet.flow.addresses_mut() = v6.addresses;
    packet.flow.set_ports([0; 4]);
    let (mut kind, mut at) = (next, packet.ip + IPV6_HEADER);
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(kind, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            break;
        }
        let [next, length, _, segments_left] = read::at::<[u8; 4]>(ctx, at)?;
        if kind == ROUTING && segments_left != 0 {
            // The destination is only a station on the way.
            return Err(Reason::ExtensionHeaders);
        }
        kind = next;
        at += (length as usize + 1) * 8;
    }
    packet.tcp = at;
    packet.icmp = kind == ICMPV6;
    match kind {
        TCP => {}
        FRAGMENT => return Err(Reason::Fragment),
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION | MOBILITY | HOST_IDENTITY | SHIM6 => {
            return Err(Reason::ExtensionHeaders);
        }
        _ => return Err(Reason::NotTcp),
    }
    let payload = payload as usize;
    // 0 stands for a jumbo packet (RFC 2675), which is also how "BIG TCP" looks.
    if payload != 0 && payload + packet.ip + IPV6_HEADER < at + TCP_HEADER {
        return Err(Reason::Truncated);
    }
    Ok(())
}
