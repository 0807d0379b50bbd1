//! What looking costs: the console's own time, and the gateway's, with more and more sessions to show.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::lab::Lab;

use super::crowd;
use super::report::{Fact, Report, Row};
use super::usage;
use crate::interrupt::Interrupt;
use crate::say;
use crate::tmux::Tmux;

/// Of the processes that answer the console, beside what they take when nobody looks.
const GATEWAY: Fact = Fact { heading: "of the gateway", key: "gateway_cpu_milliseconds_per_second" };
/// Pages by the key that shows them; the list of sessions is the longest that the console asks for.
const PAGES: [(&str, &str); 2] = [("overview", "1"), ("sessions", "2")];
const FULL: [usize; 3] = [100, 1_000, 10_000];
/// What the first frames cost is no page's.
const WARM: Duration = Duration::from_secs(3);

/// Measures each page with so many sessions in the gateway's table.
pub(super) fn run(binary: &Path, quick: bool, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let (rounds, span, sizes) = if quick {
        (1, Duration::from_secs(5), FULL.get(..2))
    } else {
        (3, Duration::from_secs(10), FULL.get(..))
    };
    let sizes = sizes.unwrap_or_default();
    let mut rows: Vec<Row> = Vec::new();
    for sessions in sizes {
        rows.extend(PAGES.map(|(page, _)| Row::new(format!("{page}-{sessions}"))));
    }
    for round in 1..=rounds {
        for (sessions, rows) in sizes.iter().zip(rows.chunks_mut(PAGES.len())) {
            interrupt.check()?;
            say::line(&format!("console, round {round} of {rounds}: {sessions} sessions"));
            measure(binary, *sessions, span, rows)
                .with_context(|| format!("{sessions} sessions in round {round}"))?;
        }
    }
    let unit = "CPU milliseconds of the console a second";
    Ok(Report { family: "console", unit, yardstick: "overview-100", rows })
}

fn measure(binary: &Path, sessions: usize, span: Duration, rows: &mut [Row]) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (gateway, _server, _sessions) = crowd::gather(&lab, binary, sessions)?;
    let processes = [gateway.daemon().pid(), gateway.proxy()?];
    let spent = |processes: &[_]| {
        let before = usage::processes(processes)?;
        thread::sleep(span);
        let after = usage::processes(processes)?;
        anyhow::Ok(after.saturating_sub(before).as_secs_f64() * 1e3 / span.as_secs_f64())
    };
    let unseen = spent(&processes)?;
    let tmux = Tmux::new(&lab);
    let socket = gateway.control();
    tmux.open("console", &format!("exec {} top --socket {}", binary.display(), socket.display()))?;
    let console = tmux.process()?;
    for ((_, key), row) in PAGES.iter().zip(rows) {
        tmux.press(key)?;
        thread::sleep(WARM);
        let before = usage::processes(&processes)?;
        row.values.push(spent(&[console])?);
        let answered = usage::processes(&processes)?.saturating_sub(before);
        row.add(GATEWAY, (answered.as_secs_f64() * 1e3 / span.as_secs_f64() - unseen).max(0.0));
    }
    Ok(())
}

#[cfg(test)]
pub(super) fn names_of_rows() -> Vec<String> {
    FULL.iter().flat_map(|sessions| PAGES.map(|(page, _)| format!("console.{page}-{sessions}"))).collect()
}
