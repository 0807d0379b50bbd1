//! Where the program runs.
//!
//! TCX (Linux 6.6 and later) holds the program by a link that vanishes with this process. Below,
//! or when the operator says so, a filter in a clsact qdisc does: it outlives the process, so its
//! name and handle say whose it is, and whether the qdisc is ours too.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use aya::programs::links::LinkOrder;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use gateway_common::interface::Interface;
use gateway_common::name;
use netlink_packet_route::link::LinkLayerType;
use nix::libc;
use tracing::{debug, info, warn};

use super::maps::Maps;
use super::object::Error;
use super::{netlink, qdisc};
use crate::config::file::Attach;

/// Major part of our filters' handles.
const HANDLE: u16 = 0x2525;
/// Minor part where the qdisc was there before us.
const FOUND_QDISC: u16 = 1;
/// Minor part where we made the qdisc.
const MADE_QDISC: u16 = 2;

/// How often, and after what time, a link is tried again whose predecessor has not gone yet.
const RELINKS: u32 = 20;
const RELINK: Duration = Duration::from_millis(5);

/// What an interface is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Role {
    /// New flows are taken from it. Without this, only answers to open flows are.
    pub client: bool,
    /// If it is a port of a bridge: the bridge's hardware address. Steered frames are addressed
    /// to it, or the bridge would send them on to where the client meant them to go.
    pub bridge_mac: Option<[u8; 6]>,
}

/// How the program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// By a TCX link.
    Tcx,
    /// By a filter in a clsact qdisc.
    Clsact,
}

impl Hook {
    /// The name in status and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// An interface the program is attached to.
#[derive(Debug)]
pub struct Attached {
    name: String,
    index: u32,
    role: Role,
    made_qdisc: bool,
    hook: Hook,
    link: Option<SchedClassifierLink>,
    /// Of the program for packets that go out.
    egress: Option<SchedClassifierLink>,
}

impl Attached {
    /// The interface's name when it was attached.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// What it is for.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// How the program is attached.
    #[must_use]
    pub const fn hook(&self) -> Hook {
        self.hook
    }

    fn detach(&mut self) -> Result<(), Error> {
        let links = [self.link.take(), self.egress.take()];
        if links.iter().all(Option::is_none) {
            return Ok(());
        }
        for link in links.into_iter().flatten() {
            match aya::programs::links::Link::detach(link) {
                Err(error) if !is_gone(&error) => {
                    return Err(Error::Attach { interface: self.name.clone(), source: Box::new(error) });
                }
                _ => {}
            }
        }
        if self.made_qdisc {
            qdisc::remove_if_unused(self.index)
                .map_err(|source| Error::TrafficControl { interface: self.name.clone(), source })?;
        }
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            warn!(interface = self.name, %error, "cannot detach");
        }
    }
}

/// Whether the kernel refused because the interface, or the filter on it, is there no more.
fn is_gone(error: &ProgramError) -> bool {
    matches!(errno(error), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL))
}

fn errno(error: &ProgramError) -> Option<i32> {
    use aya::programs::tc::TcError;
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other failure has no errno of interest")]
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::NetlinkError(error) | ProgramError::TcError(TcError::NetlinkError(error)) => {
            error.raw_os_error()
        }
        _ => None,
    }
}

/// All interfaces the program is attached to.
#[derive(Debug)]
pub(super) struct Attachments {
    how: Attach,
    by_index: BTreeMap<u32, Attached>,
}

