//! Mail from a client through the relay lane and the scanners to servers as they run elsewhere: a Postfix that asks
//! for a password under TLS, and the mailboxes of a Dovecot.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::dovecot::{self, Dovecot};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::postfix::Postfix;
use gateway_tests::{message, wait};

use super::{PATIENCE, queue};

/// A gateway that scans what it is sent and relays it to `relay`.
fn settings(lab: &Lab, clamd: &Clamd, relay: &str, delivery: &str) -> Settings {
    Settings {
        lanes: vec!["{client: [192.0.2.0/24], lane: relay, target: relay-host}"],
        clamd: Some(clamd.address()),
        more: format!(
            "queue: {{directory: {}, min-free: 1MiB}}\nrelay: {{relay-host: '{relay}'}}\n\
             delivery:\n  schedule: {{minimal-backoff-time: 1s, maximal-backoff-time: 1s}}\n{delivery}",
            queue(lab).display()
        ),
        log: vec![("addresses", "full")],
        ..Settings::default()
    }
}

/// Sends a message from the client's namespace to these recipients; the reply to its end has this code.
fn send(lab: &Lab, recipients: &[&str], text: &[u8], code: u16) -> anyhow::Result<()> {
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    let mail = ["MAIL FROM:<sender@client.example>".to_owned()].into_iter();
    for command in mail.chain(recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>"))) {
        client.send(format!("{command}\r\n").as_bytes())?;
        client.expect(250)?;
    }
    client.send(b"DATA\r\n")?;
    client.expect(354)?;
    client.send(text)?;
    client.send(message::END)?;
    client.expect(code).map(drop)
}

fn record(gateway: &Gateway, recipient: &str, status: &str) -> anyhow::Result<String> {
    let (recipient, status) = (format!("to={recipient} "), format!("status={status}"));
    wait::until(PATIENCE, &format!("{recipient} {status}"), || {
        let log = gateway.log();
        let line = log.lines().find(|line| line.contains(&recipient) && line.contains(&status));
        Ok(line.map(ToOwned::to_owned))
    })
    .with_context(|| gateway.daemon().log_tail())
}

#[test]
fn mail_that_was_scanned_comes_into_a_mailbox_by_lmtp_and_a_virus_does_not() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let clamd = Clamd::start(&lab)?;
    let lmtp = SocketAddr::new(Family::V4.second_server(), 24);
    let dovecot = Dovecot::start(lab.server(), lmtp, lab.directory())?;
    let relay = format!("lmtp:inet:[{}]:24", lmtp.ip());
    let mut gateway = Gateway::start(&lab, &settings(&lab, &clamd, &relay, ""))?;
    send(&lab, &[dovecot::USER], &message::infected("a virus"), 550)?;
    send(&lab, &[dovecot::USER, "nobody@server.example"], &message::clean("for a mailbox"), 250)?;
    let found = dovecot.wait_for("for a mailbox")?;
    ensure!(found.contains("Return-Path: <sender@client.example>"), "{found}");
    ensure!(found.contains("by gateway.example with ESMTP id "), "{found}");
    let sent = record(&gateway, dovecot::USER, "sent")?;
    ensure!(sent.contains("dsn=2.0.0") && sent.contains(&format!("relay={0}[{0}]:24 ", lmtp.ip())), "{sent}");
    // One recipient's mailbox is nobody else's: he is returned to the sender alone.
    let bounced = record(&gateway, "nobody@server.example", "bounced")?;
    ensure!(bounced.contains("dsn=5.1.1") && bounced.contains("in reply to RCPT TO command"), "{bounced}");
    gateway.wait_for_log("report on a message")?;
    gateway.stop()?;
    assert_eq!(dovecot.messages()?.len(), 1, "once, and no virus");
    Ok(())
}

#[test]
fn a_postfix_takes_mail_with_each_mechanism_that_dovecot_knows() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let clamd = Clamd::start(&lab)?;
    let dovecot = Dovecot::start(lab.server(), SocketAddr::new(Family::V4.server(), 24), lab.directory())?;
    let server = SocketAddr::new(Family::V4.second_server(), 587);
    let main = format!(
        "smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\n\
         smtpd_tls_auth_only = yes\nsmtpd_sasl_security_options = noanonymous\n\
         smtpd_relay_restrictions = permit_sasl_authenticated, reject\nsmtpd_recipient_restrictions =\n",
        dovecot.auth().display()
    );
    let postfix = Postfix::start_with(lab.server(), server, lab.directory(), &main)?;
    let relay = format!("[{}]:587", server.ip());
    let with = |mechanism: &str, password: &str| {
        let delivery = format!(
            "  sasl:\n    sasl-auth-enable: true\n    sasl-password-maps: ['inline:{{{relay}={}:{password}}}']\n\
             \x20   sasl-mechanism-filter: [{mechanism}]\n\
             \x20 starttls: {{tls-security-level: encrypt, sasl-tls-security-options: [noanonymous]}}\n",
            dovecot::USER
        );
        settings(&lab, &clamd, &relay, &delivery)
    };
    let mut gateway = Gateway::start(&lab, &with("scram-sha-256", "wrong"))?;
    send(&lab, &["wrong@elsewhere.example"], &message::clean("with a wrong password"), 250)?;
    let line = record(&gateway, "wrong@elsewhere.example", "deferred")?;
    ensure!(line.contains("535 5.7.8") && line.contains("SASL authentication failed"), "{line}");
    for mechanism in ["plain", "login", "cram-md5", "scram-sha-256"] {
        gateway.write_settings(&with(mechanism, dovecot::PASSWORD))?;
        let (reloaded, said) = gateway.control_command("reload")?;
        ensure!(reloaded, "{said}");
        let recipient = format!("{mechanism}@elsewhere.example");
        send(&lab, &[&recipient], &message::clean(mechanism), 250)?;
        record(&gateway, &recipient, "sent")?;
        let method = format!("sasl_method={}, sasl_username={}", mechanism.to_uppercase(), dovecot::USER);
        wait::until(Duration::from_secs(60), &method, || Ok(postfix.log().contains(&method).then_some(())))
            .with_context(|| postfix.log())?;
    }
    // What was refused for the password goes with the right one.
    record(&gateway, "wrong@elsewhere.example", "sent")?;
    gateway.stop()
}
