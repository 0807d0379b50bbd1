//! Where the program runs.
//!
//! TCX (Linux 6.6 and later) holds the program by a link, which vanishes with this process unless
//! it is pinned. Below, or when the operator says so, a filter in a clsact qdisc does: it outlives
//! the process, so its name and handle say whose it is, and whether the qdisc is ours too. Either
//! is taken over from a predecessor by putting the new program into its place, without a moment in
//! which there is none.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use gateway_common::interface::Interface;
use gateway_common::name;
use netlink_packet_route::link::LinkLayerType;
use nix::libc;
use tracing::{debug, info, warn};

use super::maps::Maps;
use super::object::Error;
use super::pin::{Pins, Way};
use super::qdisc::Filter;
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
    /// The names of both links, where they have any.
    pins: Option<[PathBuf; 2]>,
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
        for pin in self.pins.take().into_iter().flatten() {
            match fs::remove_file(&pin) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Link { path: pin, source });
                }
                _ => {}
            }
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

    /// Lets the program stay where it is.
    fn leave(mut self) {
        for link in [self.link.take(), self.egress.take()].into_iter().flatten() {
            match self.hook {
                // Its name holds it.
                Hook::Tcx => drop(link),
                // Dropped, it would take its filter away.
                Hook::Clsact => std::mem::forget(link),
            }
        }
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
    pins: Option<Pins>,
    by_index: BTreeMap<u32, Attached>,
}

impl Attachments {
    pub(super) const fn new(how: Attach, pins: Option<Pins>) -> Self {
        Self { how, pins, by_index: BTreeMap::new() }
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
            None => self.hook_up(program, interface, index, role)?,
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
            Hook::Tcx => {
                let pin = self.pins.as_ref().map(|pins| pins.link(index, Way::Egress));
                link(program, name, TcAttachType::Egress, pin.as_deref())
            }
            Hook::Clsact => filter(program, name, index, TcAttachType::Egress, attached.made_qdisc)
                .map_err(|error| refused(name, error)),
        };
        attached.egress = Some(linked?);
        Ok(())
    }

    pub(super) fn detach(&mut self, maps: &mut Maps, index: u32) -> Result<(), Error> {
        let Some(mut attached) = self.by_index.remove(&index) else { return Ok(()) };
        attached.detach()?;
        maps.remove_interface(index)
    }

    /// Detaches what a predecessor has left elsewhere.
    pub(super) fn take_over(&self) -> Result<usize, Error> {
        let by = |hook| {
            let attached = self.by_index.values().filter(move |attached| attached.hook == hook);
            attached.map(Attached::index).collect::<Vec<_>>()
        };
        let links = self.pins.as_ref().map_or(Ok(0), |pins| pins.remove_links_except(&by(Hook::Tcx)))?;
        Ok(links + sweep_except(&by(Hook::Clsact))?)
    }

    pub(super) fn leave(self) {
        self.by_index.into_values().for_each(Attached::leave);
    }

    fn hook_up(
        &self,
        program: &mut SchedClassifier,
        interface: &str,
        index: u32,
        role: Role,
    ) -> Result<Attached, Error> {
        let attached = |hook, made_qdisc, link, pins| Attached {
            name: interface.to_owned(),
            index,
            role,
            made_qdisc,
            hook,
            link: Some(link),
            egress: None,
            pins,
        };
        if self.how != Attach::Clsact {
            let pins = self.pins.as_ref();
            let pins = pins.map(|pins| [Way::Ingress, Way::Egress].map(|way| pins.link(index, way)));
            let pin = pins.as_ref().map(|[ingress, _]| ingress.as_path());
            // First, because a program before us that says "accept" would hide flows from us.
            match link(program, interface, TcAttachType::Ingress, pin) {
                Ok(link) => return Ok(attached(Hook::Tcx, false, link, pins)),
                // What kernels before 6.6 say.
                Err(Error::Attach { source, .. })
                    if self.how == Attach::Auto && errno(&source) == Some(libc::EINVAL) =>
                {
                    debug!(interface, error = %source, "no TCX, trying clsact");
                }
                Err(error) => return Err(error),
            }
        }
        let failed = |source| Error::TrafficControl { interface: interface.to_owned(), source };
        let made_qdisc =
            qdisc::create(interface).map_err(failed)? || made_by_predecessor(index).map_err(failed)?;
        match filter(program, interface, index, TcAttachType::Ingress, made_qdisc) {
            Ok(link) => Ok(attached(Hook::Clsact, made_qdisc, link, None)),
            Err(error) => {
                if made_qdisc {
                    qdisc::remove_if_unused(index).map_err(failed)?;
                }
                Err(refused(interface, error))
            }
        }
    }
}

/// Whether the qdisc is there because a predecessor made it.
fn made_by_predecessor(index: u32) -> io::Result<bool> {
    let filters = qdisc::all_filters(index)?;
    Ok(filters.iter().any(|filter| is_ours(filter) && filter.handle & 0xffff == u32::from(MADE_QDISC)))
}

