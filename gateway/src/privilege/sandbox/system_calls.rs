//! seccomp (`seccomp(2)`): the system calls of a process that serves sessions.
//!
//! What is not listed fails with EPERM. The kernel keeps a table of those that are allowed whatever
//! their arguments (since Linux 5.11), so that a listed call costs next to nothing.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::Error;

/// Calls that are allowed with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Descriptors.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_lseek,
    libc::SYS_pipe2,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    // Sockets. Not `listen`: listeners are handed over.
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    // Files; which ones is for Landlock to say.
    libc::SYS_openat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_flock,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_memfd_create,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_brk,
    libc::SYS_mlock,
    libc::SYS_munlock,
    // Threads of this process.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // What it is and where.
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    // The C library tries it for threads, and takes `clone` when it is not there: see [`absent`].
    libc::SYS_clone3,
];

/// Older forms of the same, which this machine has and the C library still uses.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_link,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// Kinds of sockets: those that mail, names, scanners and the log need, and none that sees or makes
/// packets. With these, `CAP_NET_RAW` is good for no more than foreign addresses and marks.
const SOCKETS: [(libc::c_int, libc::c_int); 6] = [
    (libc::AF_UNIX, libc::SOCK_STREAM),
    (libc::AF_UNIX, libc::SOCK_DGRAM),
    (libc::AF_INET, libc::SOCK_STREAM),
    (libc::AF_INET, libc::SOCK_DGRAM),
    (libc::AF_INET6, libc::SOCK_STREAM),
    (libc::AF_INET6, libc::SOCK_DGRAM),
];
/// The part of `type` that is one (`socket(2)`); the rest are flags.
const SOCKET_TYPE: u64 = 0xf;

/// What may be asked of descriptors by `ioctl(2)`.
const CONTROLS: [u64; 4] = [libc::FIONBIO, libc::FIONREAD, libc::TIOCOUTQ, libc::TCGETS];

/// What a process may ask about itself by `prctl(2)`: the names of its threads.
const SELF: [libc::c_int; 2] = [libc::PR_SET_NAME, libc::PR_GET_NAME];

/// Restricts the calling thread and those that it starts. With `interfaces` it may ask for the addresses of
/// the machine (`rtnetlink(7)`): without CAP_NET_ADMIN, which it has not, it can change none.
pub(super) fn restrict(interfaces: bool) -> Result<(), Error> {
    // In this order: the second filter allows nobody to set a third.
    seccompiler::apply_filter(&program(absent(), SeccompAction::Allow, SeccompAction::Errno(ENOSYS))?)?;
    seccompiler::apply_filter(&program(
        allowed(interfaces)?,
        SeccompAction::Errno(EPERM),
        SeccompAction::Allow,
    )?)?;
    Ok(())
}

const EPERM: u32 = libc::EPERM.unsigned_abs();
const ENOSYS: u32 = libc::ENOSYS.unsigned_abs();

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn program(rules: Rules, others: SeccompAction, listed: SeccompAction) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, others, listed, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// `clone3` takes its flags from memory, where no rule can look at them.
fn absent() -> Rules {
    Rules::from([(libc::SYS_clone3, Vec::new())])
}

fn allowed(interfaces: bool) -> Result<Rules, BackendError> {
    let mut rules: Rules = ALLOWED.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let sockets =
        SOCKETS.iter().map(|(family, kind)| all([is(0, wide(*family)), masked(1, SOCKET_TYPE, wide(*kind))]));
    let mut sockets = sockets.collect::<Result<Vec<_>, _>>()?;
    if interfaces {
        let kind = masked(1, SOCKET_TYPE, wide(libc::SOCK_RAW));
        sockets.push(all([is(0, wide(libc::AF_NETLINK)), kind, is(2, wide(libc::NETLINK_ROUTE))])?);
    }
    rules.insert(libc::SYS_socket, sockets);
    rules.insert(libc::SYS_socketpair, vec![all([is(0, wide(libc::AF_UNIX))])?]);
    rules.insert(libc::SYS_ioctl, CONTROLS.iter().map(|what| all([is(1, *what)])).collect::<Result<_, _>>()?);
    rules.insert(
        libc::SYS_prctl,
        SELF.iter().map(|what| all([is(0, wide(*what))])).collect::<Result<_, _>>()?,
    );
    // Nothing that was written can be executed.
    let execute = wide(libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![all([masked(2, execute, 0)])?]);
    }
    // Threads, no processes.
    let thread = wide(libc::CLONE_THREAD);
    rules.insert(libc::SYS_clone, vec![all([masked(0, thread, thread)])?]);
    // Its own limits may be read; `abort(3)` signals its own thread.
    rules.insert(libc::SYS_prlimit64, vec![all([is(0, 0), pointer(2, 0)])?]);
    rules.insert(libc::SYS_tgkill, vec![all([is(0, u64::from(std::process::id()))])?]);
    Ok(rules)
}

/// An option or flag of the C library as the kernel sees it: none of those above is negative.
fn wide(value: libc::c_int) -> u64 {
    u64::from(value.unsigned_abs())
}

type Condition = Result<SeccompCondition, BackendError>;

fn all<const N: usize>(conditions: [Condition; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

fn is(argument: u8, value: u64) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn pointer(argument: u8, value: u64) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}
