//! Addresses and headers in UTF-8 (RFC 6531) through the relay lane to servers that take them, and to one that does not.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::nsd::{Nsd, Zone};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::{message, wait};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(90);

const TEXT: &str = "From: J\u{fc}rgen <j\u{fc}rgen@client.example>\r\nTo: <b\u{fc}cher@server.example>\r\n\
    Subject: Gr\u{fc}\u{df}e \u{2713}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: 8bit\r\n\r\nsch\u{f6}n\r\n";

/// Sends a message with UTF-8 in addresses and header from the lab's client.
fn send(lab: &Lab) -> anyhow::Result<()> {
    let (mut client, keywords) = Client::greeted(lab.client(), Family::V4.smtp())?;
    ensure!(keywords.contains("SMTPUTF8"), "{keywords}");
    for command in [
        "MAIL FROM:<j\u{fc}rgen@client.example> BODY=8BITMIME SMTPUTF8",
        "RCPT TO:<b\u{fc}cher@server.example>",
        "RCPT TO:<plain@server.example>",
    ] {
        client.send(format!("{command}\r\n").as_bytes())?;
        client.expect(250)?;
    }
    client.send(b"DATA\r\n")?;
    client.expect(354)?;
    client.send(TEXT.trim_end().as_bytes())?;
    client.send(message::END)?;
    client.expect(250).map(drop)
}

fn first(server: &Recorder, gateway: &Gateway) -> anyhow::Result<(String, String)> {
    wait::until(SOON, "a message", || Ok((server.count() > 0).then_some(())))
        .with_context(|| gateway.daemon().log_tail())?;
    let connection = server.connections().into_iter().find(|one| !one.messages.is_empty()).context("gone")?;
    let text = connection.messages.first().cloned().context("no message")?;
    Ok((String::from_utf8(connection.received)?, String::from_utf8(text)?))
}

#[test]
fn mail_in_utf_8_goes_to_servers_that_take_it_and_comes_back_from_those_that_do_not() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let mail = "@ IN MX 10 mx\nmx IN A 198.51.100.3";
    let names = SocketAddr::new(Family::V4.second_server(), 53);
    let zones = [Zone { name: "client.example", records: Some(mail) }];
    let _names = Nsd::start(lab.server(), names, lab.directory(), &zones)?;
    let settings = Settings {
        lanes: vec!["{client: [192.0.2.0/24], lane: relay}"],
        more: format!(
            "queue: {{directory: {}, min-free: 1MiB}}\ndns: {{servers: ['{names}']}}\n",
            lab.directory().join("queue").display()
        ),
        log: vec![("addresses", "full")],
        ..Settings::default()
    };
    let with = |words: &[&str]| Manners {
        keywords: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Manners::default()
    };
    let mut gateway = Gateway::start(&lab, &settings)?;
    let able = Recorder::start(lab.server(), Family::V4.smtp(), with(&["SMTPUTF8", "8BITMIME"]))?;
    send(&lab)?;
    let (said, text) = first(&able, &gateway)?;
    let mail = said.lines().find(|line| line.starts_with("MAIL ")).context("no MAIL")?;
    ensure!(mail.starts_with("MAIL FROM:<j\u{fc}rgen@client.example>"), "{mail}");
    ensure!(mail.contains(" SMTPUTF8") && mail.contains(" BODY=8BITMIME"), "{mail}");
    ensure!(said.contains("RCPT TO:<b\u{fc}cher@server.example>"), "{said}");
    ensure!(text.contains("with UTF8SMTP id"), "{text}");
    ensure!(text.ends_with(TEXT.trim_end()), "header and body are as they were sent: {text}");
    gateway.stop()?;
    drop(able);

    // The sender's own server takes such mail, and gets the report.
    let home = Recorder::start(lab.server(), Family::V4.second_smtp(), with(&["SMTPUTF8", "8BITMIME"]))?;
    let unable = wait::until(SOON, "the server's port", || {
        Ok(Recorder::start(lab.server(), Family::V4.smtp(), with(&["8BITMIME"])).ok())
    })?;
    gateway = Gateway::start(&lab, &settings)?;
    send(&lab)?;
    let (said, report) = first(&home, &gateway)?;
    ensure!(said.contains("MAIL FROM:<> ") && said.contains(" SMTPUTF8"), "{said}");
    ensure!(said.contains("RCPT TO:<j\u{fc}rgen@client.example>"), "{said}");
    for part in [
        "message/global-delivery-status",
        "Status: 5.6.7",
        "SMTPUTF8 is required, but was not offered by host",
        "utf-8; b\u{fc}cher@server.example",
    ] {
        ensure!(report.contains(part), "{part}: {report}");
    }
    let asked = unable.connections();
    ensure!(!asked.is_empty() && asked.iter().all(|one| one.commands("MAIL") == 0), "{asked:?}");
    gateway.stop()
}