/// Attaches by a filter in the clsact qdisc, in the place of a predecessor's if there is one.
fn filter(
    program: &mut SchedClassifier,
    interface: &str,
    index: u32,
    way: TcAttachType,
    made_qdisc: bool,
) -> Result<SchedClassifierLink, ProgramError> {
    let minor = if made_qdisc { MADE_QDISC } else { FOUND_QDISC };
    let handle = || TcHandle::new(HANDLE, minor);
    let left = qdisc::all_filters(index).unwrap_or_default();
    let left = left.iter().find(|filter| {
        is_ours(filter)
            && filter.is_egress() == (way == TcAttachType::Egress)
            && filter.handle & 0xffff == u32::from(minor)
    });
    if let Some(left) = left {
        let left = SchedClassifierLink::attached(interface, way, left.priority(), handle(), None);
        let id = program.attach_to_link(left.map_err(TcError::IoError)?)?;
        return program.take_link(id);
    }
    let options =
        |priority| TcAttachOptions::Netlink(NlOptions { priority, handle: handle(), classid: None });
    // Priority 1 may belong to a filter of another kind, which the kernel refuses to share: then
    // the kernel chooses.
    attach_by(program, interface, way, options(1)).or_else(|_| attach_by(program, interface, way, options(0)))
}

/// Attaches by a TCX link, in the place of a predecessor's if `pin` names one.
fn link(
    program: &mut SchedClassifier,
    interface: &str,
    way: TcAttachType,
    pin: Option<&Path>,
) -> Result<SchedClassifierLink, Error> {
    if let Some(link) = pin.and_then(|pin| replace(program, pin)) {
        return Ok(link);
    }
    let mut tries = 0..RELINKS;
    let linked = loop {
        let linked = attach_by(program, interface, way, TcAttachOptions::TcxOrder(LinkOrder::first()));
        match linked {
            // A link goes with its last descriptor, and a process that is about to be started has
            // copies of all of them for a moment.
            Err(error) if errno(&error) == Some(libc::EEXIST) && tries.next().is_some() => {
                std::thread::sleep(RELINK);
            }
            linked => break linked.map_err(|error| refused(interface, error))?,
        }
    };
    let Some(pin) = pin else { return Ok(linked) };
    name_link(linked, pin).map_err(|source| Error::Link { path: pin.to_owned(), source })
}

/// Puts the program into the place of the one whose link has this name. A link that holds no
/// interface any more loses its name.
fn replace(program: &mut SchedClassifier, pin: &Path) -> Option<SchedClassifierLink> {
    let left = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    let replaced = SchedClassifierLink::try_from(left)
        .map_err(io::Error::other)
        .and_then(|left| program.attach_to_link(left).map_err(io::Error::other))
        .and_then(|id| program.take_link(id).map_err(io::Error::other));
    match replaced {
        Ok(link) => Some(link),
        Err(error) => {
            debug!(pin = %pin.display(), %error, "a link that cannot be taken over");
            // Should that fail, the new link says so: it cannot have this name.
            fs::remove_file(pin).ok();
            None
        }
    }
}

fn name_link(link: SchedClassifierLink, pin: &Path) -> io::Result<SchedClassifierLink> {
    let link = FdLink::try_from(link).map_err(io::Error::other)?;
    let link = link.pin(pin).map_err(io::Error::other)?;
    SchedClassifierLink::try_from(FdLink::from(link)).map_err(io::Error::other)
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

/// Whether a filter is one of the gateway's.
fn is_ours(filter: &Filter) -> bool {
    // Programs of a process without CAP_PERFMON have no name: the loader asks the kernel whether
    // it knows names with a program of a kind that takes this capability.
    let named =
        |program: &str| program.is_empty() || [name::PROGRAM, name::EGRESS_PROGRAM].contains(&program);
    filter.handle >> 16 == u32::from(HANDLE) && filter.program.as_deref().is_some_and(named)
}

/// Removes the filters that a predecessor left, and the qdiscs it had made for them.
///
/// TCX links need none of this: they vanish with their process, or with their names. Returns how
/// many filters there were.
///
/// # Errors
///
/// The kernel's tables cannot be read or changed.
pub fn sweep() -> Result<usize, Error> {
    sweep_except(&[])
}

/// The same, but those of the interfaces with these numbers stay.
fn sweep_except(kept: &[u32]) -> Result<usize, Error> {
    let mut swept = 0;
    let interfaces = nix::net::if_::if_nameindex()
        .map_err(|errno| Error::TrafficControl { interface: "*".to_owned(), source: errno.into() })?;
    for interface in interfaces.iter() {
        let (label, index) = (interface.name().to_string_lossy(), interface.index());
        let failed = |source| Error::TrafficControl { interface: label.clone().into_owned(), source };
        if kept.contains(&index) {
            continue;
        }
        for filter in qdisc::all_filters(index).map_err(failed)?.into_iter().filter(is_ours) {
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
