//! Locks that change while another process takes over.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::gateway::{Gateway, Settings, binary};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::process;

use super::PATIENCE;
use crate::direct::echo;

/// Runs `gateway lock …`, which must succeed whoever serves at the moment.
fn lock(control: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(binary()?);
    process::done(command.arg("lock").args(arguments).arg("--socket").arg(control))
}

fn network(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    format!("10.{high}.{low}.0/24")
}

/// The networks that are locked.
fn locked(control: &Path) -> anyhow::Result<BTreeSet<String>> {
    let list: serde_json::Value = serde_json::from_str(&lock(control, &["list", "--json"])?)?;
    let locks = list.get("locks").and_then(serde_json::Value::as_array).context("no list")?;
    Ok(locks.iter().filter_map(|lock| Some(lock.get("who")?.as_str()?.to_owned())).collect())
}

#[test]
fn locks_that_change_in_the_second_of_an_upgrade_hold_afterwards() -> anyhow::Result<()> {
    const CLIENT: &str = "192.0.2.2";
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    let mut gateway = Gateway::start(&lab, &Settings::default())?;
    let over = AtomicBool::new(false);
    let control = gateway.control();
    let expected = thread::scope(|scope| {
        let operator = scope.spawn(|| {
            let mut held = BTreeSet::new();
            for number in 0_u16.. {
                lock(&control, &["add", &network(number)])?;
                held.insert(network(number));
                // Some are removed soon after, and the client is locked and unlocked.
                if number % 3 == 2 {
                    lock(&control, &["remove", &network(number - 1)])?;
                    held.remove(&network(number - 1));
                }
                lock(&control, &["add", CLIENT])?;
                if over.load(Ordering::Relaxed) {
                    held.insert(CLIENT.to_owned());
                    return anyhow::Ok(held);
                }
                lock(&control, &["remove", CLIENT])?;
            }
            anyhow::Ok(held)
        });
        let upgraded = (0..3).try_for_each(|_| {
            thread::sleep(Duration::from_millis(300));
            gateway.upgrade(&[]).map(drop)
        });
        over.store(true, Ordering::Relaxed);
        let held = operator.join().expect("does not panic");
        upgraded?;
        held
    })?;
    assert_eq!(locked(&control)?, expected);
    let attempt = lab
        .client()
        .enter(|| TcpStream::connect_timeout(&Family::V4.smtp(), PATIENCE).map_err(|error| error.kind()))?;
    assert_eq!(attempt.err(), Some(ErrorKind::ConnectionRefused));
    // What stands in the store is what the next gateway knows.
    gateway.restart(&lab, &Settings::default())?;
    assert_eq!(locked(&control)?, expected);
    Ok(())
}
