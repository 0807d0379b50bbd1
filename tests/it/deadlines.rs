//! Peers that stop: every wait of the gateway ends, and nothing half-done is delivered.

use std::time::Duration;

use gateway_tests::client::Client;
use gateway_tests::gateway::Settings;
use gateway_tests::lab::Family;
use gateway_tests::recorder::Manners;
use gateway_tests::{message, wait};

use crate::bench::{Bench, ends_data};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_client_silent_in_its_text_is_closed_with_421_and_the_server_gets_no_end_of_data() -> anyhow::Result<()> {
    let bench = Bench::with(
        |settings| Settings { timeouts: vec![("data-block", "2s")], ..settings },
        Manners::default(),
    )?;
    let mut client = bench.up_to_data()?;
    client.send(&message::large("silence", 400_000, 4))?;
    let reply = client.reply_within(SOON)?;
    assert_eq!(reply.code, 421, "{reply}");
    assert!(reply.lines[0].starts_with("4.4.2 "), "{reply}");
    assert_eq!(client.rest(SOON)?, b"");
    let seen = bench.seen()?;
    assert!(seen[0].messages.is_empty());
    assert!(!ends_data(&seen[0].received));
    wait::until(SOON, "removal of the copy", || Ok(bench.spooled()?.is_empty().then_some(())))?;
    Ok(())
}

#[test]
fn a_client_that_leaves_in_its_text_delivers_nothing() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut client = bench.up_to_data()?;
    client.send(b"Subject: s\r\n\r\nM1")?;
    client.half_close()?;
    drop(client);
    let seen = bench.seen()?;
    assert!(seen[0].messages.is_empty());
    assert!(!ends_data(&seen[0].received));
    Ok(())
}

#[test]
fn a_server_that_never_greets_is_given_up() -> anyhow::Result<()> {
    let bench = Bench::with(
        |settings| Settings { timeouts: vec![("greeting", "2s")], ..settings },
        Manners { greets: false, ..Manners::default() },
    )?;
    let mut client = Client::connect(bench.lab.client(), Family::V4.smtp())?;
    let reply = client.reply_within(SOON)?;
    assert_eq!(reply.code, 421, "{reply}");
    assert!(reply.lines[0].starts_with("4.4.2 "), "{reply}");
    Ok(())
}

#[test]
fn a_server_that_stops_reading_holds_the_client_back_and_then_ends_the_session() -> anyhow::Result<()> {
    let bench = Bench::with(
        |settings| {
            let clamd_keys = vec![("max-size", "25MiB")];
            Settings { timeouts: vec![("data-block", "4s")], clamd_keys, ..settings }
        },
        Manners { reads_text: false, ..Manners::default() },
    )?;
    let mut client = bench.up_to_data()?;
    let block = message::large("held back", 1 << 20, 5);
    let mut sent = 0;
    // Kernel buffers on the way take a few megabytes; beyond them the gateway must not read on.
    while sent < 64 << 20 && client.send(&block).is_ok() {
        sent += block.len();
    }
    assert!(sent < 40 << 20, "the gateway took {sent} octets that the server did not");
    let reply = client.reply_within(SOON)?;
    assert!(reply.code == 451 || reply.code == 421, "{reply}");
    Ok(())
}

#[test]
fn a_client_that_reads_nothing_is_not_buffered_for_without_end() -> anyhow::Result<()> {
    let bench = Bench::with(
        |settings| {
            let timeouts = vec![("command", "4s"), ("reply", "4s"), ("data-block", "4s"), ("session", "60s")];
            Settings { timeouts, ..settings }
        },
        Manners::default(),
    )?;
    let mut client = bench.greeted()?;
    let block = b"NOOP\r\n".repeat(50_000);
    let mut sent = 0;
    while sent < 64 << 20 && client.send(&block).is_ok() {
        sent += block.len();
    }
    assert!(sent < 64 << 20, "the gateway reads for ever");
    bench.server.wait_closed(SOON)?;
    // Others are not disturbed.
    let mut other = bench.up_to_data()?;
    other.send(&message::clean("beside it"))?;
    other.send(message::END)?;
    other.expect(250)?;
    Ok(())
}
