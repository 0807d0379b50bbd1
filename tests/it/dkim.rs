//! Signatures on mail that leaves, as a verifier of others finds them in what servers have read.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::dkim::{self, Algorithm, Key};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::nsd::{Nsd, Zone};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::{message, wait};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(90);

/// Where a server listens that reads mail.
const PORT: u16 = 2_600;

fn server(port: u16, manners: Manners, lab: &Lab) -> anyhow::Result<Recorder> {
    Recorder::start(lab.server(), SocketAddr::new(Family::V4.second_server(), port), manners)
}

/// A gateway that relays what the lab's client sends to a server at that port; `dkim` are the entries of `delivery.dkim`,
/// `delivery` other keys.
fn settings(lab: &Lab, port: u16, dkim: &str, delivery: &str) -> Settings {
    Settings {
        // What comes over IPv6 is relayed as well, and not signed.
        lanes: vec![
            "{client: [192.0.2.0/24], lane: relay, target: relay-host, sign: true}",
            "{client: ['2001:db8:1::/64'], lane: relay, target: relay-host}",
        ],
        more: format!(
            "queue: {{directory: {}, min-free: 1MiB}}\nrelay: {{relay-host: '[{}]:{port}'}}\n\
             delivery:\n  dkim:\n{dkim}  schedule: {{minimal-backoff-time: 1s, maximal-backoff-time: 1s}}\n{delivery}",
            lab.directory().join("queue").display(),
            Family::V4.second_server(),
        ),
        ..Settings::default()
    }
}

fn entry(domain: &str, selector: &str, key: &Key, more: &str) -> String {
    format!("    - {{domain: {domain}, selector: {selector}, key: {}{more}}}\n", key.path.display())
}

