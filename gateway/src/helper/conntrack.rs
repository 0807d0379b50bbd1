//! What the kernel's connection tracking knows of a flow (`nfnetlink_conntrack.h`).

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};

use crate::lookup::Question;

// `nfnetlink.h`, `nfnetlink_conntrack.h`: the subsystem in the upper octet, the message in the lower.
const CT_NEW: u16 = 0x0100;
const CT_GET: u16 = 0x0101;
const NETFILTER_VERSION: u8 = 0;
// `netlink.h`.
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
/// Length, type, flags, sequence number, port.
const HEAD: usize = 16;
/// Family, version, resource.
const SUBHEAD: usize = 4;
// Attributes.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const V4_SRC: u16 = 1;
const V4_DST: u16 = 2;
const V6_SRC: u16 = 3;
const V6_DST: u16 = 4;
const PROTO_NUM: u16 = 1;
const SRC_PORT: u16 = 2;
const DST_PORT: u16 = 3;
const TCP: u8 = 6;

/// A flow as its client opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Who opened it.
    pub(super) client: SocketAddr,
    /// Where to.
    pub(super) destination: SocketAddr,
}

/// A socket to the kernel's table; to ask takes `CAP_NET_ADMIN`.
#[derive(Debug)]
pub(super) struct Conntrack {
    socket: Socket,
    sequence: u32,
}

impl Conntrack {
    /// Opens it.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The flow whose packets towards the gateway bear the addresses of `question`.
    ///
    /// The kernel answers on the spot.
    pub(super) fn find(&mut self, question: Question) -> io::Result<Option<Opened>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request(question, self.sequence), 0)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if let Some(answer) = read(&datagram, self.sequence) {
                return answer;
            }
        }
    }
}

/// What asks for the flow by its second tuple: that of the packets from gateway to client.
fn request(question: Question, sequence: u32) -> Vec<u8> {
    let (from, to) = (question.gateway, question.client);
    let (family, addresses) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (
            nix::libc::AF_INET,
            [attribute(V4_SRC, &from.octets()), attribute(V4_DST, &to.octets())].concat(),
        ),
        (from, to) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            (nix::libc::AF_INET6, [attribute(V6_SRC, &octets(from)), attribute(V6_DST, &octets(to))].concat())
        }
    };
    let ports = [
        attribute(PROTO_NUM, &[TCP]),
        attribute(SRC_PORT, &from.port().to_be_bytes()),
        attribute(DST_PORT, &to.port().to_be_bytes()),
    ]
    .concat();
    let tuple = [attribute(TUPLE_IP | NESTED, &addresses), attribute(TUPLE_PROTO | NESTED, &ports)].concat();
    let tuple = attribute(TUPLE_REPLY | NESTED, &tuple);
    let length = HEAD.saturating_add(SUBHEAD).saturating_add(tuple.len());
    let mut octets = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    octets.extend_from_slice(&CT_GET.to_ne_bytes());
    octets.extend_from_slice(&REQUEST.to_ne_bytes());
    octets.extend_from_slice(&sequence.to_ne_bytes());
    octets.extend_from_slice(&[0; 4]);
    octets.extend_from_slice(&[u8::try_from(family).unwrap_or(0), NETFILTER_VERSION, 0, 0]);
    octets.extend_from_slice(&tuple);
    octets
}

/// An attribute with its length in front, filled up to four octets (`netlink.h`, `NLA_ALIGNTO`).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
    let mut octets = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    octets.extend_from_slice(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// What a datagram of the kernel says of the question with that number; `None`: nothing.
fn read(datagram: &[u8], sequence: u32) -> Option<io::Result<Option<Opened>>> {
    let (head, rest) = datagram.split_first_chunk::<HEAD>()?;
    let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *head;
    if u32::from_ne_bytes([s0, s1, s2, s3]) != sequence {
        return None;
    }
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
    let body = rest.get(..length.checked_sub(HEAD)?)?;
    match u16::from_ne_bytes([k0, k1]) {
        ERROR => {
            let code = i32::from_ne_bytes(*body.first_chunk()?);
            let error = io::Error::from_raw_os_error(code.saturating_neg());
            Some(if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) })
        }
        CT_NEW => Some(Ok(original(body.get(SUBHEAD..)?))),
        _ => None,
    }
}

