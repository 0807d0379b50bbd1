//! Limits on what a process may take of the machine (setrlimit(2), nice(2)).

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::DumpableBehavior;

use super::{Error, step};
use crate::config::file::Process;
use crate::config::units::ByteCount;

/// Gives this process, and what it starts, the scheduling priority that `process` names.
///
/// # Errors
///
/// A priority above the one it has needs `CAP_SYS_NICE`.
pub fn set_priority(process: &Process) -> Result<(), Error> {
    if process.priority == 0 {
        return Ok(());
    }
    step("set `process.priority`", rustix::process::setpriority_process(None, process.priority.into()))
}

/// Sets the limits of `process` on this process. Called after [`super::give_up`], which forbids
/// core files.
///
/// # Errors
///
/// A limit above the one the process was started with.
pub fn limit(process: &Process) -> Result<(), Error> {
    let core = process.core_size.bytes();
    step("set `process.core-size`", setrlimit(Resource::RLIMIT_CORE, core, core).map_err(io::Error::from))?;
    if core != 0 {
        step("allow core files", rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable))?;
    }
    lower("set `process.file-size`", Resource::RLIMIT_FSIZE, process.file_size)?;
    lower("set `process.address-space`", Resource::RLIMIT_AS, process.address_space)
}

fn lower(name: &'static str, resource: Resource, size: ByteCount) -> Result<(), Error> {
    if size.bytes() == 0 {
        return Ok(());
    }
    let (_, hard) = step(name, getrlimit(resource).map_err(io::Error::from))?;
    step(name, setrlimit(resource, size.bytes(), hard).map_err(io::Error::from))
}
