//! `cargo xtask test`: everything that must be proven, and one line with the sum.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use gateway_tests::lab::Lab;

use crate::{ebpf, machine, say, setup, step};

/// Lab tests at the same time. Each is three namespaces, a scanner and a gateway.
const LAB_THREADS: &str = "4";

/// Sets up, builds and runs every test. The last line on standard output is `N passed, N failed`.
pub(crate) fn run() -> anyhow::Result<()> {
    if !machine::is_root() {
        bail!("the lab tests make network namespaces and load eBPF programs: run `cargo xtask test` as root");
    }
    Lab::sweep();
    setup::all()?;
    ebpf::build()?;
    step::run("build the gateway and all tests", &mut step::cargo(&["build", "--all-targets"]))?;
    let mut total = Tally::default();
    let parts = [
        ("unit tests, dialogues and configuration snapshots", &["test", "--no-fail-fast"][..]),
        (
            "lab tests",
            &[
                "test",
                "--no-fail-fast",
                "--package",
                "gateway-tests",
                "--test",
                "it",
                "--",
                "--test-threads",
                LAB_THREADS,
            ],
        ),
    ];
    for (what, arguments) in parts {
        total.add(part(what, &mut step::cargo(arguments))?);
    }
    say::line(&format!("{} passed, {} failed", total.passed, total.failed));
    if total.failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// The sum that a test program prints at its end.
    fn read(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
        let mut counts = rest.split("; ");
        let mut count = |word: &str| counts.next()?.strip_suffix(word)?.trim().parse().ok();
        Some(Self { passed: count("passed")?, failed: count("failed")? })
    }
}

/// Runs `cargo test`, shows what it writes and adds up what it says.
fn part(what: &str, command: &mut Command) -> anyhow::Result<Tally> {
    say::doing(what);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = BufReader::new(child.stdout.take().context("no pipe from cargo")?);
    let mut tally = Tally::default();
    for line in output.lines() {
        let line = line?;
        tally.add(Tally::read(&line).unwrap_or_default());
        say::line(&line);
    }
    // A test program that dies says no sum, and a test that does not compile says nothing.
    if !child.wait()?.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_test_program_is_read_and_other_lines_are_not() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(Tally::read(line), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(Tally::read("test a ... ok"), None);
        assert_eq!(Tally::read("running 12 tests"), None);
    }
}
