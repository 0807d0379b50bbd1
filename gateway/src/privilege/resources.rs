//! Limits on what a process may take of the machine (setrlimit(2), nice(2), sched(7)).

use std::fs;
use std::io;
use std::os::fd::RawFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::DumpableBehavior;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
};

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

/// Lets this thread, and those that it starts, finish what they are at (`SCHED_BATCH`, sched(7)).
///
/// One that wakes waits for a processor until the one that runs there sleeps or has had its turn. Otherwise sessions
/// interrupt each other at every segment, and where short messages fill all processors a sixth of them goes by in that.
/// Nobody is given less time for it, and where a processor has nothing to do, who wakes runs at once.
///
/// Who starts the gateway under another policy than the usual one keeps that.
///
/// # Errors
///
/// When the system refuses; all goes on as before.
pub fn batch() -> Result<(), Error> {
    let name = "set the scheduling policy to SCHED_BATCH";
    let usual = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    if step(name, thread_schedule_policy().map_err(of_scheduler))? != usual {
        return Ok(());
    }
    // The library sets the niceness, too: to what it is.
    let niceness = step(name, rustix::process::getpriority_process(None))?;
    let set = as_counted(niceness).map_or_else(
        || Err(io::Error::other(format!("unknown niceness {niceness}"))),
        |same| set_thread_priority_and_policy(thread_native_id(), same, BATCH).map_err(of_scheduler),
    );
    step(name, set)
}

const BATCH: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);

/// A niceness as the library counts it.
fn as_counted(niceness: i32) -> Option<ThreadPriority> {
    let all = (u8::MIN..=u8::MAX).map_while(|value| ThreadPriorityValue::try_from(value).ok());
    all.map(ThreadPriority::Crossplatform).find(|priority| priority.to_posix(BATCH) == Ok(niceness))
}

fn of_scheduler(error: thread_priority::Error) -> io::Error {
    if let thread_priority::Error::OS(number) = error {
        return io::Error::from_raw_os_error(number);
    }
    io::Error::other(format!("{error:?}"))
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_started_later_run_in_turn_as_nice_as_they_were() {
        // On a thread of its own, because what it does to itself is not to be taken back.
        let of_thread = || (thread_schedule_policy(), rustix::process::getpriority_process(None));
        let found = thread::spawn(move || {
            rustix::process::setpriority_process(None, 7).unwrap();
            batch().unwrap();
            [of_thread(), thread::spawn(of_thread).join().unwrap()]
        });
        assert_eq!(found.join().unwrap(), [(Ok(BATCH), Ok(7)), (Ok(BATCH), Ok(7))]);
        assert_ne!(thread_schedule_policy(), Ok(BATCH), "other threads go on as they were");
    }

    #[test]
    fn a_policy_that_was_chosen_is_kept() {
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let found = thread::spawn(move || {
            let same = as_counted(0).unwrap();
            set_thread_priority_and_policy(thread_native_id(), same, idle).unwrap();
            batch().unwrap();
            thread_schedule_policy()
        });
        assert_eq!(found.join().unwrap(), Ok(idle));
    }

    #[test]
    fn the_library_knows_each_niceness() {
        assert!((-20..=19).all(|niceness| as_counted(niceness).is_some()));
        assert_eq!([as_counted(-21), as_counted(20)], [None, None]);
    }
}