impl Attachments {
    pub(super) const fn new(how: Attach) -> Self {
        Self { how, by_index: BTreeMap::new() }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Attached> {
        self.by_index.values()
    }

    pub(super) fn attach(
        &mut self,
        program: &mut SchedClassifier,
        maps: &mut Maps,
        interface: &str,
        role: Role,
    ) -> Result<&Attached, Error> {
        let (index, shared) = describe(interface, role)?;
        maps.set_interface(index, shared)?;
        let attached = match self.by_index.remove(&index) {
            Some(mut attached) => {
                attached.role = role;
                interface.clone_into(&mut attached.name);
                attached
            }
            None => hook_up(self.how, program, interface, index, role)?,
        };
        Ok(self.by_index.entry(index).or_insert(attached))
    }

    /// Attaches the program for packets that go out to an interface that the other one is
    /// attached to.
    pub(super) fn attach_egress(&mut self, program: &mut SchedClassifier, index: u32) -> Result<(), Error> {
        let Some(attached) = self.by_index.get_mut(&index).filter(|attached| attached.egress.is_none())
        else {
            return Ok(());
        };
        let name = attached.name.as_str();
        let linked = match attached.hook {
            Hook::Tcx => link(program, name, TcAttachType::Egress),
            Hook::Clsact => filter(program, name, TcAttachType::Egress, attached.made_qdisc),
        };
        attached.egress = Some(linked.map_err(|error| refused(name, error))?);
        Ok(())
    }

    pub(super) fn detach(&mut self, maps: &mut Maps, index: u32) -> Result<(), Error> {
        let Some(mut attached) = self.by_index.remove(&index) else { return Ok(()) };
        attached.detach()?;
        maps.remove_interface(index)
    }
}

fn hook_up(
    how: Attach,
    program: &mut SchedClassifier,
    interface: &str,
    index: u32,
    role: Role,
) -> Result<Attached, Error> {
    let attached = |hook, made_qdisc, link| Attached {
        name: interface.to_owned(),
        index,
        role,
        made_qdisc,
        hook,
        link: Some(link),
        egress: None,
    };
    if how != Attach::Clsact {
        // First, because a program before us that says "accept" would hide flows from us.
        match link(program, interface, TcAttachType::Ingress) {
            Ok(link) => return Ok(attached(Hook::Tcx, false, link)),
            // What kernels before 6.6 say.
            Err(error) if how == Attach::Auto && errno(&error) == Some(libc::EINVAL) => {
                debug!(interface, %error, "no TCX, trying clsact");
            }
            Err(error) => return Err(refused(interface, error)),
        }
    }
    let made_qdisc = qdisc::create(interface)
        .map_err(|source| Error::TrafficControl { interface: interface.to_owned(), source })?;
    match filter(program, interface, TcAttachType::Ingress, made_qdisc) {
        Ok(link) => Ok(attached(Hook::Clsact, made_qdisc, link)),
        Err(error) => {
            if made_qdisc {
                qdisc::remove_if_unused(index)
                    .map_err(|source| Error::TrafficControl { interface: interface.to_owned(), source })?;
            }
            Err(refused(interface, error))
        }
    }
}

/// Attaches by a filter in the clsact qdisc.
fn filter(
    program: &mut SchedClassifier,
    interface: &str,
    way: TcAttachType,
    made_qdisc: bool,
) -> Result<SchedClassifierLink, ProgramError> {
    let minor = if made_qdisc { MADE_QDISC } else { FOUND_QDISC };
    let options = |priority| {
        TcAttachOptions::Netlink(NlOptions { priority, handle: TcHandle::new(HANDLE, minor), classid: None })
    };
    // Priority 1 may belong to a filter of another kind, which the kernel refuses to share: then
    // the kernel chooses.
    attach_by(program, interface, way, options(1)).or_else(|_| attach_by(program, interface, way, options(0)))
}

/// Attaches by a TCX link.
fn link(
    program: &mut SchedClassifier,
    interface: &str,
    way: TcAttachType,
) -> Result<SchedClassifierLink, ProgramError> {
    let mut tries = 0..RELINKS;
    loop {
        let linked = attach_by(program, interface, way, TcAttachOptions::TcxOrder(LinkOrder::first()));
        match linked {
            // A link goes with its last descriptor, and a process that is about to be started has
            // copies of all of them for a moment.
            Err(error) if errno(&error) == Some(libc::EEXIST) && tries.next().is_some() => {
                std::thread::sleep(RELINK);
            }
            linked => return linked,
        }
    }
}

fn attach_by(
    program: &mut SchedClassifier,
    interface: &str,
    way: TcAttachType,
    options: TcAttachOptions,
) -> Result<SchedClassifierLink, ProgramError> {
    let id = program.attach_with_options(interface, way, options)?;
    program.take_link(id)
}

fn refused(interface: &str, error: ProgramError) -> Error {
    Error::Attach { interface: interface.to_owned(), source: Box::new(error) }
}

/// The interface's number, and what the program must know of it.
fn describe(interface: &str, role: Role) -> Result<(u32, Interface), Error> {
    let failed = |source: io::Error| Error::Interface { interface: interface.to_owned(), source };
    let (index, kind) = netlink::link(interface).map_err(failed)?;
    #[expect(clippy::wildcard_enum_match_arm, reason = "two groups of kinds can be read, no others")]
    let ethernet = match kind {
        LinkLayerType::Ether | LinkLayerType::Loopback => true,
        // Kinds whose packets begin with the IP header: tun and wireguard, ppp, and tunnels.
        LinkLayerType::None
        | LinkLayerType::Ppp
        | LinkLayerType::Rawip
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit
        | LinkLayerType::Ipgre
        | LinkLayerType::Ip6gre => false,
        other => {
            let kind = format!("packets of kind {other:?} begin neither with Ethernet nor with IP");
            return Err(failed(io::Error::new(io::ErrorKind::Unsupported, kind)));
        }
    };
    let shared = Interface::new(ethernet);
    let shared = if role.client { shared.for_clients() } else { shared };
    Ok((index, role.bridge_mac.map_or(shared, |mac| shared.bridged(mac))))
}

/// Whether a filter's program may be one of the gateway's.
fn is_ours(program: &str) -> bool {
    program.is_empty() || [name::PROGRAM, name::EGRESS_PROGRAM].contains(&program)
}

/// Removes the filters that a predecessor left when it was killed, and the qdiscs it had made for
/// them. TCX links need none of this: they vanish with their process. Returns how many filters
/// there were.
///
/// # Errors
///
/// The kernel's tables cannot be read or changed.
pub fn sweep() -> Result<usize, Error> {
    let mut swept = 0;
    let interfaces = nix::net::if_::if_nameindex()
        .map_err(|errno| Error::TrafficControl { interface: "*".to_owned(), source: errno.into() })?;
    for interface in interfaces.iter() {
        let (label, index) = (interface.name().to_string_lossy(), interface.index());
        let failed = |source| Error::TrafficControl { interface: label.clone().into_owned(), source };
        for filter in qdisc::all_filters(index).map_err(failed)? {
            // Programs of a process without CAP_PERFMON have no name: the loader asks the kernel
            // whether it knows names with a program of a kind that takes this capability.
            let is_ours =
                filter.handle >> 16 == u32::from(HANDLE) && filter.program.as_deref().is_some_and(is_ours);
            if !is_ours {
                continue;
            }
            qdisc::remove_filter(index, &filter).map_err(failed)?;
            if filter.handle & 0xffff == u32::from(MADE_QDISC) {
                qdisc::remove_if_unused(index).map_err(failed)?;
            }
            info!(interface = %label, "removed a filter that a predecessor left");
            swept += 1;
        }
    }
    Ok(swept)
}
