//! What the postmaster hears of sessions in the relay lane.

use anyhow::{Context as _, ensure};
use gateway::queue::Target;
use gateway_tests::client::Client;
use gateway_tests::gateway::Gateway;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message;

use super::{NOWHERE, contents, queue, settings};
use gateway_tests::gateway::Settings;

const TOLD: &str = "notice to the postmaster";

/// Waits until the log has told so often of a notice.
fn wait_for_notices(gateway: &Gateway, count: usize) -> anyhow::Result<()> {
    gateway_tests::wait::until(super::PATIENCE, "a notice", || {
        Ok((gateway.log().matches(TOLD).count() >= count).then_some(()))
    })
}

/// A session with these lines and the codes they are answered with.
fn session(lab: &Lab, lines: &[(&str, u16)]) -> anyhow::Result<()> {
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    for (line, code) in lines.iter().chain(&[("QUIT", 221)]) {
        client.send(format!("{line}\r\n").as_bytes())?;
        client.expect(*code)?;
    }
    Ok(())
}

#[test]
fn the_postmaster_hears_of_refusals_with_a_transcript_and_not_too_often() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let more = "delivery:\n  trouble-shooting: {notify-classes: [policy, protocol, data, software]}\n\
                filters:\n  mail: {reject: ['@bad\\.example$']}\n  on-match: refuse\n";
    let settings = Settings {
        inspect: vec![("bare-newline", "reject")],
        // Nobody listens there.
        clamd: Some("tcp:127.0.0.1:1".to_owned()),
        ..settings(&lab, more)
    };
    let mut gateway = Gateway::start(&lab, &settings)?;
    // Of mail to the postmaster himself he does not hear, whatever is wrong with it.
    let own = "MAIL FROM:<Double-Bounce@gateway.example>";
    session(&lab, &[("EHLO me", 250), (own, 250), ("RCPT TO:<not an address>", 501)])?;
    // One peer is worth one notice an hour.
    for _ in 0..3 {
        session(&lab, &[("EHLO me", 250), ("MAIL FROM:<spam@bad.example>", 550)])?;
    }
    wait_for_notices(&gateway, 1)?;
    let guess = [("EHLO me", 250), ("AUTH LOGIN", 502), ("c2VjcmV0", 500), ("NOOP", 250)];
    session(&lab, &guess)?;
    wait_for_notices(&gateway, 2)?;
    for (text, code) in [(&b"Subject: x\n\r\nbare\r\n"[..], 550), (b"Subject: x\r\n\r\nfine\r\n", 451)] {
        let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
        client.send(text)?;
        client.send(message::END)?;
        client.expect(code)?;
        client.send(b"QUIT\r\n")?;
        client.expect(221)?;
    }
    wait_for_notices(&gateway, 4)?;
    gateway.stop()?;
    assert_eq!(gateway.log().matches(TOLD).count(), 4, "{}", gateway.log());

    let found = contents(&queue(&lab))?;
    ensure!(found.len() == 4, "{} messages", found.len());
    for (envelope, text) in &found {
        assert_eq!(envelope.sender, "double-bounce@gateway.example");
        assert_eq!(envelope.target, Target::Relay(NOWHERE.to_owned()));
        let recipient = envelope.recipients.first().context("no recipient")?;
        assert_eq!(recipient.address, "postmaster@gateway.example");
        ensure!(recipient.notify.is_some_and(|notify| notify.is_never()), "{recipient:?}");
        ensure!(text.contains("\r\nSubject: Gateway SMTP server: errors from [192.0.2.2]\r\n"), "{text}");
        ensure!(text.contains("\r\nAuto-Submitted: auto-generated\r\n"), "{text}");
        ensure!(!text.contains("bare\r\n") && !text.contains("fine\r\n"), "the text is shown: {text}");
        ensure!(!text.contains("Double-Bounce"), "a notice about a notice: {text}");
    }
    let of = |class: &str| {
        let class = format!("of the class `{class}`");
        let mut texts = found.iter().map(|(_, text)| text).filter(|text| text.contains(&class));
        texts.next().cloned().context(class.clone())
    };
    let policy = of("policy")?;
    ensure!(policy.contains("\r\n In:  MAIL FROM:<spam@bad.example>\r\n Out: 550 5.7.1 "), "{policy}");
    let protocol = of("protocol")?;
    ensure!(protocol.contains("\r\n In:  AUTH LOGIN\r\n Out: 502 5.5.1 "), "{protocol}");
    ensure!(protocol.contains("\r\n In:  (not shown)\r\n Out: 500 "), "{protocol}");
    ensure!(!protocol.contains("c2VjcmV0"), "{protocol}");
    of("data")?;
    of("software")?;
    Ok(())
}
