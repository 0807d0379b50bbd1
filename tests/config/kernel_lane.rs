//! What the kernel lane promises, and which tests show it.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::parity::{rows, there};

/// Topic, promise, tests with a space between them.
const PROMISES: &str = "config/kernel-lane.tsv";

#[test]
fn every_promise_of_the_kernel_lane_has_tests_that_are_there() -> anyhow::Result<()> {
    for [topic, promise, tests] in rows(PROMISES)? {
        assert!(!topic.is_empty() && !promise.is_empty() && !tests.is_empty(), "{topic}: {promise}");
        for test in tests.split(' ') {
            there(test).with_context(|| format!("for {topic}: {promise}"))?;
        }
    }
    Ok(())
}

#[test]
fn the_shipped_table_is_the_one_of_the_tests() -> anyhow::Result<()> {
    super::shipped::generated("KERNEL-LANE.md", &document()?)
}

fn document() -> anyhow::Result<String> {
    let mut text = "# What the kernel lane promises, and the tests that show it\n\n\
                    `cargo xtask test` runs all of them. `cargo xtask soak`, `bench splice` and `bench packet` measure.\n"
        .to_owned();
    let mut last = String::new();
    for [topic, promise, tests] in rows(PROMISES)? {
        if topic != last {
            write!(text, "\n## {topic}\n\n| promise | shown by |\n| --- | --- |\n")?;
            last = topic;
        }
        let tests: Vec<_> = tests.split(' ').map(|test| format!("`{test}`")).collect();
        writeln!(text, "| {promise} | {} |", tests.join(", "))?;
    }
    Ok(text)
}
