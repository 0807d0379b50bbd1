//! What processes and the machine have used, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::Pid;

/// A tick is a hundredth of a second for user space, whatever the kernel's own (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

fn ticks(words: &[&str], places: &[usize]) -> Duration {
    let count: u32 = places.iter().filter_map(|&place| words.get(place)?.parse::<u32>().ok()).sum();
    TICK.saturating_mul(count)
}

/// Time that all processors have spent on anything but waiting (`proc_stat(5)`).
pub(super) fn machine() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    // user, nice, system, irq, softirq; behind them, and between, is time spent waiting.
    Ok(ticks(&line.split_whitespace().collect::<Vec<_>>(), &[1, 2, 3, 6, 7]))
}

/// Time that these processes have spent, in the kernel too, and those of their children that have
/// ended (`proc_pid_stat(5)`).
pub(super) fn processes(pids: &[Pid]) -> anyhow::Result<Duration> {
    pids.iter().try_fold(Duration::ZERO, |sum, pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in brackets, may have spaces.
        let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
        // utime, stime, cutime and cstime are the 14th to 17th field, the first behind the name is the
        // third.
        Ok(sum + ticks(&rest.split_whitespace().collect::<Vec<_>>(), &[11, 12, 13, 14]))
    })
}

/// How often the threads of a process have waited, and so were woken (`proc_pid_status(5)`).
pub(super) fn waits(pid: Pid) -> anyhow::Result<u64> {
    let mut waits = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may be gone by the time it is looked at.
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        waits += count.context("no count of switches")?.trim().parse::<u64>()?;
    }
    Ok(waits)
}

/// Time that ended children of this process have spent, and theirs (`getrusage(2)`).
pub(super) fn children() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let spent = |time: TimeVal| {
        let microseconds = u64::try_from(time.num_microseconds()).unwrap_or_default();
        Duration::from_micros(microseconds)
    };
    Ok(spent(usage.user_time()) + spent(usage.system_time()))
}

/// Octets of memory that these processes have to themselves, or their share (`proc_pid_smaps(5)`).
pub(super) fn memory(pids: &[Pid]) -> anyhow::Result<u64> {
    pids.iter().try_fold(0, |sum, pid| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let share = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next());
        Ok(sum + share.context("no Pss")?.parse::<u64>()? * 1024)
    })
}

/// Octets that the eBPF maps of a process take in the kernel (`proc_pid_fdinfo(5)`).
pub(super) fn maps(pid: Pid) -> anyhow::Result<u64> {
    let mut octets = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be gone by the time it is looked at.
        let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
        let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse::<u64>().ok());
        octets += bytes.filter(|_| info.contains("map_type:")).unwrap_or(0);
    }
    Ok(octets)
}
