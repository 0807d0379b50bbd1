//! What the gateway promises, and which tests show it: one list for each part of it.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::parity::{rows, there};
use super::shipped::generated;

/// Fault of smtp-gated, what is done here, test.
const FAULTS: &str = "config/smtp-gated-faults.tsv";

/// A list of promises, and the document that is made of it.
struct List {
    /// Topic, promise, tests with a space between them.
    rows: &'static str,
    /// In `config`.
    document: &'static str,
    title: &'static str,
    introduction: &'static str,
}

const KERNEL_LANE: List = List {
    rows: "config/kernel-lane.tsv",
    document: "KERNEL-LANE.md",
    title: "What the kernel lane promises, and the tests that show it",
    introduction: "`cargo xtask test` runs all of them. `cargo xtask soak`, `bench splice` and `bench packet` measure.",
};

const INSPECTION: List = List {
    rows: "config/inspection.tsv",
    document: "INSPECTION.md",
    title: "What inspection promises, and the tests that show it",
    introduction: "`cargo xtask test` runs all of them, with real clamd, spamd, rspamd, nsd, Redis, Postfix and HAProxy.\n\
                   `SMTP-GATED.md` has the options of smtp-gated one by one.",
};

#[test]
fn every_promise_has_tests_that_are_there() -> anyhow::Result<()> {
    for list in [KERNEL_LANE, INSPECTION] {
        for [topic, promise, tests] in rows(list.rows)? {
            assert!(!topic.is_empty() && !promise.is_empty() && !tests.is_empty(), "{topic}: {promise}");
            for test in tests.split(' ') {
                there(test).with_context(|| format!("for {topic}: {promise}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn every_fault_has_a_test_that_shows_it_is_not_here() -> anyhow::Result<()> {
    for [fault, here, test] in rows(FAULTS)? {
        assert!(!fault.is_empty() && !here.is_empty(), "{fault}: {here}");
        there(&test).with_context(|| format!("for the fault: {fault}"))?;
    }
    Ok(())
}

#[test]
fn the_shipped_lists_are_those_of_the_tests() -> anyhow::Result<()> {
    generated(KERNEL_LANE.document, &KERNEL_LANE.text()?)?;
    generated(INSPECTION.document, &(INSPECTION.text()? + &faults()?))
}

impl List {
    fn text(&self) -> anyhow::Result<String> {
        let mut text = format!("# {}\n\n{}\n", self.title, self.introduction);
        let mut last = String::new();
        for [topic, promise, tests] in rows(self.rows)? {
            if topic != last {
                write!(text, "\n## {topic}\n\n| promise | shown by |\n| --- | --- |\n")?;
                last = topic;
            }
            let tests: Vec<_> = tests.split(' ').map(|test| format!("`{test}`")).collect();
            writeln!(text, "| {promise} | {} |", tests.join(", "))?;
        }
        Ok(text)
    }
}

fn faults() -> anyhow::Result<String> {
    let mut text = "\n## Faults of smtp-gated 1.4.21 that are none here\n\n\
                    | smtp-gated | the gateway | shown by |\n| --- | --- | --- |\n"
        .to_owned();
    for [fault, here, test] in rows(FAULTS)? {
        writeln!(text, "| {fault} | {here} | `{test}` |")?;
    }
    Ok(text)
}
