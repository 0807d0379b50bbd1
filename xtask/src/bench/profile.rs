//! `cargo xtask profile inspect`: where the time of the gateway or of a peer goes under load, and what each
//! of its processes asks the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::Settings;
use gateway_tests::lab::Lab;
use gateway_tests::process::Daemon;
use inferno::collapse::Collapse as _;
use inferno::collapse::perf::Folder;
use inferno::flamegraph;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::inspect::{self, Load};
use super::peer::{self, Drain, Means, Peer};
use super::usage;
use crate::say;

/// Times a second that the stack is looked at; no divisor of what the kernel does at fixed times.
const FREQUENCY: &str = "499";
/// Messages of a run.
const MESSAGES: usize = 20_000;
/// Messages of a run whose system calls are counted, which slows it down a lot.
const COUNTED: usize = 2_000;

/// What the gateway does while it is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Work {
    /// 64 sessions at once, each of one message.
    Inspect,
    /// 64 sessions at once, which send message after message.
    Kept,
}

/// What is watched, and where what is seen goes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What it does meanwhile.
    #[arg(value_enum, default_value = "inspect")]
    load: Work,
    /// Watch this one at the same work, to compare.
    #[arg(long, value_enum, default_value = "gateway")]
    peer: Peer,
    /// Where the flame graph goes.
    #[arg(long, value_name = "FILE", default_value = "target/inspect.svg")]
    output: PathBuf,
    /// Watch this binary of the gateway, and build none.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Watches the gateway or a peer under load, writes a flame graph and tells of its processes.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let Options { load, peer, output, binary } = options;
    let binary = super::prepare(binary.as_deref())?;
    crate::setup::profilers()?;
    let load = Load::profiled(*load == Work::Kept);
    let lab = peer::lab()?;
    let _drain = Drain::start(&lab)?;
    let settings = Settings { limits: inspect::limits(), ..Settings::default() };
    let means = Means { binary: &binary, settings: &settings, clamd_conf: None };
    let _running = peer.start(&lab, &means)?;
    inspect::send(&lab, load, COUNTED)?;
    let pids = peer::processes(&lab)?;
    ensure!(!pids.is_empty(), "{} has no process", peer.name());

    say::line(&format!("{MESSAGES} messages, watched by perf"));
    let data = lab.directory().join("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "--call-graph", "dwarf,16384"]);
    let list = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut perf = Daemon::start("perf", lab.directory(), perf.arg("-p").arg(list).arg("-o").arg(&data))?;
    inspect::send(&lab, load, MESSAGES)?;
    // It writes the rest of its file when it is interrupted.
    perf.signal(Signal::SIGINT)?;
    perf.wait_for_end(Duration::from_secs(60))?;
    flame_graph(&data, peer.name(), output)?;
    say::fine(&format!("flame graph: {}", output.display()));

    for pid in pids {
        say::line("");
        for line in process(&lab, load, pid)? {
            say::line(&line);
        }
    }
    Ok(())
}

/// What one process does for each message.
fn process(lab: &Lab, load: Load, pid: Pid) -> anyhow::Result<Vec<String>> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
    let before = (usage::processes(&[pid])?, usage::waits(pid)?);
    inspect::send(lab, load, MESSAGES)?;
    let spent = usage::processes(&[pid])?.saturating_sub(before.0);
    let waits = usage::waits(pid)?.saturating_sub(before.1);
    let each = |amount: f64| amount / MESSAGES as f64;
    let mut lines = vec![format!("{:<24} {:>12}", name.trim(), "per message")];
    let mut line = |name: &str, amount: f64| lines.push(format!("{name:<24} {amount:>12.2}"));
    line("CPU us", each(spent.as_secs_f64() * 1e6));
    line("waits", each(waits as f64));
    for (call, calls) in system_calls(lab, load, pid)? {
        line(&call, f64::from(calls) / COUNTED as f64);
    }
    Ok(lines)
}

/// Draws what perf has seen.
fn flame_graph(data: &Path, name: &str, output: &Path) -> anyhow::Result<()> {
    let mut script = Command::new("perf");
    script.args(["script", "--no-inline", "-i"]).arg(data).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut script = script.spawn().context("cannot run perf")?;
    let stacks = BufReader::new(script.stdout.take().context("no output of perf")?);
    let mut folded = Vec::new();
    Folder::default().collapse(stacks, &mut folded)?;
    ensure!(script.wait()?.success(), "perf script failed");
    ensure!(!folded.is_empty(), "perf has seen nothing: is the machine's clock event there?");
    let file = fs::File::create(output).with_context(|| format!("cannot write {}", output.display()))?;
    let mut options = flamegraph::Options::default();
    options.title = format!("{name}, {MESSAGES} messages");
    flamegraph::from_reader(&mut options, folded.as_slice(), file)?;
    Ok(())
}

/// System calls of a process while [`COUNTED`] messages pass, the most frequent first.
fn system_calls(lab: &Lab, load: Load, pid: Pid) -> anyhow::Result<Vec<(String, u32)>> {
    let table = lab.directory().join("strace.txt");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-U", "calls,name", "-p"]).arg(pid.to_string()).arg("-o").arg(&table);
    let mut strace = Daemon::start("strace", lab.directory(), &mut strace)?;
    strace.wait_for_log(Duration::from_secs(10), "attached")?;
    inspect::send(lab, load, COUNTED)?;
    strace.signal(Signal::SIGINT)?;
    strace.wait_for_end(Duration::from_secs(60))?;
    let mut sorted: Vec<_> = counts(&fs::read_to_string(&table)?).into_iter().collect();
    sorted.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
    Ok(sorted)
}

/// What strace's table says: its lines are a number and a name, between two rules.
fn counts(table: &str) -> BTreeMap<String, u32> {
    let lines = table.lines().filter_map(|line| {
        let (calls, name) = line.trim().split_once(char::is_whitespace)?;
        Some((name.trim().to_owned(), calls.parse().ok()?))
    });
    lines.filter(|(name, _)| name != "total").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read() {
        let table = "    calls syscall\n--------- ----------------\n       12 recvfrom\n        3 epoll_wait\n\
                     --------- ----------------\n       15 total\n";
        let expected = BTreeMap::from([("recvfrom".to_owned(), 12), ("epoll_wait".to_owned(), 3)]);
        assert_eq!(counts(table), expected);
    }
}
