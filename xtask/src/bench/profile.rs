//! `cargo xtask profile inspect`: where the gateway's time goes under load, and what it asks the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::Path;
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
use super::peer::{Drain, Means, Peer};
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

/// Watches the gateway at this work, and writes a flame graph; `binary` is built when it is not given.
pub(crate) fn run(work: Work, output: &Path, binary: Option<&Path>) -> anyhow::Result<()> {
    let binary = super::prepare(binary)?;
    crate::setup::profilers()?;
    let load = Load::profiled(work == Work::Kept);
    let lab = Lab::new()?;
    let _drain = Drain::start(&lab)?;
    let settings = Settings { limits: inspect::limits(), ..Settings::default() };
    let means = Means { binary: &binary, settings: &settings, clamd_conf: None };
    let running = Peer::Gateway.start(&lab, &means)?;
    let gateway = running.gateway.as_ref().context("no gateway")?;
    let proxy = gateway.proxy()?;
    inspect::send(&lab, load, COUNTED)?;

    say::line(&format!("{MESSAGES} messages, watched by perf"));
    let data = lab.directory().join("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "--call-graph", "dwarf,16384"]);
    let mut perf =
        Daemon::start("perf", lab.directory(), perf.arg("-p").arg(proxy.to_string()).arg("-o").arg(&data))?;
    inspect::send(&lab, load, MESSAGES)?;
    // It writes the rest of its file when it is interrupted.
    perf.signal(Signal::SIGINT)?;
    perf.wait_for_end(Duration::from_secs(60))?;
    flame_graph(&data, output)?;
    say::fine(&format!("flame graph: {}", output.display()));

    say::line(&format!("{COUNTED} messages, watched by strace"));
    for line in system_calls(&lab, load, proxy)? {
        say::line(&line);
    }
    Ok(())
}

/// Draws what perf has seen.
fn flame_graph(data: &Path, output: &Path) -> anyhow::Result<()> {
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
    "gateway, inspect lane".clone_into(&mut options.title);
    flamegraph::from_reader(&mut options, folded.as_slice(), file)?;
    Ok(())
}

/// System calls of the proxy, by name, for one message.
fn system_calls(lab: &Lab, load: Load, proxy: Pid) -> anyhow::Result<Vec<String>> {
    let table = lab.directory().join("strace.txt");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-U", "calls,name", "-p"]).arg(proxy.to_string()).arg("-o").arg(&table);
    let mut strace = Daemon::start("strace", lab.directory(), &mut strace)?;
    strace.wait_for_log(Duration::from_secs(10), "attached")?;
    inspect::send(lab, load, COUNTED)?;
    strace.signal(Signal::SIGINT)?;
    strace.wait_for_end(Duration::from_secs(60))?;
    let counts = counts(&fs::read_to_string(&table)?);
    ensure!(!counts.is_empty(), "strace has seen nothing");
    let mut lines = vec![format!("{:<24} {:>12}", "system call", "per message")];
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
    for (name, calls) in sorted {
        let each = f64::from(calls) / f64::from(u32::try_from(COUNTED)?);
        lines.push(format!("{name:<24} {each:>12.2}"));
    }
    Ok(lines)
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
