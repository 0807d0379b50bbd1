//! `config/BENCH.md` names every row that is measured, and no other.

use std::fs;

use super::{console, crowd, delivery, growth, idle, inspect, latency, splice, syn};
use crate::step;

/// Names in the table's second column, in which `*` stands for any part of a name.
fn patterns(document: &str) -> Vec<String> {
    let mut patterns = Vec::new();
    for line in document.lines().filter(|line| line.starts_with("| ")) {
        let cell = line.split(" | ").nth(1).unwrap_or_default();
        patterns.extend(cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned));
    }
    patterns
}

fn matches(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(behind) = name.strip_prefix(begin) else { return false };
    // The star stands for no dot, which divides family, group and row.
    let part = behind.find('.').unwrap_or(behind.len());
    (0..=part).any(|length| behind.get(length..).is_some_and(|behind| matches(rest, behind)))
}

#[test]
fn every_row_is_in_the_list_and_every_name_of_the_list_is_a_row() {
    let document = fs::read_to_string(step::workspace().join("config/BENCH.md")).unwrap();
    let rows: Vec<String> = [
        inspect::names_of_rows(),
        latency::names_of_rows(),
        splice::names_of_rows(),
        delivery::names_of_rows(),
        crowd::names_of_rows(),
        idle::names_of_rows(),
        syn::names_of_rows(),
        console::names_of_rows(),
        growth::names_of_rows(),
    ]
    .concat();
    let patterns = patterns(&document);
    for row in &rows {
        assert!(patterns.iter().any(|pattern| matches(pattern, row)), "{row} is not in the list");
    }
    // What the kernel program's bench measures it names itself.
    let others = ["packet.", "verifier.", "entries."];
    for pattern in patterns.iter().filter(|pattern| !others.iter().any(|other| pattern.starts_with(other))) {
        assert!(rows.iter().any(|row| matches(pattern, row)), "no row is called {pattern}");
    }
}
