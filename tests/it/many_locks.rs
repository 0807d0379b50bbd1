//! As many locks as there may be.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::process::done;
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::wait;
use nix::sys::signal::{Signal, kill};

use crate::quarantine::{attempt, greeting, lock};

/// How long a start may take on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// Fills the table of a gateway that does not run: so many addresses, and the lab's client.
const FILL: &str = r#"
import sqlite3, sys
file, count = sys.argv[1], int(sys.argv[2])
store = sqlite3.connect(file)
lock = '"action":"reset","cause":"virus","detail":"Eicar","session":null,"since":5,"until":null,"offences":1,"refused":0}'
store.execute(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?),"
    " addresses(who) AS (SELECT printf('10.%d.%d.%d', i >> 16, (i >> 8) & 255, i & 255) FROM n"
    " UNION SELECT '192.0.2.2')"
    " INSERT INTO locks SELECT who, '{\"who\":\"' || who || '\",' || ? FROM addresses", (count - 1, lock))
store.commit()
store.close()
"#;

/// So many that it takes longer to read them than a process may be silent.
const LOCKS: usize = 500_000;

/// How a new connection of the lab's client ends; where it is not served, which is what its lock is for.
fn held_off(lab: &Lab) -> anyhow::Result<ErrorKind> {
    attempt(lab, Family::V4.smtp())?.err().context("a locked client is served")
}

fn fill(file: &Path, count: usize) -> anyhow::Result<()> {
    let mut fill = Command::new("/usr/bin/python3");
    done(fill.args(["-c", FILL]).arg(file).arg(count.to_string())).map(drop)
}

/// How many locks there are.
fn held(gateway: &Gateway) -> anyhow::Result<usize> {
    let list: serde_json::Value = serde_json::from_str(&lock(gateway, &["list", "--json"])?)?;
    Ok(usize::try_from(list["held"].as_u64().context("no number")?)?)
}

#[test]
fn half_a_million_locks_hold_before_anybody_is_served_and_while_a_new_process_reads_them()
-> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let mut gateway = Gateway::start(&lab, &Settings::default())?;
    gateway.stop()?;
    let file = gateway.state().join("state.db");
    fill(&file, LOCKS)?;
    gateway.restart(&lab, &Settings::default())?;
    wait::until(LONG, "a reset", || Ok((held_off(&lab)? == ErrorKind::ConnectionRefused).then_some(())))?;
    ensure!(held(&gateway)? == LOCKS, "{}", held(&gateway)?);

    // A process that dies takes no lock along, and the next one has them before it serves.
    let proxy = gateway.proxy()?;
    kill(proxy, Signal::SIGKILL)?;
    wait::until(LONG, "another process that serves", || {
        held_off(&lab)?;
        let serves = gateway.log().matches("msg=intercepting").count() == 2;
        Ok((serves && gateway.proxy()? != proxy).then_some(()))
    })
}

/// How long a session may take to begin beside it: less than a client that lost a SYN waits before it sends it again.
const AT_ONCE: Duration = Duration::from_millis(900);

#[test]
fn whoever_comes_while_half_a_million_locks_are_removed_is_served_at_once() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V6.smtp(), Manners::default())?;
    let mut gateway = Gateway::start(&lab, &Settings::default())?;
    gateway.stop()?;
    fill(&gateway.state().join("state.db"), LOCKS)?;
    gateway.restart(&lab, &Settings::default())?;
    wait::until(LONG, "all locks", || Ok((held(&gateway)? == LOCKS).then_some(())))?;
    let proxy = gateway.proxy()?;

    let begun = wait::now();
    let mut slowest = Duration::ZERO;
    let mut sessions = 0;
    thread::scope(|scope| {
        let removal = scope.spawn(|| lock(&gateway, &["remove", "--all"]));
        // Addresses of IPv6 are not among the locked ones, but are looked for in the table that is being emptied.
        while !removal.is_finished() {
            let session = wait::now();
            let line = greeting(&lab, Family::V6.smtp())?;
            ensure!(line.starts_with("220 "), "{line}");
            slowest = slowest.max(session.elapsed());
            sessions += 1;
        }
        removal.join().map_err(|_| anyhow::anyhow!("the removal panicked"))?
    })?;
    let all = begun.elapsed();
    ensure!(sessions > 10 && slowest < AT_ONCE, "{sessions} sessions in {all:?}, the slowest in {slowest:?}");
    ensure!(gateway.proxy()? == proxy && held(&gateway)? == 0);
    Ok(())
}