/// The first tuple: that of the packets from the client.
fn original(attributes: &[u8]) -> Option<Opened> {
    let tuple = find(attributes, TUPLE_ORIG)?;
    let (addresses, ports) = (find(tuple, TUPLE_IP)?, find(tuple, TUPLE_PROTO)?);
    let address = |v4, v6| -> Option<IpAddr> {
        match find(addresses, v4) {
            Some(octets) => Some(IpAddr::from(*octets.as_array::<4>()?)),
            None => Some(IpAddr::from(*find(addresses, v6)?.as_array::<16>()?)),
        }
    };
    let port = |kind| Some(u16::from_be_bytes(*find(ports, kind)?.as_array()?));
    Some(Opened {
        client: SocketAddr::new(address(V4_SRC, V6_SRC)?, port(SRC_PORT)?),
        destination: SocketAddr::new(address(V4_DST, V6_DST)?, port(DST_PORT)?),
    })
}

/// The value of the first attribute of that kind.
fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let (head, rest) = attributes.split_first_chunk::<4>()?;
        let [l0, l1, k0, k1] = *head;
        let length = usize::from(u16::from_ne_bytes([l0, l1])).checked_sub(4)?;
        let value = rest.get(..length)?;
        if u16::from_ne_bytes([k0, k1]) & TYPE_MASK == kind {
            return Some(value);
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(kind: u16, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        // A request names the tuple of the other direction.
        let octets = request(Question { client: to, gateway: from }, 1);
        let mut octets = octets[HEAD + SUBHEAD..].to_vec();
        octets[2..4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        octets
    }

    fn datagram(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut octets = u32::try_from(HEAD + body.len()).unwrap().to_ne_bytes().to_vec();
        octets.extend_from_slice(&kind.to_ne_bytes());
        octets.extend_from_slice(&[0; 2]);
        octets.extend_from_slice(&sequence.to_ne_bytes());
        octets.extend_from_slice(&[0; 4]);
        octets.extend_from_slice(body);
        octets
    }

    #[test]
    fn the_first_tuple_of_an_answer_is_the_flow() {
        for (client, server) in
            [("192.0.2.1:1025", "198.51.100.2:25"), ("[2001:db8::1]:1025", "[2001:db8::2]:25")]
        {
            let (client, server): (SocketAddr, SocketAddr) =
                (client.parse().unwrap(), server.parse().unwrap());
            let body = [vec![2, 0, 0, 0], attribute(9, b"later"), tuple(TUPLE_ORIG, client, server)].concat();
            let read = read(&datagram(CT_NEW, 7, &body), 7).unwrap().unwrap();
            assert_eq!(read, Some(Opened { client, destination: server }));
        }
    }

    #[test]
    fn no_entry_is_no_error() {
        let body = (-2_i32).to_ne_bytes();
        assert_eq!(read(&datagram(ERROR, 7, &body), 7).unwrap().unwrap(), None);
        let body = (-1_i32).to_ne_bytes();
        assert_eq!(read(&datagram(ERROR, 7, &body), 7).unwrap().unwrap_err().raw_os_error(), Some(1));
    }

    #[test]
    fn an_answer_to_another_question_is_passed_over() {
        assert!(read(&datagram(ERROR, 6, &[0; 4]), 7).is_none());
        assert!(read(&[0; 3], 7).is_none());
    }

    #[test]
    fn a_cut_answer_is_no_flow() {
        let body = tuple(TUPLE_ORIG, "192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        for length in 0..body.len() {
            assert_eq!(original(&body[..length]), None, "{length}");
        }
    }
}
