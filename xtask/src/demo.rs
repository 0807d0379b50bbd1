//! `cargo xtask demo`: real mail through a real gateway, and what became of it.

mod checks;
mod sender;
mod table;

use std::fs::File;
use std::io::{IsTerminal as _, Write as _, stdin};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::bail;

use crate::interrupt::Interrupt;
use crate::stage::Stage;
use crate::tmux::Tmux;
use crate::{lab, say};

/// How long the console stays open after the last check where nobody can leave it by hand.
const LINGER: Duration = Duration::from_secs(5);

/// Sets everything up, sends mail, prints the table and removes everything.
pub(crate) fn run(watch: bool) -> anyhow::Result<()> {
    lab::prepare()?;
    let interrupt = Interrupt::catch()?;
    let mut stage = Stage::set(&interrupt)?;
    let rows = if watch {
        watched(&mut stage, &interrupt)?
    } else {
        checks::all(&mut stage, &interrupt, &say::line)?
    };
    // Everything is removed before the last line, so that the line is true when it is read.
    drop(stage);
    for line in table::lines(&rows) {
        say::line(&line);
    }
    let passed = rows.iter().filter(|row| row.passed()).count();
    say::line(&format!("demo: {passed} of {} checks passed", rows.len()));
    if passed < rows.len() {
        std::process::exit(1);
    }
    Ok(())
}

/// The checks, with the console above and their progress below, in tmux.
fn watched(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<Vec<table::Row>> {
    let path: PathBuf = stage.lab.directory().join("demo.txt");
    let progress = File::create(&path)?;
    let tmux = Tmux::new(&stage.lab);
    tmux.open("demo", &Tmux::console(&stage.gateway)?)?;
    tmux.below(&format!("tail -n +1 -f {}", path.display()))?;
    let tell = |line: &str| drop(writeln!(&progress, "{line}"));
    if !stdin().is_terminal() {
        say::line(&format!("This is no terminal. To watch: {}", tmux.how_to_attach()));
        let rows = checks::all(stage, interrupt, &tell)?;
        thread::sleep(LINGER);
        return Ok(rows);
    }
    thread::scope(|scope| {
        let checks = scope.spawn(|| {
            let rows = checks::all(stage, interrupt, &tell)?;
            table::lines(&rows).iter().for_each(|line| tell(line));
            tell("Leave the console with q, then this with Ctrl-C.");
            anyhow::Ok(rows)
        });
        tmux.attach(interrupt)?;
        checks.join().unwrap_or_else(|_| bail!("a check panicked"))
    })
}