/// A name server with the public halves of these keys, by the domains that sign.
fn names(lab: &Lab, zones: &[(&'static str, &[(&str, &Key)])]) -> anyhow::Result<Nsd> {
    let zones: Vec<_> = zones
        .iter()
        .map(|(name, keys)| {
            let records =
                keys.iter().map(|(selector, key)| format!("{selector}._domainkey {}\n", key.record));
            Zone { name, records: Some(records.collect::<String>().leak()) }
        })
        .collect();
    Nsd::here(lab.directory(), &zones)
}

/// Sends a message from the lab's client.
fn send(lab: &Lab, family: Family, recipient: &str, text: &[u8]) -> anyhow::Result<()> {
    let (mut client, _) = Client::greeted(lab.client(), family.smtp())?;
    for command in ["MAIL FROM:<sender@client.example> BODY=8BITMIME", &format!("RCPT TO:<{recipient}>")] {
        client.send(format!("{command}\r\n").as_bytes())?;
        client.expect(250)?;
    }
    client.send(b"DATA\r\n")?;
    client.expect(354)?;
    client.send(text)?;
    client.send(message::END)?;
    client.expect(250).map(drop)
}

/// The `number`th message that the server has read, without its stuffed dots.
fn read(server: &Recorder, gateway: &Gateway, number: usize) -> anyhow::Result<Vec<u8>> {
    let messages = wait::until(SOON, &format!("message {number}"), || {
        Ok(Some(server.messages()).filter(|messages| messages.len() >= number))
    })
    .with_context(|| gateway.daemon().log_tail())?;
    let stuffed = messages.get(number - 1).context("no message")?;
    let mut message = Vec::new();
    for line in stuffed.split_inclusive(|octet| *octet == b'\n') {
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    message.extend_from_slice(b"\r\n");
    Ok(message)
}

/// Octets above 127, blanks where they are dropped, stuffed dots, a line that is folded, and empty lines at the end.
fn text(subject: &str, from: &str) -> Vec<u8> {
    let long = "0123456789 abcdef ".repeat(100);
    format!(
        "Received: from elsewhere\r\n\tby nowhere; Sat, 21 Nov 2026 12:00:00 +0000\r\nFrom: \"S, x\"\r\n <{from}>\r\n\
         To: r@server.example\r\nSubject:   {subject}  with\t blanks \r\nX-Secret: inside\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         gr\u{fc}n  \r\n..\r\n...dots\r\n \t\r\n{long}\r\nbare \x0c feed\r\n\r\n\r\n \r\n"
    )
    .into_bytes()
}

#[test]
fn what_a_server_reads_holds_both_signatures_however_it_was_changed_on_the_way() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let rsa = Key::make(lab.directory(), "rsa", Algorithm::Rsa)?;
    let ed = Key::make(lab.directory(), "ed", Algorithm::Ed25519)?;
    let names = names(&lab, &[("mail.example", &[("r2026", &rsa), ("e2026", &ed)])])?;
    let both = |canonicalization: &str| {
        let more = format!(", canonicalization: {canonicalization}, expiry: 7d");
        entry("mail.example", "r2026", &rsa, &more) + &entry("mail.example", "e2026", &ed, &more)
    };
    // Addresses become those of another domain, which is the one that signs.
    let changes = "  compatibility:\n    generic-maps: ['inline:{@client.example=@mail.example}']\n    \
        header-checks: ['pcre:{{/^X-Secret:/ IGNORE}, {/^Subject: *(.*)/ REPLACE Subject: checked $1}}']\n    \
        body-checks: ['pcre:{{/^gr(.*)/ REPLACE very gr$1}}']\n";
    let ways = ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"];
    // A server that takes octets above 127, and one that does not.
    let manners = |keywords: &[&str]| Manners {
        keywords: keywords.iter().map(|word| (*word).to_owned()).collect(),
        ..Manners::default()
    };
    let (eight, seven) = (server(PORT, manners(&["8BITMIME"]), &lab)?, server(PORT + 1, manners(&[]), &lab)?);
    let mut gateway = Gateway::start(&lab, &settings(&lab, PORT, &both(ways[0]), changes))?;
    for (number, way) in ways.into_iter().enumerate() {
        for (server, port, eight_bit) in [(&eight, PORT, true), (&seven, PORT + 1, false)] {
            gateway.write_settings(&settings(&lab, port, &both(way), changes))?;
            let (reloaded, said) = gateway.control_command("reload")?;
            ensure!(reloaded, "{said}");
            let subject = format!("number {number}");
            send(&lab, Family::V4, "r@server.example", &text(&subject, "sender@client.example"))?;
            let message = read(server, &gateway, number + 1)?;
            let shown = String::from_utf8_lossy(&message).into_owned();
            let good = ["r2026._domainkey.mail.example pass", "e2026._domainkey.mail.example pass"];
            assert_eq!(dkim::verify(names.address(), &message)?, good, "{way}\n{shown}");
            ensure!(
                shown.starts_with("DKIM-Signature: v=1; a=rsa-sha256; s=r2026; d=mail.example; "),
                "{shown}"
            );
            ensure!(shown.contains("<sender@mail.example>") && shown.contains("checked number"), "{shown}");
            ensure!(!shown.contains("X-Secret") && shown.contains("very gr"), "{shown}");
            assert_eq!(message.is_ascii(), !eight_bit, "{shown}");
            ensure!(message.is_ascii() || shown.lines().all(|line| line.len() <= 998), "{shown}");
            // Whoever changes a word is found out.
            for (word, other) in [
                ("0123456789 abcdef", "0123456789 abcdeg"),
                ("To: r@", "To: x@"),
                ("From: ", "From: x@a.example\r\nFrom: "),
            ] {
                let forged = shown.replacen(word, other, 1);
                ensure!(forged != shown, "{word}");
                let said = dkim::verify(names.address(), forged.as_bytes())?;
                ensure!(said.iter().all(|line| line.ends_with(" fail")), "{word}: {said:?}\n{forged}");
            }
        }
    }
    gateway.stop()
}

#[test]
fn mail_that_merely_passes_is_not_signed_and_reports_of_the_gateway_are() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (own, other) = (
        Key::make(lab.directory(), "own", Algorithm::Rsa)?,
        Key::make(lab.directory(), "other", Algorithm::Ed25519)?,
    );
    let names = names(&lab, &[("client.example", &[("own", &own)]), ("isp.example", &[("any", &other)])])?;
    let keys = entry("client.example", "own", &own, ", client: [192.0.2.2]")
        + &entry("isp.example", "any", &other, ", domains: ['*']");
    let manners =
        Manners { refuses: Some("<nobody@".to_owned()), keywords: Vec::new(), ..Manners::default() };
    let server = server(PORT, manners, &lab)?;
    let mut gateway = Gateway::start(&lab, &settings(&lab, PORT, &keys, ""))?;
    let own_signature = ["own._domainkey.client.example pass"].as_slice();
    let default = ["any._domainkey.isp.example pass"].as_slice();
    for (number, (family, from, signatures)) in [
        (Family::V4, "sender@client.example", own_signature),
        (Family::V4, "sender@sub.client.example", own_signature),
        (Family::V4, "sender@elsewhere.example", default),
        (Family::V6, "sender@client.example", &[]),
        (Family::V6, "sender@elsewhere.example", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        send(&lab, family, "r@server.example", &text("passing", from))?;
        let message = read(&server, &gateway, number + 1)?;
        assert_eq!(dkim::verify(names.address(), &message)?, signatures, "{from} {family:?}");
    }
    // Nobody takes it, and its sender is told by MAILER-DAEMON@gateway.example.
    send(&lab, Family::V6, "nobody@server.example", &text("refused", "sender@client.example"))?;
    let report = read(&server, &gateway, 6)?;
    ensure!(String::from_utf8_lossy(&report).contains("multipart/report"), "not a report");
    assert_eq!(dkim::verify(names.address(), &report)?, default);
    // Mail that is not to be signed does not count.
    wait::until(SOON, "four signatures in the status", || {
        let (_, status) = gateway.control_command("status")?;
        Ok(status.lines().any(|line| line == "signatures 4 made").then_some(()))
    })?;
    gateway.stop()
}

#[test]
fn a_reload_reads_keys_again_and_one_that_cannot_sign_changes_nothing() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let old = Key::make(lab.directory(), "old", Algorithm::Rsa)?;
    let new = Key::make(lab.directory(), "new", Algorithm::Rsa)?;
    let names = names(&lab, &[("client.example", &[("s", &new)])])?;
    let server = server(PORT, Manners::default(), &lab)?;
    let mut gateway =
        Gateway::start(&lab, &settings(&lab, PORT, &entry("client.example", "s", &old, ""), ""))?;
    let verified = |gateway: &Gateway, number: usize| {
        send(&lab, Family::V4, "r@server.example", &text("rolling", "sender@client.example"))?;
        dkim::verify(names.address(), &read(&server, gateway, number)?)
    };
    assert_eq!(verified(&gateway, 1)?, ["s._domainkey.client.example fail"]);
    // Its owner and mode stay.
    fs::write(&old.path, fs::read(&new.path)?)?;
    let (reloaded, said) = gateway.control_command("reload")?;
    ensure!(reloaded, "{said}");
    assert_eq!(verified(&gateway, 2)?, ["s._domainkey.client.example pass"]);

    let path = old.path.display().to_string();
    for (mode, key, expected) in [
        (0o644, fs::read(&new.path)?, "is open to others (mode 0644)"),
        (0o640, b"nothing\n".to_vec(), "holds no private key in PEM form"),
    ] {
        fs::write(&old.path, key)?;
        fs::set_permissions(&old.path, fs::Permissions::from_mode(mode))?;
        let (reloaded, said) = gateway.control_command("reload")?;
        let (line, told) = (said.contains("gateway.yaml:"), said.contains(&format!("`{path}` {expected}")));
        ensure!(!reloaded && line && told && said.contains('^'), "{said}");
    }
    assert_eq!(verified(&gateway, 3)?, ["s._domainkey.client.example pass"]);
    gateway.stop()
}
