//! What `process` asks for, as the system sees it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::Lab;
use nix::unistd::{Group, Pid};

/// A field of `/proc/PID/status` or `/proc/PID/limits`, from behind its name on.
fn field(pid: Pid, file: &str, name: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.with_context(|| format!("no {name} in {file}"))?.trim_start_matches(':').trim().to_owned())
}

/// Of each thread, the nice value and the scheduling policy (sched.h), which are the 17th and the 39th field behind the
/// name in parentheses (proc_pid_stat(5)); each pair once.
fn scheduling(pid: Pid) -> anyhow::Result<BTreeSet<(i32, u8)>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
    let of_each = tasks.map(|task| {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let mut fields = fields.split_whitespace().skip(16);
        let nice = fields.next().context("too short")?.parse()?;
        Ok((nice, fields.nth(21).context("too short")?.parse()?))
    });
    of_each.collect()
}

/// `SCHED_OTHER` and `SCHED_BATCH` (linux/sched.h).
const OTHER: u8 = 0;
const BATCH: u8 = 3;

#[test]
fn pid_file_group_priority_and_limits_are_as_configured() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let pid_file = lab.directory().join("gateway.pid");
    let more = format!(
        "process:\n  pid-file: {}\n  group: mail\n  priority: 5\n  core-size: 1MiB\n  \
         file-size: 64MiB\n  address-space: 8GiB\n",
        pid_file.display()
    );
    let mut gateway = Gateway::start(&lab, &Settings { more, ..Settings::default() })?;
    let (datapath, proxy) = (gateway.daemon().pid(), gateway.proxy()?);
    assert_eq!(fs::read_to_string(&pid_file)?, format!("{datapath}\n"));
    // Those that serve sessions do not interrupt each other; who hands flows over is not to wait.
    assert_eq!(scheduling(datapath)?, BTreeSet::from([(5, OTHER)]));
    assert_eq!(scheduling(proxy)?, BTreeSet::from([(5, BATCH)]));
    let mail = Group::from_name("mail")?.context("no group mail")?.gid;
    assert_eq!(field(proxy, "status", "Gid")?, vec![mail.to_string(); 4].join("\t"));
    for (limit, octets) in
        [("Max core file size", 1 << 20), ("Max file size", 64 << 20), ("Max address space", 8_u64 << 30)]
    {
        let soft = field(proxy, "limits", limit)?;
        assert_eq!(soft.split_whitespace().next(), Some(octets.to_string().as_str()), "{limit}");
    }
    gateway.stop()?;
    assert!(!Path::new(&pid_file).exists());
    Ok(())
}
