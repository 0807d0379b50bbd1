//! Attaching by a filter in a clsact qdisc, which outlives the process: its name and handle say whose
//! it is.

use std::io;

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use gateway_common::name;
use tracing::info;

use super::attach_by;
use crate::datapath::object::Error;
use crate::datapath::qdisc::{self, Filter};

/// Major part of our filters' handles.
const HANDLE: u16 = 0x2525;
/// Minor part where the qdisc was there before us.
const FOUND_QDISC: u16 = 1;
/// Minor part where we made the qdisc.
const MADE_QDISC: u16 = 2;

/// Attaches by a filter in the clsact qdisc, in the place of a predecessor's if there is one.
pub(super) fn attach(
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

/// Whether the qdisc is there because a predecessor made it.
pub(super) fn made_by_predecessor(index: u32) -> io::Result<bool> {
    let filters = qdisc::all_filters(index)?;
    Ok(filters.iter().any(|filter| is_ours(filter) && filter.handle & 0xffff == u32::from(MADE_QDISC)))
}

/// The numbers of the interfaces that have a predecessor's filter.
///
/// # Errors
///
/// The kernel's tables cannot be read.
pub(super) fn left() -> io::Result<Vec<u32>> {
    let mut left = Vec::new();
    for interface in nix::net::if_::if_nameindex()?.iter() {
        if qdisc::all_filters(interface.index())?.iter().any(is_ours) {
            left.push(interface.index());
        }
    }
    Ok(left)
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
pub(super) fn sweep_except(kept: &[u32]) -> Result<usize, Error> {
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
