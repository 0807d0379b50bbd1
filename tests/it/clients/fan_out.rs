//! Clients that connect to too many servers, and are locked for it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, binary};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::{process, wait};

use super::{PATIENCE, settings};
use crate::bench::from;
use crate::quarantine::{attempt, lock};

/// Servers that a client may connect to, and how many there are.
const ALLOWED: usize = 10;
const SERVERS: u8 = 60;

/// Another server each time; nobody listens there, which a client learns from the gateway.
fn servers() -> impl Iterator<Item = SocketAddr> {
    (100..100 + SERVERS).map(|last| SocketAddr::from(([198, 51, 100, last], 25)))
}

/// The only lock: whom it holds, why, and how often it has held.
fn held(gateway: &Gateway) -> anyhow::Result<Option<(String, String, u64)>> {
    let said: serde_json::Value = serde_json::from_str(&lock(gateway, &["list", "--json"])?)?;
    let Some(entry) = said["locks"].get(0) else { return Ok(None) };
    let text = |key: &str| entry[key].as_str().map(str::to_owned).with_context(|| said.to_string());
    Ok(Some((text("who")?, text("cause")?, entry["hits"].as_u64().unwrap_or(0))))
}

#[test]
fn a_client_of_too_many_servers_is_locked_in_the_kernel_and_its_next_syn_is_held_off_there()
-> anyhow::Result<()> {
    for (action, ending) in [("drop", ErrorKind::TimedOut), ("reset", ErrorKind::ConnectionRefused)] {
        let lab = Lab::new()?;
        lab.client().ip("address add 192.0.2.9/24 dev eth0")?;
        for server in servers() {
            lab.server().ip(&format!("address add {}/24 dev eth0", server.ip()))?;
        }
        let mut settings = settings("splice", &[("limits", "{destinations: 10}"), ("on-excess", action)]);
        settings.more = format!("locks: {{lock-on: [fan-out], action: {action}}}\n");
        let gateway = Gateway::start(&lab, &settings)?;
        let reached = servers().take_while(|server| from(&lab, Family::V4.client(), *server).is_ok()).count();
        // Two of ten servers may look the same.
        ensure!((ALLOWED..ALLOWED + 5).contains(&reached), "{reached} servers were reached");
        let (who, cause, _) = wait::until(PATIENCE, "a lock", || held(&gateway))?;
        ensure!((who.as_str(), cause.as_str()) == ("192.0.2.2", "fan-out"), "{who} for {cause}");
        // The limit lets it in where it has been.
        let known = servers().next().context("a server")?;
        let before = held(&gateway)?.context("no lock")?.2;
        ensure!(attempt(&lab, known)?.err() == Some(ending), "{action}");
        let hits = held(&gateway)?.context("no lock")?.2;
        ensure!(hits > before, "{hits} hits after {before}");
        from(&lab, "192.0.2.9".parse()?, known).context("another client")?;

        let mut status = Command::new(binary()?);
        status.args(["status", "--json", "--socket"]).arg(gateway.control());
        wait::until(PATIENCE, "what is known of all clients", || {
            let said: serde_json::Value = serde_json::from_str(&process::done(&mut status)?)?;
            let clients = &said["datapath"]["clients"];
            // There are none before the datapath process has told of itself.
            let mut over = clients["over_limit"].as_array().into_iter().flatten();
            let counted = over.any(|one| *one == serde_json::json!(["destinations", action, 1]));
            Ok((counted && clients["known"].as_u64() == Some(2)).then_some(()))
        })?;
    }
    Ok(())
}
