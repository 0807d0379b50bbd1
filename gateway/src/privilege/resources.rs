//! Limits on what a process may take of the machine (setrlimit(2), nice(2)).

use std::fs;
use std::io;
use std::os::fd::RawFd;

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

/// Descriptors that a script may have open, and that it may raise this to: what is usual for programs.
const SCRIPT_DESCRIPTORS: (u64, u64) = (1_024, 4_096);

/// Takes back from a process whose children are scripts what the gateway has raised for itself: some
/// programs look at each descriptor that they may have.
///
/// # Errors
///
/// When the system refuses.
pub fn limit_scripts() -> Result<(), Error> {
    let name = "limit the descriptors of scripts";
    let (_, hard) = step(name, getrlimit(Resource::RLIMIT_NOFILE).map_err(io::Error::from))?;
    let (soft, most) = (SCRIPT_DESCRIPTORS.0.min(hard), SCRIPT_DESCRIPTORS.1.min(hard));
    step(name, setrlimit(Resource::RLIMIT_NOFILE, soft, most).map_err(io::Error::from))
}

/// Closes all descriptors but the three standard ones. Called before this process has any of its own.
///
/// # Errors
///
/// When the system does not say which there are.
pub fn close_inherited() -> Result<(), Error> {
    let name = "list the descriptors in /proc/self/fd";
    let listed = step(name, fs::read_dir("/proc/self/fd"))?;
    let numbers: Vec<RawFd> =
        listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        match nix::unistd::close(number) {
            // The descriptor of the list itself is gone with it.
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return step("close a descriptor", Err(io::Error::from(error))),
        }
    }
    Ok(())
}

fn lower(name: &'static str, resource: Resource, size: ByteCount) -> Result<(), Error> {
    if size.bytes() == 0 {
        return Ok(());
    }
    let (_, hard) = step(name, getrlimit(resource).map_err(io::Error::from))?;
    step(name, setrlimit(resource, size.bytes(), hard).map_err(io::Error::from))
}
