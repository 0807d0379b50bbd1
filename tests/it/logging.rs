//! What the log says and where it goes, as `log` asks for it.

use std::time::Duration;

use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::log_daemons::LogDaemons;
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::{message, wait};

use crate::bench::Bench;

/// `printf %s nobody@server.example | sha256sum | cut -c1-32`
const NOBODY: &str = "2ce46211730bded326862a5a11844eef";

const LONG: Duration = Duration::from_secs(20);

/// Mail to one recipient whom the server takes and one whom it refuses; returns the record of it.
fn record(bench: &Bench, log: Vec<(&'static str, &'static str)>) -> anyhow::Result<String> {
    bench.gateway.write_settings(&Settings { log, ..Settings::default() })?;
    let (reloaded, said) = bench.gateway.control_command("reload")?;
    anyhow::ensure!(reloaded, "{said}");
    let before = messages(&bench.gateway.log()).len();
    let mut client = bench.greeted()?;
    client.send(b"MAIL FROM:<sender@client.example>\r\n")?;
    client.expect(250)?;
    client.send(b"RCPT TO:<nobody@server.example>\r\n")?;
    client.expect(550)?;
    client.send(b"RCPT TO:<recipient@server.example>\r\nDATA\r\n")?;
    client.expect(250)?;
    client.expect(354)?;
    client.send(&message::clean("logged"))?;
    client.send(message::END)?;
    client.expect(250)?;
    wait::until(LONG, "record of the message", || {
        Ok(messages(&bench.gateway.log()).get(before).map(|line| (*line).to_owned()))
    })
}

fn messages(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("msg=message")).collect()
}

fn polite_but_to_nobody() -> Manners {
    Manners { refuses: Some("nobody".to_owned()), ..Manners::default() }
}

#[test]
fn names_and_addresses_are_written_as_asked_for() -> anyhow::Result<()> {
    let bench = Bench::with(|settings| settings, polite_but_to_nobody())?;
    let shows = |line: &str, wanted: &[&str], hidden: &[&str]| {
        for word in wanted {
            assert!(line.contains(word), "{word} is not in {line}");
        }
        for word in hidden {
            assert!(!line.contains(word), "{word} is in {line}");
        }
    };
    let line = record(&bench, vec![("addresses", "full")])?;
    shows(
        &line,
        &[
            "helo=client.example",
            "sender=sender@client.example",
            "recipients=recipient@server.example",
            " refused=nobody@server.example",
        ],
        &[],
    );
    let line = record(
        &bench,
        vec![("helo", "false"), ("mail-from", "[rejected]"), ("rcpt-to", "[rejected, hashed]")],
    )?;
    shows(&line, &[&format!(" refused={NOBODY}")], &["helo=", "sender=", "recipients=", "nobody"]);
    let line = record(
        &bench,
        vec![
            ("addresses", "full"),
            ("mail-from", "[accepted]"),
            ("rcpt-to", "[accepted]"),
            ("address-length", "9"),
        ],
    )?;
    shows(
        &line,
        &["sender=sender@cl...", "recipients=recipient..."],
        &["nobody", "sender@client", " refused="],
    );
    Ok(())
}

#[test]
fn an_envelope_that_comes_to_nothing_is_written_too() -> anyhow::Result<()> {
    let bench = Bench::with(
        |settings| Settings { log: vec![("addresses", "full")], ..settings },
        polite_but_to_nobody(),
    )?;
    let mut client = bench.greeted()?;
    client.send(b"MAIL FROM:<sender@client.example>\r\nRCPT TO:<nobody@server.example>\r\nQUIT\r\n")?;
    client.expect(250)?;
    client.expect(550)?;
    client.expect(221)?;
    let line = bench.gateway.wait_for_log("msg=envelope")?;
    assert!(line.contains("refused=nobody@server.example"), "{line}");
    assert!(line.contains("reply=\"550 5.1.1 no such user\""), "{line}");
    Ok(())
}

#[test]
fn syslog_and_the_journal_get_the_facility_and_no_more_than_the_level() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let daemons = LogDaemons::start(lab.directory())?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start_binary(daemons.program(), &lab, &Settings::default(), &[])?;
    let log_to = |target: &'static str, facility: &'static str, level: &'static str| {
        let log = vec![("target", target), ("facility", facility), ("level", level)];
        gateway.write_settings(&Settings { log, ..Settings::default() })?;
        let (reloaded, said) = gateway.control_command("reload")?;
        anyhow::ensure!(reloaded, "{said}");
        anyhow::Ok(())
    };
    let send = || -> anyhow::Result<()> {
        let (mut client, _) = gateway_tests::client::Client::greeted(lab.client(), Family::V4.smtp())?;
        client.send(b"QUIT\r\n")?;
        client.expect(221)?;
        Ok(())
    };
    // Facility 19 times 8, and severity 6 (RFC 3164 section 4.1.1).
    log_to("syslog", "local3", "info")?;
    send()?;
    let line = daemons.syslog("msg=session")?;
    assert!(line.starts_with("<158>"), "{line}");
    log_to("journald", "authpriv", "info")?;
    send()?;
    let entry = daemons.journal("MESSAGE=session")?;
    assert!(entry.contains("SYSLOG_FACILITY=10\n"), "{entry}");
    // At `warn` a session leaves no trace; a bad configuration does.
    log_to("syslog", "mail", "warn")?;
    send()?;
    server.wait_closed(LONG)?;
    gateway.write_config("no-such-key: 1\n")?;
    gateway.hang_up()?;
    let mut all = String::new();
    wait::until(LONG, "word of the bad configuration", || {
        all.push_str(&daemons.syslog("")?);
        all.push('\n');
        Ok(all.contains("no-such-key").then_some(()))
    })?;
    assert!(!all.contains("msg=session"), "{all}");
    Ok(())
}
