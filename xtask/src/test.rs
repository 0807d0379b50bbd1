//! `cargo xtask test`: everything that must be proven, and one line with the sum.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use gateway_tests::lab::Lab;

use crate::{ebpf, machine, say, setup, step};

/// The module of the lab tests that need the whole machine.
const ALONE: &str = "alone::";
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
    let all = &["test", "--no-fail-fast"][..];
    let lab = &["test", "--no-fail-fast", "--package", "gateway-tests", "--test", "it"][..];
    let parts = [
        ("unit tests, dialogues and configuration snapshots", all, &[][..]),
        ("lab tests", lab, &["--test-threads", LAB_THREADS, "--skip", ALONE]),
        ("lab tests that need the whole machine", lab, &["--test-threads", "1", ALONE]),
    ];
    for (what, arguments, which) in parts {
        let mut tally = part(what, step::cargo(arguments).arg("--").args(which))?;
        if tally.can_be_repeated() {
            let names = std::mem::take(&mut tally.names);
            say::line(&format!("run again, one at a time: {}", names.join(", ")));
            let alone = ["--", "--test-threads", "1", "--exact"];
            tally.repeated(part(what, step::cargo(arguments).args(alone).args(&names))?, &names);
        }
        total.add(tally);
    }
    for name in &total.unsteady {
        say::line(&format!("unsteady: {name} failed beside others and passed alone"));
    }
    say::line(&format!("{} passed, {} failed", total.passed, total.failed));
    if total.failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// Failed tests that are run again. More of them are no accident of a busy machine.
const MOST_REPEATED: usize = 5;

/// Tests that passed and failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    /// What failed, by name.
    names: Vec<String>,
    /// What failed beside other tests and passed alone.
    unsteady: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.names.extend(other.names);
        self.unsteady.extend(other.unsteady);
    }

    /// Whether all that failed is known by name, and is little enough to be the doing of a busy machine.
    fn can_be_repeated(&self) -> bool {
        self.failed > 0 && self.names.len() <= MOST_REPEATED && self.names.len() as u64 == self.failed
    }

    /// Counts the failed tests `names` anew, which were run alone as `second`.
    fn repeated(&mut self, second: Self, names: &[String]) {
        self.passed += second.passed;
        self.failed = self.failed.saturating_sub(second.passed);
        self.unsteady.extend(names.iter().filter(|name| !second.names.contains(name)).cloned());
        self.names = second.names;
    }

    /// The name of a test in a line that says it failed.
    fn failure(line: &str) -> Option<&str> {
        line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
    }

    /// The sum that a test program prints at its end.
    fn read(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
        let mut counts = rest.split("; ");
        let mut count = |word: &str| counts.next()?.strip_suffix(word)?.trim().parse().ok();
        Some(Self { passed: count("passed")?, failed: count("failed")?, ..Self::default() })
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
        tally.names.extend(Tally::failure(&line).map(str::to_owned));
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
        assert_eq!(Tally::read(line), Some(Tally { passed: 12, failed: 3, ..Tally::default() }));
        assert_eq!(Tally::read("test a ... ok"), None);
        assert_eq!(Tally::read("running 12 tests"), None);
    }

    #[test]
    fn a_test_that_passes_alone_is_told_and_one_that_fails_again_has_failed() {
        let first = ["a::b", "c"].map(str::to_owned);
        let mut tally = Tally { passed: 7, failed: 2, names: first.to_vec(), unsteady: Vec::new() };
        assert!(tally.can_be_repeated());
        assert_eq!(Tally::failure("test c ... FAILED"), Some("c"));
        assert_eq!(Tally::failure("test c ... ok"), None);
        let again = Tally { passed: 1, failed: 1, names: vec!["c".to_owned()], unsteady: Vec::new() };
        tally.repeated(again, &first);
        let names = |name: &str| vec![name.to_owned()];
        assert_eq!(tally, Tally { passed: 8, failed: 1, names: names("c"), unsteady: names("a::b") });
    }

    #[test]
    fn a_program_that_died_and_many_failures_are_not_run_again() {
        let died = Tally { failed: 1, ..Tally::default() };
        assert!(!died.can_be_repeated());
        let many: Vec<String> = (0..=MOST_REPEATED).map(|index| index.to_string()).collect();
        assert!(!Tally { failed: many.len() as u64, names: many, ..Tally::default() }.can_be_repeated());
    }
}
