//! The kernel's table of clsact qdiscs and their filters, over rtnetlink(7).
//!
//! Only what attaching below Linux 6.6 needs: who else uses a qdisc, and taking away what is ours.

use std::io;

use aya::programs::tc::{TcError, qdisc_add_clsact};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::libc;

/// Where a clsact qdisc keeps filters of packets that come in.
const INGRESS: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };
/// Where it keeps filters of packets that go out.
const EGRESS: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_EGRESS };
/// The qdisc itself.
const CLSACT: TcHandle = TcHandle { major: u16::MAX, minor: 0 };

/// A filter in a clsact qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// The name it was given; empty for other kinds than BPF.
    pub name: String,
    /// Its handle, unique within its priority.
    pub handle: u32,
    /// Priority and protocol, as the kernel packs them.
    info: u32,
}

/// Makes a clsact qdisc; `false`: there is one already.
pub(super) fn create(interface: &str) -> io::Result<bool> {
    match qdisc_add_clsact(interface) {
        Ok(()) => Ok(true),
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(TcError::IoError(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Removes the clsact qdisc unless somebody has a filter in it, or the interface is gone.
pub(super) fn remove_if_unused(index: u32) -> io::Result<()> {
    let used = |hook| gone_is_empty(filters(index, hook)).map(|filters| !filters.is_empty());
    if used(INGRESS)? || used(EGRESS)? {
        return Ok(());
    }
    let mut message = TcMessage::default();
    message.header = header(index, TcHandle::INGRESS)?;
    message.header.handle = CLSACT;
    gone_is_empty(ask(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK)).map(drop)
}

/// The filters of packets that come in on this interface.
pub(super) fn ingress_filters(index: u32) -> io::Result<Vec<Filter>> {
    gone_is_empty(filters(index, INGRESS))
}

/// Removes one filter of packets that come in.
pub(super) fn remove_filter(index: u32, filter: &Filter) -> io::Result<()> {
    let mut message = TcMessage::default();
    message.header = header(index, INGRESS)?;
    message.header.handle = filter.handle.into();
    message.header.info = filter.info;
    gone_is_empty(ask(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK)).map(drop)
}

fn header(index: u32, parent: TcHandle) -> io::Result<TcHeader> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    Ok(TcHeader { index, parent, ..TcHeader::default() })
}

fn filters(index: u32, hook: TcHandle) -> io::Result<Vec<Filter>> {
    let mut message = TcMessage::default();
    message.header = header(index, hook)?;
    let answers = ask(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)?;
    // Each priority comes once without a handle, as the head of its filters.
    Ok(answers.into_iter().map(Filter::from).filter(|filter| filter.handle != 0).collect())
}

impl From<TcMessage> for Filter {
    fn from(message: TcMessage) -> Self {
        let options = message.attributes.iter().filter_map(|attribute| {
            if let TcAttribute::Options(options) = attribute { Some(options) } else { None }
        });
        let named = options.flatten().find_map(|option| {
            if let TcOption::Bpf(TcFilterBpfOption::ProgName(name)) = option {
                Some(name.clone())
            } else {
                None
            }
        });
        Self {
            name: named.unwrap_or_default(),
            handle: message.header.handle.into(),
            info: message.header.info,
        }
    }
}

/// An interface, qdisc or filter that is not there has nothing in it.
fn gone_is_empty<T: Default>(answer: io::Result<T>) -> io::Result<T> {
    match answer {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)) => {
            Ok(T::default())
        }
        other => other,
    }
}

/// Sends one request and reads its answers.
fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<TcMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = 1;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
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
            let payload = NetlinkMessage::<RouteNetlinkMessage>::deserialize(frame)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
                .payload;
            #[expect(clippy::wildcard_enum_match_arm, reason = "the request decides which answers come")]
            match payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewTrafficFilter(answer)) => {
                    answers.push(answer);
                }
                _ => {}
            }
        }
    }
}
