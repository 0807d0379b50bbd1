//! What `process` asks for, as the system sees it.

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

/// The nice value, which is the 17th field behind the name in parentheses (proc_pid_stat(5)).
fn priority(pid: Pid) -> anyhow::Result<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    Ok(fields.split_whitespace().nth(16).context("too short")?.parse()?)
}

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
    assert_eq!((priority(datapath)?, priority(proxy)?), (5, 5));
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
