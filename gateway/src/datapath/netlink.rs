//! Questions to netlink(7) that are asked and answered on the spot.
//!
//! What is asked here is asked while the program is attached or detached and while sessions are handed
//! off, which is not done by futures: the kernel answers without waiting for anything.

use std::fmt::Debug;
use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkLayerType, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// The number of the interface with this name, and what its packets begin with.
pub(super) fn link(name: &str) -> io::Result<(u32, LinkLayerType)> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    for answer in ask(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(message), NLM_F_ACK)? {
        if let RouteNetlinkMessage::NewLink(link) = answer {
            return Ok((link.header.index, link.header.link_layer_type));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Sends one request of this protocol (`NETLINK_ROUTE`, `NETLINK_XFRM`) and reads its answers.
pub(super) fn ask<M>(protocol: isize, message: M, flags: u16) -> io::Result<Vec<M>>
where
    M: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<M>> + Debug,
{
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = 1;
    let mut request = NetlinkMessage::new(header, message.into());
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Ok(frame) = NetlinkBuffer::new_checked(rest) {
            let length = usize::try_from(frame.length()).map_err(io::Error::other)?;
            let (frame, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            // Frames are aligned to four bytes (netlink(7), NLMSG_ALIGN).
            rest = behind.get(length.next_multiple_of(4) - length..).unwrap_or(&[]);
            let payload = NetlinkMessage::<M>::deserialize(frame)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
                .payload;
            #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else carries an answer")]
            match payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
        }
    }
}
