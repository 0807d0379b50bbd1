//! What a new session costs as something grows that it must not depend on: rules, locks, sessions,
//! messages.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::gateway::Settings;

use super::inspect::{self, Load};
use super::peer::Peer;
use super::report::{Report, Row};
use crate::interrupt::Interrupt;
use crate::say;

/// What grows, with its sizes; the first of them is the yardstick of the rest.
const RULES: [usize; 4] = [10, 100, 1_000, 10_000];
const SESSIONS: [u16; 4] = [8, 64, 256, 512];
const OCTETS: [u32; 4] = [1024, 16 * 1024, 256 * 1024, 4 * 1024 * 1024];

/// Measures the gateway alone, at each size in turn.
pub(super) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Vec<Report>> {
    let (rounds, span) = if quick { (1, Duration::from_secs(1)) } else { (5, Duration::from_secs(2)) };
    let new = Load::profiled(false);
    let rules = RULES.map(|count| (count.to_string(), new, settings(count)));
    let sessions = SESSIONS.map(|count| (count.to_string(), new.of_sessions(count), settings(0)));
    let octets = OCTETS.map(|octets| (octets.to_string(), new.of_sessions(8).of_octets(octets), settings(0)));
    let curves = [("growth-rules", rules), ("growth-sessions", sessions), ("growth-octets", octets)];
    let yardsticks = ["10", "8", "1024"];
    let mut reports = Vec::new();
    for ((family, steps), yardstick) in curves.into_iter().zip(yardsticks) {
        let mut rows: Vec<_> = steps.iter().map(|(size, ..)| Row::new(size)).collect();
        for round in 1..=rounds {
            for ((size, load, settings), row) in steps.iter().zip(&mut rows) {
                interrupt.check()?;
                say::line(&format!("{family}, round {round} of {rounds}: {size}"));
                inspect::measure(*load, Peer::Gateway, binary, settings, span, row)
                    .with_context(|| format!("{family}, {size} in round {round}"))?;
            }
        }
        reports.push(Report { family, unit: "messages/s", yardstick, rows });
    }
    Ok(reports)
}

/// A configuration with so many lane rules that no client of the lab matches.
fn settings(rules: usize) -> Settings {
    let mut more = String::new();
    if rules > 0 {
        more.push_str("lanes:\n");
    }
    for rule in 0..rules {
        // 10.0.0.0/8 has room for them all, each a network of its own.
        let (high, low) = (rule / 256 % 256, rule % 256);
        writeln!(more, "  - {{client: [10.{high}.{low}.0/24], lane: bypass}}").ok();
    }
    Settings { limits: inspect::limits(), more, ..Settings::default() }
}
