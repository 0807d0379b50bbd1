//! The kernel's table of clsact qdiscs and their filters, over rtnetlink(7).
//!
//! Only what attaching below Linux 6.6 needs: who else uses a qdisc, and taking away what is ours.

use std::io;

use aya::programs::tc::{TcError, qdisc_add_clsact};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::libc;

use super::netlink::ask;

/// Where a clsact qdisc keeps filters of packets that come in.
const INGRESS: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };
/// Where it keeps filters of packets that go out.
const EGRESS: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_EGRESS };
/// The qdisc itself.
const CLSACT: TcHandle = TcHandle { major: u16::MAX, minor: 0 };

/// A filter in a clsact qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// The name of its BPF program, which may be empty; absent if it is of another kind.
    pub program: Option<String>,
    /// Its handle, unique within its priority.
    pub handle: u32,
    /// Priority and protocol, as the kernel packs them.
    info: u32,
    /// Which packets it is for: those that come in, or go out.
    parent: TcHandle,
}

impl Filter {
    /// Its priority among the filters of the qdisc.
    pub(super) const fn priority(&self) -> u16 {
        let [high, low, ..] = self.info.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// Whether it is for packets that go out.
    pub(super) fn is_egress(&self) -> bool {
        self.parent == EGRESS
    }
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
    gone_is_empty(ask(NETLINK_ROUTE, RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK)).map(drop)
}

/// The filters of packets that come in on this interface, and of those that go out.
pub(super) fn all_filters(index: u32) -> io::Result<Vec<Filter>> {
    let mut all = gone_is_empty(filters(index, INGRESS))?;
    all.extend(gone_is_empty(filters(index, EGRESS))?);
    Ok(all)
}

/// Removes one filter.
pub(super) fn remove_filter(index: u32, filter: &Filter) -> io::Result<()> {
    let mut message = TcMessage::default();
    message.header = header(index, filter.parent)?;
    message.header.handle = filter.handle.into();
    message.header.info = filter.info;
    gone_is_empty(ask(NETLINK_ROUTE, RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK)).map(drop)
}

fn header(index: u32, parent: TcHandle) -> io::Result<TcHeader> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    Ok(TcHeader { index, parent, ..TcHeader::default() })
}

fn filters(index: u32, hook: TcHandle) -> io::Result<Vec<Filter>> {
    let mut message = TcMessage::default();
    message.header = header(index, hook)?;
    let answers = ask(NETLINK_ROUTE, RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)?;
    // Each priority comes once without a handle, as the head of its filters.
    let filters = answers.into_iter().filter_map(|answer| {
        if let RouteNetlinkMessage::NewTrafficFilter(message) = answer { Some(message.into()) } else { None }
    });
    Ok(filters.filter(|filter: &Filter| filter.handle != 0).collect())
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
            program: named,
            handle: message.header.handle.into(),
            info: message.header.info,
            parent: message.header.parent,
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
