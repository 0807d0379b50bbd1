//! TCP segments that the gateway sends on behalf of an end of a flow that it has ended.
//!
//! Pure but for [`Sender`], which sends them with raw sockets (raw(7)): there is no connection
//! they could belong to.

use std::io;
use std::net::{IpAddr, SocketAddr};

use gateway_common::flow::FlowKey;
use socket2::{Domain, Protocol, Socket, Type};

/// `IPPROTO_RAW`: packets are sent with the header they come with, and none are received.
const RAW: i32 = 255;
const TCP: u8 = 6;
const HOPS: u8 = 64;

const RST: u8 = 4;
const ACK: u8 = 16;
/// A timestamp option (RFC 7323 section 3.2), zero in both fields, after two of padding.
const TIMESTAMP: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];

/// One segment without text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// From whom to whom, as its receiver knows them.
    flow: FlowKey,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    timestamp: bool,
}

impl Segment {
    /// Resets the connection of a receiver that expects octet `sequence` next. It acknowledges
    /// what the receiver has sent, because firewalls on the way may look at that.
    #[must_use]
    pub const fn reset(flow: FlowKey, sequence: u32, acknowledgement: u32) -> Self {
        Self { flow, sequence, acknowledgement, flags: RST | ACK, timestamp: false }
    }

    /// An acknowledgement that no receiver takes: its numbers are nowhere near, and its `timestamp`,
    /// for a connection that uses them, is from long ago. The answer is an acknowledgement that
    /// says what the receiver expects (RFC 9293 section 3.10.7.4, RFC 7323 section 5.3), or a reset
    /// where there is no such connection.
    #[must_use]
    pub const fn probe(flow: FlowKey, number: u32, timestamp: bool) -> Self {
        Self { flow, sequence: number, acknowledgement: number, flags: ACK, timestamp }
    }

    /// Whether it is a reset.
    #[must_use]
    pub const fn is_reset(&self) -> bool {
        self.flags & RST != 0
    }

    /// Its flow.
    #[must_use]
    pub const fn flow(&self) -> &FlowKey {
        &self.flow
    }

    /// Its sequence number.
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    fn source(&self) -> IpAddr {
        IpAddr::from(self.flow.client_addr()).to_canonical()
    }

    fn destination(&self) -> IpAddr {
        IpAddr::from(self.flow.server_addr()).to_canonical()
    }

    /// The packet with its IP header. The kernel fills in the checksum of an IPv4 header.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let tcp = self.tcp();
        let length = u16::try_from(tcp.len()).unwrap_or(u16::MAX);
        let (source, destination) = (octets(self.source()), octets(self.destination()));
        let mut packet = if self.destination().is_ipv4() {
            let [high, low] = length.saturating_add(20).to_be_bytes();
            vec![0x45, 0, high, low, 0, 0, 0x40, 0, HOPS, TCP, 0, 0]
        } else {
            let [high, low] = length.to_be_bytes();
            vec![0x60, 0, 0, 0, high, low, TCP, HOPS]
        };
        packet.extend(source);
        packet.extend(destination);
        packet.extend(tcp);
        packet
    }

    /// RFC 9293 section 3.1.
    fn tcp(&self) -> Vec<u8> {
        let options: &[u8] = if self.timestamp { &TIMESTAMP } else { &[] };
        let words = if self.timestamp { 8 } else { 5 };
        let mut header =
            [self.flow.client_port().to_be_bytes(), self.flow.server_port().to_be_bytes()].concat();
        header.extend(self.sequence.to_be_bytes());
        header.extend(self.acknowledgement.to_be_bytes());
        header.extend([words << 4, self.flags, 0, 0]);
        let behind = [&[0, 0][..], options].concat();
        let checksum = self.checksum(&[&header[..], &[0, 0], &behind].concat());
        [header, checksum.to_be_bytes().to_vec(), behind].concat()
    }

    fn checksum(&self, segment: &[u8]) -> u16 {
        let (source, destination) = (octets(self.source()), octets(self.destination()));
        let length = u16::try_from(segment.len()).unwrap_or(u16::MAX).to_be_bytes();
        let pseudo = [&source[..], &destination, &[0, TCP], &length, segment].concat();
        let (pairs, _) = pseudo.as_chunks::<2>();
        let sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
        let once = (sum & 0xffff) + (sum >> 16);
        !u16::try_from((once & 0xffff) + (once >> 16)).unwrap_or(u16::MAX)
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Sends segments whose source is an address of somebody else.
#[derive(Debug)]
pub struct Sender {
    v4: Socket,
    /// Absent where the kernel has no IPv6.
    v6: Option<Socket>,
}

impl Sender {
    /// Makes the sockets.
    ///
    /// # Errors
    ///
    /// This process lacks `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        let raw = |domain| {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        Ok(Self { v4: raw(Domain::IPV4)?, v6: raw(Domain::IPV6).ok() })
    }

    /// From now on packets carry `mark`, by which the kernel program knows them as the gateway's.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn mark(&self, mark: u32) -> io::Result<()> {
        std::iter::once(&self.v4).chain(&self.v6).try_for_each(|socket| socket.set_mark(mark))
    }

    /// Sends one segment. Like any packet it may be lost on the way.
    ///
    /// # Errors
    ///
    /// There is no way to its receiver, or a firewall of this machine is in it.
    pub fn send(&self, segment: &Segment) -> io::Result<()> {
        let destination = segment.destination();
        let socket = if destination.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() };
        let socket = socket.ok_or(io::ErrorKind::Unsupported)?;
        // A raw socket has no ports; IPv6 takes another protocol's number for one.
        socket.send_to(&segment.packet(), &SocketAddr::new(destination, 0).into())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gateway_common::flow::mapped;

    use super::*;

    fn sum(octets: &[u8]) -> u32 {
        let (pairs, _) = octets.as_chunks::<2>();
        let sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
        let once = (sum & 0xffff) + (sum >> 16);
        (once & 0xffff) + (once >> 16)
    }

    #[test]
    fn an_ipv4_reset_has_the_numbers_and_the_checksum_of_its_connection() {
        let server = (mapped([198, 51, 100, 2]), 25u16.to_be_bytes());
        let client = (mapped([192, 0, 2, 2]), 40_000u16.to_be_bytes());
        let packet = Segment::reset(FlowKey::new(server, client), 0x0102_0304, 0x0506_0708).packet();
        assert_eq!(packet.len(), 40);
        assert_eq!(packet[..4], [0x45, 0, 0, 40]);
        assert_eq!(packet[12..20], [198, 51, 100, 2, 192, 0, 2, 2]);
        assert_eq!(packet[20..34], [0, 25, 0x9c, 0x40, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x14]);
        let pseudo = [&packet[12..20], &[0, 6, 0, 20], &packet[20..]].concat();
        assert_eq!(sum(&pseudo), 0xffff);
    }

    #[test]
    fn an_ipv6_probe_of_a_connection_with_timestamps_has_an_old_one() {
        let flow = FlowKey::new(([0x20; 16], [0, 25]), ([0x30; 16], [1, 0]));
        let packet = Segment::probe(flow, 7, true).packet();
        assert_eq!(packet.len(), 40 + 32);
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 32, 6, 64]);
        assert_eq!(packet[52..54], [0x80, 0x10]);
        assert_eq!(packet[60..64], [1, 1, 8, 10]);
        let pseudo = [&packet[8..40], &[0, 6, 0, 32], &packet[40..]].concat();
        assert_eq!(sum(&pseudo), 0xffff);
    }
}
