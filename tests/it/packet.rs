//! Packets made octet by octet, right ones and wrong ones.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A TCP header.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) flags: u8,
    /// Claimed length in words of four octets, if not the true one.
    pub(crate) words: Option<u8>,
    pub(crate) options: Vec<u8>,
}

impl Tcp {
    pub(crate) const fn to(destination: u16, flags: u8) -> Self {
        Self { source: 40_000, destination, flags, words: None, options: Vec::new() }
    }

    pub(crate) fn with_options(mut self, options: &[u8]) -> Self {
        assert_eq!(options.len() % 4, 0);
        self.options = options.to_vec();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let words = u8::try_from(5 + self.options.len() / 4).expect("options fit");
        let mut bytes = [self.source.to_be_bytes(), self.destination.to_be_bytes()].concat();
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, self.words.unwrap_or(words) << 4, self.flags]);
        bytes.extend(64_240u16.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes
    }
}

/// An Ethernet frame with a TCP packet in it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    tags: Vec<u8>,
    ethertype: u16,
    /// The IP header with options or extension headers.
    ip: Vec<u8>,
    tcp: Tcp,
    /// Octets of the IP header set to other values than the right ones.
    wrong: Vec<(usize, u8)>,
}

impl Frame {
    pub(crate) fn v4(client: Ipv4Addr, server: Ipv4Addr, tcp: Tcp) -> Self {
        let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0];
        ip.extend(client.octets());
        ip.extend(server.octets());
        Self { tags: Vec::new(), ethertype: 0x0800, ip, tcp, wrong: Vec::new() }
    }

    pub(crate) fn v6(client: Ipv6Addr, server: Ipv6Addr, tcp: Tcp) -> Self {
        let mut ip = vec![0x60, 0, 0, 0, 0, 0, 6, 64];
        ip.extend(client.octets());
        ip.extend(server.octets());
        Self { tags: Vec::new(), ethertype: 0x86dd, ip, tcp, wrong: Vec::new() }
    }

    pub(crate) fn tcp(mut self, tcp: Tcp) -> Self {
        self.tcp = tcp;
        self
    }

    /// Puts a VLAN tag outside all others.
    pub(crate) fn tag(mut self, kind: u16, tag: u16) -> Self {
        let [outer, inner] = [kind, tag].map(u16::to_be_bytes);
        self.tags.splice(0..0, outer.into_iter().chain(inner));
        self
    }

    pub(crate) const fn ethertype(mut self, ethertype: u16) -> Self {
        self.ethertype = ethertype;
        self
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.ip[0] >> 4 == 4
    }

    /// Sets an octet of the IP header, after all lengths are right.
    pub(crate) fn set(mut self, place: usize, octet: u8) -> Self {
        self.wrong.push((place, octet));
        self
    }

    pub(crate) fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip.extend(options);
        self.ip[0] = 0x40 | u8::try_from(self.ip.len() / 4).expect("options fit");
        self
    }

    /// Puts an IPv6 extension header of `8 + 8 * more` octets in front of all others.
    pub(crate) fn extension(mut self, kind: u8, more: u8) -> Self {
        let mut header = vec![0; 8 + 8 * usize::from(more)];
        (header[0], header[1]) = (self.ip[6], more);
        self.ip[6] = kind;
        self.ip.splice(40..40, header);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let tcp = self.tcp.bytes();
        let mut ip = self.ip.clone();
        let behind = if ip[0] >> 4 == 4 { 0 } else { 40 };
        let length = u16::try_from(ip.len() + tcp.len() - behind).expect("packets are small");
        let place = if behind == 0 { 2 } else { 4 };
        ip[place..place + 2].copy_from_slice(&length.to_be_bytes());
        for (place, octet) in &self.wrong {
            ip[*place] = *octet;
        }
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        bytes.extend(&self.tags);
        bytes.extend(self.ethertype.to_be_bytes());
        bytes.extend(ip);
        bytes.extend(tcp);
        bytes
    }

    /// The frame with its checksums right (RFC 1071, RFC 9293 section 3.1).
    pub(crate) fn sound(&self) -> Vec<u8> {
        let mut frame = self.bytes();
        let (head, tcp) = (14 + self.tags.len(), 14 + self.tags.len() + self.ip.len());
        if self.ip[0] >> 4 == 4 {
            let checksum = !sum(&frame[head..tcp]);
            frame[head + 10..head + 12].copy_from_slice(&checksum.to_be_bytes());
        }
        let checksum = !sum(&segment(&frame[head..]));
        frame[tcp + 16..tcp + 18].copy_from_slice(&checksum.to_be_bytes());
        frame
    }

    /// The IP packet of that, without its frame.
    pub(crate) fn checked(&self) -> Vec<u8> {
        self.sound().split_off(14 + self.tags.len())
    }
}

/// What the TCP checksum of an IP packet without extension headers covers.
fn segment(packet: &[u8]) -> Vec<u8> {
    let (addresses, tcp) = match packet[0] >> 4 {
        4 => (12..20, usize::from(packet[0] & 15) * 4),
        _ => (8..40, 40),
    };
    let length = u32::try_from(packet.len() - tcp).expect("packets are small").to_be_bytes();
    [&packet[addresses], &[0, 0, 0, 6], &length, &packet[tcp..]].concat()
}

/// The sum in one's complement of words of two octets.
fn sum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded twice")
}

/// Whether the checksums of an IP packet are right.
pub(crate) fn is_sound(packet: &[u8]) -> bool {
    let header = packet[0] >> 4 != 4 || sum(&packet[..usize::from(packet[0] & 15) * 4]) == 0xffff;
    header && sum(&segment(packet)) == 0xffff
}
