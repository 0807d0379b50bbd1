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
use std::path::PathBuf;

use aya::programs::tc::{SchedClassifierLink, TcAttachOptions, TcError};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use gateway_common::interface::Interface;
use netlink_packet_route::link::LinkLayerType;
use nix::libc;
use tracing::{debug, warn};

use super::maps::Maps;
use super::object::Error;
use super::pin::{Pins, Way};
use super::{netlink, qdisc};
use crate::config::file::Attach;

mod filter;
mod link;

pub use filter::sweep;

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
                link::attach(program, name, TcAttachType::Egress, pin.as_deref())
            }
            Hook::Clsact => filter::attach(program, name, index, TcAttachType::Egress, attached.made_qdisc)
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

    /// The numbers of the interfaces that a predecessor was attached to, and that may be gone.
    pub(super) fn left(&self) -> Result<Vec<u32>, Error> {
        let linked = self.pins.as_ref().map_or_else(|| Ok(Vec::new()), Pins::linked)?;
        let failed = |source| Error::TrafficControl { interface: "*".to_owned(), source };
        Ok([linked, filter::left().map_err(failed)?].concat())
    }

    /// Detaches what a predecessor has left elsewhere.
    pub(super) fn take_over(&self) -> Result<usize, Error> {
        let by = |hook| {
            let attached = self.by_index.values().filter(move |attached| attached.hook == hook);
            attached.map(Attached::index).collect::<Vec<_>>()
        };
        let links = self.pins.as_ref().map_or(Ok(0), |pins| pins.remove_links_except(&by(Hook::Tcx)))?;
        Ok(links + filter::sweep_except(&by(Hook::Clsact))?)
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
            match link::attach(program, interface, TcAttachType::Ingress, pin) {
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
        let made_qdisc = qdisc::create(interface).map_err(failed)?
            || filter::made_by_predecessor(index).map_err(failed)?;
        match filter::attach(program, interface, index, TcAttachType::Ingress, made_qdisc) {
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
