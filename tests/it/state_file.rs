//! The state file, and `gateway status --format`: scripts made for smtp-gated find their keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::recorder::Manners;
use gateway_tests::{message, wait};
use nix::sys::signal::Signal;

use crate::bench::Bench;

const LONG: Duration = Duration::from_secs(20);

/// Asks for the state until it says `text`.
fn state_with(gateway: &Gateway, path: &Path, text: &str) -> anyhow::Result<String> {
    wait::until(LONG, text, || {
        gateway.signal(Signal::SIGUSR1)?;
        std::thread::sleep(Duration::from_millis(100));
        Ok(fs::read_to_string(path).ok().filter(|state| state.contains(text)))
    })
}

/// The names in front of the colons.
fn keys(state: &str) -> Vec<&str> {
    state.lines().filter_map(|line| line.split_once(": ")).map(|(key, _)| key).collect()
}

#[test]
fn the_state_file_and_the_status_have_the_keys_of_smtp_gated() -> anyhow::Result<()> {
    let folder = tempfile::TempDir::new()?;
    // In a folder that is not there yet.
    let path = folder.path().join("run/state");
    let section = |format: &str, sessions: bool| {
        let path = path.display();
        format!("state-file:\n  path: {path}\n  mode: \"0660\"\n  format: {format}\n  sessions: {sessions}\n")
    };
    let bench =
        Bench::with(|settings| Settings { more: section("human", true), ..settings }, Manners::default())?;
    let gateway = &bench.gateway;
    let mut infected = bench.up_to_data()?;
    infected.send(&message::infected("state"))?;
    infected.send(message::END)?;
    infected.expect(550)?;
    drop(infected);
    let mut open = bench.up_to_data()?;
    open.send(b"Subject: open\r\n")?;

    // The first session is over as soon as the gateway has noticed; both may have been open at once.
    let state = state_with(gateway, &path, "Children: 1/")?;
    assert!(state.contains("/0/0 (current/max/crashed/bugs)\n"), "{state}");
    assert!(state.starts_with("Version:      "), "{state}");
    assert!(
        state.contains("\nFound:    1/0/0/0/0/0 (viruses/spam/no-auth/spf/regex/earlytalk)\n"),
        "{state}"
    );
    let row = state.lines().last().unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    assert_eq!(
        (row[0], row[2], row[3], row[5], row[6]),
        ("0", "data", ".", "192.0.2.2", "198.51.100.2"),
        "{state}"
    );
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o7777, 0o660);

    // What a reload changes counts for the next signal.
    let more = section("flat", false);
    gateway.write_settings(&Settings { more, ..Settings::scanning(bench.clamd.address()) })?;
    let (reloaded, said) = gateway.control_command("reload")?;
    assert!(reloaded, "{said}");
    let state = state_with(gateway, &path, "children.current: 1\n")?;
    assert!(state.contains("\nfound.viruses: 1\n"), "{state}");
    assert!(!state.contains("slot."), "{state}");

    // The same keys, without a file.
    let (shown, status) = gateway.control_command_with("status", &["--format", "flat"])?;
    assert!(shown, "{status}");
    assert_eq!(keys(&status), keys(&state));
    let (shown, status) = gateway.control_command_with("status", &["--format", "flat,slots"])?;
    assert!(shown, "{status}");
    assert!(status.contains("\nslot.0.state: data\nslot.0.src.ip: 192.0.2.2\nslot.0.flags: .\n"), "{status}");
    let (shown, status) = gateway.control_command_with("status", &["--format", "human"])?;
    assert!(shown && status.starts_with("Version:      "), "{status}");
    assert!(status.contains("\nFound:    1/0/0/0/0/0 (viruses/"), "{status}");
    let (shown, status) = gateway.control_command_with("status", &["--format", "json"])?;
    assert!(shown && status.contains("\"open\": 1"), "{status}");
    open.send(b"\r\n.\r\n")?;
    open.expect(250)?;
    Ok(())
}
